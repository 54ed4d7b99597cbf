"""Hierarchical grouping of segments, compiled: the core of selective search.

Uijlings et al. (IJCV 2013), algorithm 1: merge the two most similar neighbours until one
region is left. The box of every region is a proposal.
"""

from __future__ import annotations

import numpy as np

from ..data.arrays import Array
from ..data.compiled import compiled
from .heap import pop, push, room

ONE = 1 << 15
"""Histograms count in units of 1/ONE of a region: sums of integers do not depend on their order."""


@compiled(nogil=True)
def _update_shares(shares: Array, counts: Array, row: int, size: int) -> None:
    """Write the histogram of a region of ``size`` pixels, rounded down; the sum of each channel is about ONE."""
    counted = counts[row]
    out = shares[row]
    factor = np.float32(ONE / size)
    for i in range(counted.size):
        out[i] = np.uint16(np.float32(counted[i]) * factor)


@compiled(nogil=True)
def _intersection(shares: Array, a: int, b: int, start: int, stop: int) -> int:
    """Histogram intersection of rows ``a`` and ``b``: the sum of the smaller bins."""
    one = shares[a, start:stop]
    other = shares[b, start:stop]
    total = np.int32(0)
    for i in range(one.size):
        total += np.int32(min(one[i], other[i]))
    return total


@compiled(nogil=True)
def _similarity(
    a: int, b: int, sizes: Array, boxes: Array, shares: Array, row: Array, split: int, weights: Array, pixels: int
) -> float:
    """Similarity of two regions: the weighted sum of four similarities.

    Two of them need no pixels: size, which merges small regions early, and fill, which
    merges regions that fit into each other.
    """
    size = sizes[a] + sizes[b]
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    result = weights[2] * (1.0 - size / pixels) + weights[3] * (1.0 - (width * height - size) / pixels)
    if weights[0] > 0:
        result += weights[0] * _intersection(shares, row[a], row[b], 0, split)
    if weights[1] > 0:
        result += weights[1] * _intersection(shares, row[a], row[b], split, shares.shape[1])
    return result


@compiled(nogil=True)
def group(sizes: Array, boxes: Array, counts: Array, pairs: Array, split: int, channels: int, weights: Array) -> Array:
    """Return the boxes of all regions of one hierarchy.

    Parameters
    ----------
    sizes : int64 array (R,)
        Number of pixels of each segment.
    boxes : int32 array (R, 4)
        Half-open x1, y1, x2, y2 of each segment.
    counts : int32 array (R, B)
        Histogram counts: colour in the first ``split`` columns, texture in the rest;
        each pixel is counted once for every channel in both.
    pairs : int32 array (P, 2)
        Segments that touch, smaller number first.
    split, channels : int
        See ``counts``.
    weights : float64 array (4,)
        Weights of the similarities of colour, texture, size and fill (IJCV 2013, section
        3.2), which are between 0 and 1.

    Returns
    -------
    int32 array (2 R - 1, 4)
        The boxes of the segments, then of the merged regions in merge order (fewer if not all
        segments are connected). Merged regions are numbered from R. Of equally similar pairs,
        the one with the smaller first number merges first, then the one with the smaller second
        number.
    """
    segments = sizes.size
    total = 2 * segments - 1
    pixels = sizes.sum()
    sizes = room(sizes, total)
    boxes = room(boxes.ravel(), 4 * total).reshape(-1, 4)
    counts = counts.copy()
    shares = np.empty(counts.shape, np.uint16)
    # A merged region reuses the histogram row of its first part.
    row = np.arange(total)
    alive = np.zeros(total, np.bool_)
    looks = weights[0] > 0 or weights[1] > 0
    for r in range(segments):
        alive[r] = True
        if looks:
            _update_shares(shares, counts, r, sizes[r])
    parts = weights.copy()
    parts[0] /= channels * ONE
    parts[1] /= channels * ONE

    # Neighbours are linked lists: an entry holds a region and the index of the next entry. A list is read once, when
    # its region merges; regions merged earlier are skipped, so no entry is ever removed.
    head = np.full(total, -1, np.int32)
    member = np.empty(8 * pairs.shape[0], np.int32)
    following = np.empty(8 * pairs.shape[0], np.int32)
    keys = np.empty(4 * pairs.shape[0], np.float64)
    merges = np.empty(4 * pairs.shape[0], np.int64)
    cells = 0
    waiting = 0
    seen_by = np.zeros(total, np.int32)
    todo = np.empty(total, np.int32)

    made = segments
    pair = 0
    while made < total:
        # First the given pairs of segments, then the most similar pair of all.
        if pair < pairs.shape[0]:
            new = pairs[pair, 0]
            todo[0] = pairs[pair, 1]
            near = 1
            pair += 1
        elif waiting > 0:
            merge = pop(keys, merges, waiting)
            waiting -= 1
            a = merge // total
            b = merge % total
            if not (alive[a] and alive[b]):
                continue
            new = made
            made += 1
            alive[a] = False
            alive[b] = False
            alive[new] = True
            near = 0
            for child in (a, b):
                cell = head[child]
                while cell >= 0:
                    other = member[cell]
                    cell = following[cell]
                    if alive[other] and seen_by[other] != new:
                        seen_by[other] = new
                        todo[near] = other
                        near += 1
            sizes[new] = sizes[a] + sizes[b]
            boxes[new, 0] = min(boxes[a, 0], boxes[b, 0])
            boxes[new, 1] = min(boxes[a, 1], boxes[b, 1])
            boxes[new, 2] = max(boxes[a, 2], boxes[b, 2])
            boxes[new, 3] = max(boxes[a, 3], boxes[b, 3])
            row[new] = row[a]
            if looks:
                kept = counts[row[a]]
                added = counts[row[b]]
                for i in range(kept.size):
                    kept[i] += added[i]
                _update_shares(shares, counts, row[new], sizes[new])
        else:
            break
        member = room(member, cells + 2 * near)
        following = room(following, cells + 2 * near)
        keys = room(keys, waiting + near)
        merges = room(merges, waiting + near)
        for i in range(near):
            other = todo[i]
            member[cells] = other
            following[cells] = head[new]
            head[new] = cells
            member[cells + 1] = new
            following[cells + 1] = head[other]
            head[other] = cells + 1
            cells += 2
            likeness = _similarity(new, other, sizes, boxes, shares, row, split, parts, pixels)
            push(keys, merges, waiting, likeness, min(new, other) * total + max(new, other))
            waiting += 1
    return boxes[:made]
