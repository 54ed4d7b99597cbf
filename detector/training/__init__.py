"""Training of a detector: cached maps, sampling, fine-tuning, hard negatives, box regressors."""
