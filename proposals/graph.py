"""Graph segmentation of Felzenszwalb and Huttenlocher (IJCV 2004), compiled.

Edges connect each pixel to its eight neighbours and are processed from light to heavy. An
edge merges two components if it is not heavier than the heaviest edge inside either one
plus ``k`` over its size. Design:

- Weights are integers, so a counting sort works, and one sorted list serves every ``k``.
- The heaviest edge of a triangle is left out: the other two connect its ends first. Of the
  four edges of a pixel 1.6 remain. The segments are the same, except in the rare case that
  an edge of the lighter path was refused.
- All comparisons use integers, so nothing depends on rounding.
"""

from __future__ import annotations

import numpy as np

from ..data.arrays import Array
from ..data.compiled import compiled

STEPS = 16
"""Weights are Euclidean colour distances in steps of 1/16."""

MAX_WEIGHT = 442 * STEPS
"""The largest distance of two colours of three channels from 0 to 255."""

# An edge of pixel (y, x) connects two corners of the square between (y, x) and (y + 1, x + 1).
RIGHT, DOWN, FALL, RISE = 0, 1, 2, 3  # (y, x)-(y, x+1), (y, x)-(y+1, x), (y, x)-(y+1, x+1), (y, x+1)-(y+1, x)
_ABSENT = np.int32(4 * (MAX_WEIGHT + 1))


@compiled(nogil=True)
def sort_edges(planes: Array) -> tuple[Array, Array]:
    """Return the edges that a segmentation needs, lightest first.

    Parameters
    ----------
    planes : float32 array (C, H, W)
        The smoothed image, one plane for each channel, values 0 to 255, at most three channels.

    Returns
    -------
    edges : int32 array (E,)
        ``4 * pixel + direction``, directions RIGHT, DOWN, FALL, RISE. Edges of the same weight
        are ordered by row, direction, column.
    starts : int64 array (MAX_WEIGHT + 2,)
        The edges of weight ``w`` are ``edges[starts[w]:starts[w + 1]]``.
    """
    _, height, width = planes.shape
    keys = _keys(planes)
    dropped = _heaviest_of_triangles(keys)
    edges = np.empty(4 * height * width, np.int32)
    weights = np.empty(4 * height * width, np.uint16)
    count = 0
    for y in range(height):
        for d in range(4):
            for x in range(width):
                # Always write; advancing ``count`` keeps the edge. A branch would be mispredicted half of the time.
                edges[count] = 4 * (y * width + x) + d
                weights[count] = keys[d, y, x] >> 2
                count += 1 - dropped[d, y, x]

    starts = np.zeros(MAX_WEIGHT + 2, np.int64)
    for i in range(count):
        starts[weights[i] + 1] += 1
    for w in range(MAX_WEIGHT + 1):
        starts[w + 1] += starts[w]
    place = starts.copy()
    in_order = np.empty(count, np.int32)
    for i in range(count):
        w = weights[i]
        in_order[place[w]] = edges[i]
        place[w] += 1
    return in_order, starts


@compiled(nogil=True)
def _keys(planes: Array) -> Array:
    """``4 * weight + direction`` of every edge, int32 (4, H, W); _ABSENT beyond the border."""
    channels, height, width = planes.shape
    keys = np.full((4, height, width), _ABSENT, np.int32)
    squares = np.empty(width, np.float32)
    for d in range(4):
        down = 0 if d == RIGHT else 1
        from_x = 1 if d == RISE else 0
        to_x = 1 if d in (RIGHT, FALL) else 0
        count = width if d == DOWN else width - 1
        for y in range(height - down):
            for i in range(count):
                squares[i] = 0
            for c in range(channels):
                here = planes[c, y, from_x : from_x + count]
                there = planes[c, y + down, to_x : to_x + count]
                for i in range(count):
                    difference = here[i] - there[i]
                    squares[i] += difference * difference
            row = keys[d, y]
            for i in range(count):
                row[i] = np.int32(np.sqrt(squares[i]) * np.float32(STEPS) + np.float32(0.5)) * 4 + d
    return keys


