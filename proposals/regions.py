"""What selective search knows about a segment: size, box, colour and texture histograms, neighbours.

Uijlings et al., "Selective Search for Object Recognition" (IJCV 2013), section 3.2:
25 colour bins for each channel; Gaussian derivatives in eight directions, ten bins
for each direction and channel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

COLOUR_BINS = 25
DIRECTIONS = 8
TEXTURE_BINS = 10
TEXTURE_STEP = 6.4
"""Width of a texture bin in grey levels a pixel; the last bin takes all that is steeper."""

TAN_EIGHTH = 0.41421356
"""tan(pi / 8): where one of the eight directions ends and the next begins."""


def histogram_size(channels: int) -> tuple[int, int]:
    """Number of colour columns and of all columns of the histograms of an image with so many channels."""
    return COLOUR_BINS * channels, (COLOUR_BINS + DIRECTIONS * TEXTURE_BINS) * channels


def pixel_bins(image: Array) -> Array:
    """The histogram columns that each pixel adds to.

    Parameters
    ----------
    image : uint8 array (H, W, C)

    Returns
    -------
    uint16 array (H, W, 2 C)
        For every channel a colour column, then for every channel a texture column:
        the direction of the gradient (of eight) and its steepness (of ten).
    """
    # Scharr's weights add up to 32; OpenCV drops a last axis of one channel.
    dx = cv2.Scharr(image, cv2.CV_16S, 1, 0).reshape(image.shape)
    dy = cv2.Scharr(image, cv2.CV_16S, 0, 1).reshape(image.shape)
    return _pixel_bins(image, dx, dy)


@njit(cache=True, nogil=True)
def _pixel_bins(image: Array, dx: Array, dy: Array) -> Array:
    height, width, channels = image.shape
    bins = np.empty((height, width, 2 * channels), np.uint16)
    step = np.float32(1 / (32 * TEXTURE_STEP))
    tangent = np.float32(TAN_EIGHTH)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                bins[y, x, c] = COLOUR_BINS * c + np.int32(image[y, x, c]) * COLOUR_BINS // 256
                right = np.float32(dx[y, x, c])
                down = np.float32(dy[y, x, c])
                across = abs(right)
                along = abs(down)
                if along <= tangent * across:
                    direction = 0 if right >= 0 else 4
                elif across <= tangent * along:
                    direction = 2 if down >= 0 else 6
                elif right >= 0:
                    direction = 1 if down >= 0 else 7
                else:
                    direction = 3 if down >= 0 else 5
                steep = np.int32(np.sqrt(right * right + down * down) * step)
                column = direction * TEXTURE_BINS + min(steep, TEXTURE_BINS - 1)
                bins[y, x, channels + c] = COLOUR_BINS * channels + DIRECTIONS * TEXTURE_BINS * c + column
    return bins


@njit(cache=True, nogil=True)
def count_bins(labels: Array, count: int, bins: Array, total: int) -> Array:
    """Histogram counts of every region.

    Parameters
    ----------
    labels : int32 array (H, W)
        Region of each pixel.
    count : int
        Number of regions.
    bins : uint16 array (H, W, B)
        The bins each pixel falls into, as columns of the result.
    total : int
        Number of columns.

    Returns
    -------
    int32 array (count, total)
    """
    height, width, each = bins.shape
    counts = np.zeros((count, total), np.int32)
    for y in range(height):
        for x in range(width):
            row = counts[labels[y, x]]
            for b in range(each):
                row[bins[y, x, b]] += 1
    return counts


@njit(cache=True, nogil=True)
def region_boxes(labels: Array, count: int) -> tuple[Array, Array]:
    """Pixel counts, int64 (count,), and half-open boxes x1, y1, x2, y2, int32 (count, 4), of every region."""
    height, width = labels.shape
    sizes = np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int32)
    boxes[:, 0] = width
    boxes[:, 1] = height
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            box = boxes[label]
            sizes[label] += 1
            box[0] = min(box[0], x)
            box[1] = min(box[1], y)
            box[2] = max(box[2], x + 1)
            box[3] = max(box[3], y + 1)
    return sizes, boxes


@njit(cache=True, nogil=True)
def neighbours(labels: Array, count: int) -> Array:
    """Pairs of regions that share an edge or a corner of a pixel, int32 (P, 2), smaller label first, sorted."""
    height, width = labels.shape
    touch = np.zeros((count, count), np.bool_)
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width):
            right = min(x + 1, width - 1)
            a = labels[y, x]
            b = labels[y, right]
            c = labels[below, x]
            d = labels[below, right]
            if a != b or a != c or a != d or b != c:
                touch[a, b] = True
                touch[a, c] = True
                touch[a, d] = True
                touch[b, c] = True
    found = 0
    for a in range(count):
        for b in range(a + 1, count):
            if touch[a, b] or touch[b, a]:
                found += 1
    pairs = np.empty((found, 2), np.int32)
    found = 0
    for a in range(count):
        for b in range(a + 1, count):
            if touch[a, b] or touch[b, a]:
                pairs[found, 0] = a
                pairs[found, 1] = b
                found += 1
    return pairs
