"""Stochastic gradient descent on photographs, which fine-tuning, classification and distillation share."""
