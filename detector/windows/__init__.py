"""Features of windows: image scales, projection onto feature maps, pooling; R-CNN's warped windows."""
