"""The trained detector: scores, suppression, box regression, calibration; model files; many images in a stream."""
