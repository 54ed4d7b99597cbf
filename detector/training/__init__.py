"""From labelled photographs to a detector: cached maps, sampling, fine-tuning, hard negatives, box regressors."""
