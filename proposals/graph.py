"""Graph segmentation of Felzenszwalb and Huttenlocher (IJCV 2004), compiled.

Pixels are joined along edges to their neighbours, lightest first; two components
become one when the edge between them is no heavier than the heaviest edge inside
either plus ``k`` over its size. The order of the edges is all that costs time, so
weights are whole numbers, sorted by counting, and one sorted list serves every ``k``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

STEPS_PER_UNIT = 16
"""Edge weights are Euclidean colour distances rounded to 1/16."""

MAX_WEIGHT = 511 * STEPS_PER_UNIT
"""Above the distance of any two colours with three channels of 0 to 255 (442)."""


@njit(cache=True, nogil=True)
def sort_edges(planes: Array, directions: int) -> tuple[Array, Array]:
    """The edges of the pixel grid, lightest first.

    Parameters
    ----------
    planes : float32 array (C, H, W)
        The smoothed image, one plane a channel, values 0 to 255.
    directions : int
        2: neighbours right and below (4-connected); 4: also the two below on the
        diagonals (8-connected).

    Returns
    -------
    edges : int32 array (E,)
        ``directions * pixel + direction``. Equal weights stand in raster order.
    starts : int64 array (MAX_WEIGHT + 2,)
        The edges of weight ``w`` are ``edges[starts[w]:starts[w + 1]]``.
    """
    channels, height, width = planes.shape
    weights = np.empty((height, directions, width), np.int32)
    starts = np.zeros(MAX_WEIGHT + 2, np.int64)
    squares = np.empty(width, np.float32)
    for y in range(height):
        for d in range(directions):
            # Right, below, below right, below left: dx is 1, 0, 1, -1.
            dx = 1 if d % 2 == 0 else (0 if d == 1 else -1)
            dy = 0 if d == 0 else 1
            if y + dy >= height:
                continue
            first = 1 if dx < 0 else 0
            count = width - abs(dx)
            squares[:] = 0
            for c in range(channels):
                here = planes[c, y, first : first + count]
                there = planes[c, y + dy, first + dx : first + dx + count]
                for i in range(count):
                    difference = here[i] - there[i]
                    squares[i] += difference * difference
            row = weights[y, d, first : first + count]
            for i in range(count):
                row[i] = np.int32(np.sqrt(squares[i]) * np.float32(STEPS_PER_UNIT) + np.float32(0.5))
            for i in range(count):
                starts[row[i] + 1] += 1
    for w in range(MAX_WEIGHT + 1):
        starts[w + 1] += starts[w]

    edges = np.empty(starts[MAX_WEIGHT + 1], np.int32)
    place = starts.copy()
    for y in range(height):
        for d in range(directions):
            if d > 0 and y == height - 1:
                continue
            first = 1 if d == 3 else 0
            last = width - 1 if d % 2 == 0 else width
            for x in range(first, last):
                w = weights[y, d, x]
                edges[place[w]] = (y * width + x) * directions + d
                place[w] += 1
    return edges, starts


@njit(cache=True, nogil=True)
def _root(parent: Array, node: int) -> int:
    """The root of a node; every second node on the way is lifted to its grandparent."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True, nogil=True)
def segment(
    edges: Array, starts: Array, height: int, width: int, directions: int, k: float, min_size: int
) -> tuple[Array, int]:
    """Segments of an image whose edges are sorted.

    Parameters
    ----------
    edges, starts
        From :func:`sort_edges`.
    height, width, directions : int
        As there.
    k : float
        Scale of observation: larger values give larger segments.
    min_size : int
        Afterwards, segments of fewer pixels join the neighbour across their lightest edge.

    Returns
    -------
    labels : int32 array (H, W)
        Segments numbered from 0 in raster order of their first pixels.
    count : int
        How many there are.
    """
    pixels = height * width
    parent = np.arange(pixels).astype(np.int32)
    size = np.ones(pixels, np.int32)
    # The heaviest edge a component accepts; it stands at the root.
    limit = np.full(pixels, k * STEPS_PER_UNIT, np.float32)
    offset = np.array([1, width, width + 1, width - 1])
    rest = np.empty(edges.size, np.int32)
    left = 0
    for w in range(starts.size - 1):
        for e in range(starts[w], starts[w + 1]):
            p = edges[e] // directions
            a = _root(parent, p)
            b = _root(parent, p + offset[edges[e] % directions])
            if a == b:
                continue
            if w <= limit[a] and w <= limit[b]:
                if a > b:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                limit[a] = w + k * STEPS_PER_UNIT / size[a]
            else:
                rest[left] = edges[e]
                left += 1
    for e in range(left):
        p = rest[e] // directions
        a = _root(parent, p)
        b = _root(parent, p + offset[rest[e] % directions])
        if a != b and (size[a] < min_size or size[b] < min_size):
            if a > b:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]

    # A root is the first pixel of its component, so one sweep in raster order numbers them all.
    labels = np.empty(pixels, np.int32)
    count = 0
    for p in range(pixels):
        if parent[p] == p:
            labels[p] = count
            count += 1
        else:
            labels[p] = labels[parent[p]]
    return labels.reshape(height, width), count
