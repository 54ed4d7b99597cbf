"""The trained detector: scores, non-maximum suppression, box regression, calibration, model files, image streams."""