@compiled(nogil=True)
def _heaviest_of_triangles(keys: Array) -> Array:
    """Which edges have the largest key of a triangle, or leave the image, bool (4, H, W).

    The four corners of a square form four triangles. No key appears twice in a triangle,
    so the remaining edges connect all pixels.
    """
    _, height, width = keys.shape
    dropped = keys == _ABSENT
    last = width - 1
    for y in range(height - 1):
        top, bottom = keys[RIGHT, y, :last], keys[RIGHT, y + 1, :last]
        left, right = keys[DOWN, y, :last], keys[DOWN, y, 1:]
        fall, rise = keys[FALL, y, :last], keys[RISE, y, :last]
        drop_top, drop_bottom = dropped[RIGHT, y, :last], dropped[RIGHT, y + 1, :last]
        drop_left, drop_right = dropped[DOWN, y, :last], dropped[DOWN, y, 1:]
        drop_fall, drop_rise = dropped[FALL, y, :last], dropped[RISE, y, :last]
        for i in range(last):
            t, b, l, r, f, z = top[i], bottom[i], left[i], right[i], fall[i], rise[i]  # noqa: E741
            drop_top[i] |= (t > max(l, z)) | (t > max(r, f))
            drop_bottom[i] |= (b > max(l, f)) | (b > max(r, z))
            drop_left[i] |= (l > max(t, z)) | (l > max(b, f))
            drop_fall[i] |= (f > max(t, r)) | (f > max(l, b))
            drop_rise[i] |= (z > max(t, l)) | (z > max(r, b))
        # A separate loop, because drop_left and drop_right overlap.
        for i in range(last):
            t, b, r, f, z = top[i], bottom[i], right[i], fall[i], rise[i]
            drop_right[i] |= (r > max(t, f)) | (r > max(b, z))
    return dropped


@compiled(nogil=True)
def _root(parent: Array, node: int) -> int:
    """The root of a node's tree; moves nodes on the path closer to it."""
    above = parent[node]
    while parent[above] != above:
        parent[node] = parent[above]
        node = above
        above = parent[node]
    return above


@compiled(nogil=True)
def _join(parent: Array, size: Array, a: int, b: int) -> int:
    """Attach the smaller of two trees to the root of the larger one; returns that root."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@compiled(nogil=True)
def segment(edges: Array, starts: Array, height: int, width: int, k: int, min_size: int) -> tuple[Array, int]:
    """Segment an image, given its sorted edges.

    Parameters
    ----------
    edges, starts
        From :func:`sort_edges`.
    height, width : int
        Size of the image.
    k : int
        Scale of observation: larger values give larger segments.
    min_size : int
        Afterwards, smaller segments (in pixels) are merged with the neighbour across their lightest edge.

    Returns
    -------
    labels : int32 array (H, W)
        Segments numbered from 0 in raster order of their first pixels.
    count : int
        Number of segments.
    """
    pixels = height * width
    parent = np.arange(pixels).astype(np.uint32)
    size = np.ones(pixels, np.int32)
    # The heaviest edge that a component accepts, at its root.
    limit = np.full(pixels, k * STEPS, np.int32)
    first = np.array([0, 0, 0, 1], np.uint32)
    second = np.array([1, width, width + 1, width], np.uint32)
    refused = np.empty(edges.size, np.int32)
    count = 0
    for w in range(starts.size - 1):
        for e in range(starts[w], starts[w + 1]):
            pixel = np.uint32(edges[e] >> 2)
            a = _root(parent, pixel + first[edges[e] & 3])
            b = _root(parent, pixel + second[edges[e] & 3])
            if a == b:
                continue
            if w <= min(limit[a], limit[b]):
                root = _join(parent, size, a, b)
                limit[root] = w + k * STEPS // size[root]
            else:
                refused[count] = edges[e]
                count += 1
    for e in range(count):
        pixel = np.uint32(refused[e] >> 2)
        a = _root(parent, pixel + first[refused[e] & 3])
        b = _root(parent, pixel + second[refused[e] & 3])
        if a != b and min(size[a], size[b]) < min_size:
            _join(parent, size, a, b)

    labels = np.empty(pixels, np.int32)
    number = np.full(pixels, -1, np.int32)
    count = 0
    for p in range(pixels):
        root = _root(parent, p)
        if number[root] < 0:
            number[root] = count
            count += 1
        labels[p] = number[root]
    return labels.reshape(height, width), count
