"""SPP classification network for whole photographs, and linear SVMs on its features."""
