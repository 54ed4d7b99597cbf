"""Pool windows on the CPU: a compiled kernel over channel-last maps.

The kernel works on integers only. The bits of a non-negative float increase with
its value, so the maximum of the bits is the bits of the maximum, in every format.
If a map has negative numbers, their bits are inverted before and after pooling.
This is exact, costs nothing on rectified maps, makes half precision twice as fast
as single (half the bytes) and propagates NaN like AdaptiveMaxPool2d: the bits of a
NaN are above those of infinity.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from ...data.arrays import Array
from ...data.compiled import compiled
from ..options import check_levels
from .levels import check_windows, steps

# Most windows in a task of a thread: a few milliseconds of work.
_CHUNK = 64


_INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def bits_of(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The bits of a floating-point tensor, integers in the same memory, and those of its format's infinity.

    Raises
    ------
    ValueError
        For another dtype.
    """
    if values.dtype not in _INTEGERS:
        raise ValueError(f"features must be floating point, not {values.dtype}")
    integer = _INTEGERS[values.dtype]
    return values.view(integer), int(torch.tensor(torch.inf, dtype=values.dtype).view(integer))


def unique_windows(windows: Array) -> tuple[Array, Array]:
    """Find the distinct windows among int cells (N, 4), and the index of each window.

    Neighbouring proposals often cover the same cells; each distinct window is then
    pooled and scored once.

    Returns
    -------
    unique : int32 array (U, 4)
        Sorted by y0, then x0, so that neighbours in the list are neighbours on the map.
    inverse : int64 array (N,)
        ``unique[inverse]`` equals ``windows``.
    """
    windows = check_windows(windows, 1 << 15, 1 << 15)
    # Pack four coordinates of 15 bits each into one sortable number.
    x0, y0, x1, y1 = windows.astype(np.int64).T
    keys = ((y0 << 15 | x0) << 15 | y1) << 15 | x1
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return windows[first], inverse.reshape(len(windows))


class Sortable(NamedTuple):
    """A map of integers in the order of the floats whose bits they come from.

    Attributes
    ----------
    cells : int16, int32 or int64 array (H, W, C), C-contiguous
    signed : bool
        Whether the bits of negative numbers are inverted; if none is negative, the integers are the bits.
    """

    cells: Array
    signed: bool


def sortable(bits: Array, infinity: int) -> Sortable:
    """Prepare a channel-last map of IEEE-like floats for :func:`pool_bits`; it takes as long as to pool many windows.

    Parameters
    ----------
    bits : int16, int32 or int64 array (H, W, C), C-contiguous
        Kept without a copy if no number is negative.
    infinity : int
        Bits of the format's infinity.
    """
    signed = bool(bits.min() < 0)
    return Sortable(_order(bits.reshape(-1), bits.dtype.type(infinity)).reshape(bits.shape) if signed else bits, signed)


