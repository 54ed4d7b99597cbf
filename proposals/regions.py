"""Descriptors of segments in selective search: size, box, colour and texture histograms, neighbours.

Uijlings et al., "Selective Search for Object Recognition" (IJCV 2013), section 3.2: 25
colour bins for each channel, and ten bins of gradient magnitude for each of eight directions
and each channel. In the paper every pixel counts in all eight directions; here it counts only
in the direction of its gradient, which is an eighth of the work and separates segments as well.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..data.arrays import Array
from ..data.compiled import compiled

COLOUR_BINS = 25
DIRECTIONS = 8
STEEPNESS_BINS = 10
TEXTURE_BINS = DIRECTIONS * STEEPNESS_BINS

STEEPNESS_STEP = 6.4
"""Width of a gradient bin in grey levels per pixel; the last bin includes all steeper gradients."""

_COLOUR_BIN = (np.arange(256) * COLOUR_BINS // 256).astype(np.uint8)
_TAN_EIGHTH = np.float32(np.tan(np.pi / 8))
_SCHARR_SUM = 32


def colour_bins(image: Array) -> Array:
    """Colour bin, 0 to 24, of every pixel and channel; uint8 like ``image`` (H, W, C)."""
    return np.asarray(cv2.LUT(image, _COLOUR_BIN)).reshape(image.shape)


def texture_bins(image: Array) -> Array:
    """Texture bin, ``10 * direction + steepness``, of every pixel and channel; uint8 like ``image`` (H, W, C).

    Direction 0 is brighter to the right, direction 2 brighter below; a direction covers
    22.5 degrees to both sides.
    """
    dx = cv2.Scharr(image, cv2.CV_16S, 1, 0)
    dy = cv2.Scharr(image, cv2.CV_16S, 0, 1)
    return _texture_bins(dx.ravel(), dy.ravel()).reshape(image.shape)


@compiled(nogil=True)
def _texture_bins(dx: Array, dy: Array) -> Array:
    bins = np.empty(dx.size, np.uint8)
    for i in range(dx.size):
        # Select numbers instead of branching: the compiler can then use vector instructions.
        x = np.float32(dx[i])
        y = np.float32(dy[i])
        level = 0 if x >= 0 else 4
        upright = 2 if y >= 0 else 6
        diagonal = (1 if x >= 0 else 3) if y >= 0 else (7 if x >= 0 else 5)
        between = upright if abs(x) <= _TAN_EIGHTH * abs(y) else diagonal
        direction = level if abs(y) <= _TAN_EIGHTH * abs(x) else between
        steepness = np.int32(np.sqrt(x * x + y * y) * np.float32(1 / (_SCHARR_SUM * STEEPNESS_STEP)))
        bins[i] = np.uint8(STEEPNESS_BINS * direction + min(steepness, STEEPNESS_BINS - 1))
    return bins


@compiled(nogil=True)
def histograms(labels: Array, count: int, colours: Array, textures: Array) -> Array:
    """Count the histograms of every region.

    Parameters
    ----------
    labels : int32 array (H, W)
        Region of each pixel, 0 to ``count - 1``.
    count : int
    colours, textures : uint8 arrays (H, W, C)
        From :func:`colour_bins` and :func:`texture_bins`.

    Returns
    -------
    int32 array (count, 105 C)
        The 25 colour bins of each channel, then the 80 texture bins of each channel.
    """
    height, width, channels = colours.shape
    split = COLOUR_BINS * channels
    counts = np.zeros((count, split + TEXTURE_BINS * channels), np.int32)
    for y in range(height):
        for x in range(width):
            row = counts[labels[y, x]]
            for c in range(channels):
                row[COLOUR_BINS * c + colours[y, x, c]] += 1
                row[split + TEXTURE_BINS * c + textures[y, x, c]] += 1
    return counts


@compiled(nogil=True)
def sizes_and_boxes(labels: Array, count: int) -> tuple[Array, Array]:
    """Number of pixels, int64 (count,), and half-open boxes x1, y1, x2, y2, int32 (count, 4), of every region."""
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


@compiled(nogil=True)
def neighbours(labels: Array, count: int) -> Array:
    """Pairs of regions that share a 2 x 2 square of pixels, int32 (P, 2), smaller label first, sorted."""
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
            if a != b or a != c or a != d:
                touch[min(a, b), max(a, b)] = True
                touch[min(a, c), max(a, c)] = True
                touch[min(a, d), max(a, d)] = True
                touch[min(b, c), max(b, c)] = True  # the next squares contain the other two pairs
    for a in range(count):
        touch[a, a] = False
    pairs = np.empty((touch.sum(), 2), np.int32)
    found = 0
    for a in range(count):
        row = touch[a]
        for b in range(a + 1, count):
            if row[b]:
                pairs[found, 0] = a
                pairs[found, 1] = b
                found += 1
    return pairs
