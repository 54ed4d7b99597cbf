"""From windows of an image to their features: image scales, projection onto maps, pooling; R-CNN's warped windows."""