def pool_bits(on_map: Sortable, windows: Array, levels: Sequence[int], out: Array, first: int = 0) -> None:
    """Max-pool windows of a map; the output is the bits of floats, integers of the same width as the map's.

    Parameters
    ----------
    on_map : Sortable
    windows : int array (N, 4)
        Cells x0, y0, x1, y1, inclusive, 0-based.
    levels : sequence of int
        Level n has n x n bins, with the edges of AdaptiveMaxPool2d.
    out : array (N, at least first + M * C) of the dtype of the map's cells, C-contiguous
        The output: level blocks in the given order; in a block bin by bin (row-major), each with its C adjacent
        channels. A bin that contains a NaN is NaN.
    first : int
        First column of the output.
    """
    height, width, channels = on_map.cells.shape
    windows = check_windows(windows, height, width)
    if len(windows) == 0:
        return
    cells = on_map.cells.reshape(height * width, channels)
    plan = _plan(tuple(levels))
    threads = torch.get_num_threads()
    size = min(_CHUNK, -(-len(windows) // threads))
    starts = range(0, len(windows), size)

    def pool(start: int) -> None:
        part = slice(start, start + size)
        _pool(cells, width, windows[part], plan, on_map.signed, out[part], first)

    if threads == 1 or len(starts) == 1:
        for start in starts:
            pool(start)
    else:
        list(_workers(threads).map(pool, starts))


@lru_cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones for each chunk of windows would take a tenth of the time."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):
    # A forked process has none of the threads, and would wait for them.
    os.register_at_fork(after_in_child=_workers.cache_clear)


@lru_cache
def _plan(levels: tuple[int, ...]) -> Array:
    """One row for each level in order of computation: n, first bin, n and first bin of its source (-1: the map)."""
    checked = check_levels(levels)
    first = np.cumsum([0, *(n * n for n in checked)])
    rows = []
    for step in steps(checked):
        source = (0, -1) if step.source is None else (checked[step.source], first[step.source])
        rows.append((step.n, first[step.position], *source))
    return np.array(rows, np.int64)


@compiled(nogil=True)  # pragma: no cover
def _order(bits: Array, infinity: int) -> Array:
    """Convert float bits to integers that sort like the floats, with NaN of either sign on top."""
    top = np.iinfo(bits.dtype).max
    keys = np.empty_like(bits)
    for k in range(bits.size):
        if bits[k] >= 0:
            keys[k] = bits[k]  # also a NaN, whose bits are above those of infinity
        else:
            keys[k] = top if (bits[k] & top) > infinity else bits[k] ^ top
    return keys


@compiled(nogil=True)  # pragma: no cover
def _pool(cells: Array, width: int, windows: Array, plan: Array, signed: bool, out: Array, first_column: int) -> None:
    """Pool windows of a map (H * W, C) of integers into columns of ``out``, from ``first_column``."""
    top = np.iinfo(cells.dtype).max
    channels, bins = cells.shape[1], 0
    for p in range(len(plan)):
        bins += plan[p, 0] ** 2
    for i in range(len(windows)):
        x0, y0 = windows[i, 0], windows[i, 1]
        extent_x, extent_y = windows[i, 2] - x0 + 1, windows[i, 3] - y0 + 1
        target = out[i, first_column : first_column + bins * channels].reshape(bins, channels)
        for p in range(len(plan)):
            n, first, source_n, source_first = plan[p]
            if source_first < 0:
                _pool_grid(cells, y0 * width + x0, width, extent_y, extent_x, n, target, first)
            else:
                _pool_grid(target, source_first, source_n, source_n, source_n, n, target, first)
        if signed:
            values = target.reshape(-1)
            for k in range(values.size):
                values[k] = values[k] if values[k] >= 0 else values[k] ^ top


@compiled(nogil=True)  # pragma: no cover
def _pool_grid(
    cells: Array, origin: int, pitch: int, height: int, width: int, n: int, target: Array, first: int
) -> None:
    """Maxima over n x n bins of the ``height`` x ``width`` cells that start at row ``origin`` of ``cells`` (R, C).

    Cell (y, x) is row ``origin + y * pitch + x``. Every inner loop runs over the
    channels of a few adjacent cells, so the compiler can use vector instructions.
    One sequential stream is also faster than several rows at once, which the
    processor cannot prefetch.
    """
    channels = cells.shape[1]
    for bin_y in range(n):
        top, bottom = bin_y * height // n, ((bin_y + 1) * height + n - 1) // n
        for bin_x in range(n):
            left, right = bin_x * width // n, ((bin_x + 1) * width + n - 1) // n
            best = target[first + bin_y * n + bin_x]
            start = 2 if right - left > 1 else 1
            a, b = cells[origin + top * pitch + left], cells[origin + top * pitch + left + start - 1]
            for k in range(channels):
                best[k] = a[k] if a[k] > b[k] else b[k]
            for y in range(top, bottom):
                cell, end = origin + y * pitch + left + start, origin + y * pitch + right
                start = 0
                while cell + 3 <= end:
                    a, b, c = cells[cell], cells[cell + 1], cells[cell + 2]
                    for k in range(channels):
                        ab = a[k] if a[k] > b[k] else b[k]
                        c_best = c[k] if c[k] > best[k] else best[k]
                        best[k] = ab if ab > c_best else c_best
                    cell += 3
                while cell < end:
                    a = cells[cell]
                    for k in range(channels):
                        best[k] = a[k] if a[k] > best[k] else best[k]
                    cell += 1
