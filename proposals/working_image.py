"""The image size at which boxes are proposed: large photographs are scaled down, small ones are not changed."""

from __future__ import annotations

from math import sqrt

import cv2
import numpy as np

from ..data.arrays import Array
from ..data.boxes import scale

WORKING_PIXELS = 500 * 500
"""Area of the working image. The paper scales to a width of 500; an area also suits tall and very long images."""

SMALLEST_SIDE = 40
"""Boxes with a side under the square root of the working area divided by this are dropped: under
10.8 pixels in a photograph of 500 x 375 (the paper: 20), under 2.2 in one of 100 x 80."""


def working_image(image: Array, pixels: int = WORKING_PIXELS) -> Array:
    """Scale the image (H, W, 3) down to an area of ``pixels``; a smaller image is returned unchanged."""
    height, width = image.shape[:2]
    factor = sqrt(pixels / (height * width))
    if factor >= 1:
        return image
    # Neither side falls below 1; the other is then limited to the area.
    size = [min(pixels, max(1, round(side * factor))) for side in (width, height)]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def large_enough(boxes: Array, height: int, width: int) -> Array:
    """Drop boxes whose sides are too short for an image of ``height`` x ``width`` pixels (see SMALLEST_SIDE)."""
    least = sqrt(height * width) / SMALLEST_SIDE
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[(sides[:, 0] >= min(least, width)) & (sides[:, 1] >= min(least, height))]


def to_original(boxes: Array, working: Array, image: Array) -> Array:
    """Convert boxes of the working image to pixels of the original, float32 (N, 4)."""
    height, width = image.shape[:2]
    scaled = scale(boxes.astype(np.float64), height / working.shape[0], width / working.shape[1])
    return np.asarray(scaled, np.float32)
