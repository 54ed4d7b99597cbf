"""Linear models: SVMs, their solver on inner products, one-versus-rest classification, ridge regression of boxes."""
