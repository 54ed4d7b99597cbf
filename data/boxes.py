"""Operations on boxes, and the only place that knows VOC's coordinate convention.

A box is ``x1, y1, x2, y2`` in pixels, 0-based and half-open: it covers the pixels
``x1 <= x < x2``, so its width is ``x2 - x1`` and an image of width ``w`` is the box
``0, 0, w, h``. Sets of boxes are float arrays of shape (N, 4).

VOC's files hold 1-based inclusive corners: the same pixels are ``x1 + 1 .. x2``.
Areas of half-open boxes equal the "+1" areas of the VOC development kit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array

#: Areas in square pixels below which COCO calls objects small, and medium.
SMALL, MEDIUM = 32**2, 96**2


def as_boxes(boxes: ArrayLike, dtype: Any = np.float32) -> Array:
    """Convert boxes to a contiguous (N, 4) array; an empty list becomes (0, 4).

    Raises
    ------
    ValueError
        When the shape is not (N, 4).
    """
    array = np.ascontiguousarray(boxes, dtype=dtype)
    if array.size == 0:
        return np.zeros((0, 4), dtype)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), not {array.shape}")
    return array


def from_voc(corners: ArrayLike, dtype: Any = np.float32) -> Array:
    """Convert VOC's 1-based inclusive corners (N, 4) to half-open boxes: x1, y1 decrease by 1, x2, y2 stay."""
    return as_boxes(corners, dtype) - np.array([1, 1, 0, 0], dtype)


def to_voc(boxes: ArrayLike, dtype: Any = np.float32) -> Array:
    """Convert half-open boxes (N, 4) to VOC's 1-based inclusive corners; the inverse of :func:`from_voc`."""
    return as_boxes(boxes, dtype) + np.array([1, 1, 0, 0], dtype)


def area(boxes: Array) -> Array:
    """Areas (N,) in square pixels; an inverted box has area 0."""
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), shape (N, M).

    Two boxes without area have an IoU of 0, not 0/0.
    """
    overlap = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    intersection = np.maximum(overlap, 0).prod(axis=2)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clip(boxes: Array, height: float, width: float) -> Array:
    """Clip boxes to an image of ``height`` x ``width`` pixels."""
    limit = np.array([width, height, width, height], boxes.dtype)
    return np.clip(boxes, 0, limit)


def scale(boxes: Array, factor_y: float, factor_x: float) -> Array:
    """Scale boxes with their image: y by ``factor_y``, x by ``factor_x``."""
    return boxes * np.array([factor_x, factor_y, factor_x, factor_y], boxes.dtype)


def flip(boxes: Array, width: float) -> Array:
    """Mirror boxes left to right, with their image."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped


def unique(boxes: Array) -> Array:
    """Remove exact duplicates; the order is that of first appearance."""
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)]


def encode(windows: Array, targets: Array) -> Array:
    """Compute R-CNN's regression targets (N, 4), which map each window to its target box.

    ``dx, dy`` are centre shifts in units of the window size, ``dw, dh`` logarithms of
    size ratios (Girshick et al., CVPR 2014, appendix C).
    """
    size = windows[:, 2:] - windows[:, :2]
    target_size = targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + 0.5 * target_size) - (windows[:, :2] + 0.5 * size)
    return np.concatenate([shift / size, np.log(target_size / size)], axis=1)


def decode(windows: Array, deltas: Array) -> Array:
    """Apply regression outputs (N, 4) to windows; returns boxes (N, 4). The inverse of :func:`encode`."""
    size = windows[:, 2:] - windows[:, :2]
    centre = windows[:, :2] + 0.5 * size + deltas[:, :2] * size
    # exp(4) is 55 times the window: a larger prediction is noise, and float32 would overflow.
    half = 0.5 * size * np.exp(np.minimum(deltas[:, 2:], 4.0))
    return np.concatenate([centre - half, centre + half], axis=1)
