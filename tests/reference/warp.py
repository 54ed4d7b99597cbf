"""Reference of R-CNN's warping of one window: pixel by pixel."""

from math import floor

import numpy as np


def rounded(value):
    return floor(value + 0.5)


def frame(window, crop, context):
    """Window with its context in whole pixels; it may extend beyond the image."""
    edges = []
    for low, high in ((window[0], window[2]), (window[1], window[3])):
        centre, half = (low + high) / 2, (high - low) / 2 * crop / (crop - 2 * context)
        start, end = rounded(centre - half), rounded(centre + half)
        edges.append((start, max(end, start + 1)))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def stretched(line, size):
    """Sample values (n, ...) at ``size`` evenly spaced places, linear between the centres of neighbours."""
    values = np.zeros((size, *line.shape[1:]))
    for place in range(size):
        at = (place + 0.5) * len(line) / size - 0.5
        at = min(max(at, 0), len(line) - 1)
        left = floor(at)
        right = min(left + 1, len(line) - 1)
        values[place] = line[left] * (left + 1 - at) + line[right] * (at - left)
    return values


def warp(image, window, crop, context):
    """Warp a window of a normalised image (H, W, 3) to a square (crop, crop, 3); 0 outside the image."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = frame(window, crop, context)
    square = np.zeros((crop, crop, 3))
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if right <= left or bottom <= top:
        return square
    scale_x, scale_y = crop / (x1 - x0), crop / (y1 - y0)
    into_x, into_y = min(rounded((left - x0) * scale_x), crop - 1), min(rounded((top - y0) * scale_y), crop - 1)
    size_x = min(max(rounded((right - left) * scale_x), 1), crop - into_x)
    size_y = min(max(rounded((bottom - top) * scale_y), 1), crop - into_y)
    part = stretched(image[top:bottom, left:right].astype(float), size_y)
    part = stretched(part.swapaxes(0, 1), size_x).swapaxes(0, 1)
    square[into_y : into_y + size_y, into_x : into_x + size_x] = part
    return square
