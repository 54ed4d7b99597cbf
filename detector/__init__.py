"""The SPP-net detector: features, training, detection."""
