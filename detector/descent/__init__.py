"""Stochastic gradient descent on images, shared by fine-tuning, classification and distillation."""
