"""Read and write images, labels and boxes."""
