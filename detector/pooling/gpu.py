"""Pool windows on a GPU: one Triton kernel over a channel-last map, equal to :mod:`.kernel` bit by bit.

As on the CPU the maximum is one of integers that sort like the floats. A program pools one window for a block of
channels. The maps are small enough for the GPU's caches: what takes time is to write the rows.
"""

# Triton compiles its functions for the types of the arguments.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..options import check_levels
from .levels import steps

#: Bytes that a thread reads at once, and threads in a warp, the program of a window and a block of channels.
_READ, _WARP = 16, 32

#: Cells that a program reads at once, along each axis: a bin of six by six on a map has about as many.
_TILE = 4


def order_on_device(bits: Tensor, infinity: int) -> Tensor:
    """A map of integers in the order of the floats whose bits they come from, channel-last and contiguous.

    Parameters
    ----------
    bits : int16, int32 or int64 tensor (H, W, C)
        Any strides.
    infinity : int
        Bits of the format's infinity.
    """
    height, width, channels = bits.shape
    keys = torch.empty(height, width, channels, dtype=bits.dtype, device=bits.device)
    block = _READ // bits.element_size() * _WARP
    grid = (height * width, triton.cdiv(channels, block))
    with torch.cuda.device_of(bits):
        _order[grid](bits, keys, width, channels, *bits.stride(), infinity, _top(bits), BLOCK=block, num_warps=1)
    return keys


def pool_on_device(keys: Tensor, windows: Tensor, levels: Sequence[int], rows: Tensor, first: int = 0) -> None:
    """Max-pool windows of a map into the columns of ``rows`` from ``first`` on; nothing waits for the device.

    Parameters
    ----------
    keys : int tensor (H, W, C)
        The result of :func:`order_on_device`.
    windows : int32 tensor (N, 4), contiguous
        Cells x0, y0, x1, y1, inclusive, 0-based, all of them on the map: they are not checked here.
    levels : sequence of int
        Level n has n x n bins, with the edges of AdaptiveMaxPool2d.
    rows : tensor (N, at least first + M * C) of the dtype of the keys, whose rows are contiguous
        The output, bits of floats, in the order of :func:`.kernel.pool_bits`.
    first : int
        First column of the output.
    """
    if len(windows) == 0:
        return
    _, width, channels = keys.shape
    plan = _plan(tuple(levels), keys.device)
    block = _READ // keys.element_size() * _WARP
    grid = (len(windows), triton.cdiv(channels, block))
    sizes = len(plan), width, channels, rows.stride(0), first, _top(keys)
    with torch.cuda.device_of(rows):
        _pool[grid](keys, windows, plan, rows, *sizes, BLOCK=block, TILE=_TILE, num_warps=1)


def _top(keys: Tensor) -> int:
    return int(torch.iinfo(keys.dtype).max)


@lru_cache
def _plan(levels: tuple[int, ...], device: torch.device) -> Tensor:
    """Rows of n, first bin, n and first bin of the source (0: the map), as :func:`.kernel._plan`, on the device."""
    checked = check_levels(levels)
    first = [sum(n * n for n in checked[:position]) for position in range(len(checked))]
    rows = []
    for step in steps(checked):
        source = (0, 0) if step.source is None else (checked[step.source], first[step.source])
        rows.append((step.n, first[step.position], *source))
    return torch.tensor(rows, dtype=torch.int32).to(device)


@triton.jit
def _order(
    bits, keys, width, channels, stride_y, stride_x, stride_c, infinity, top, BLOCK: tl.constexpr
):  # pragma: no cover
    """Keys of one cell and a block of channels."""
    cell = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    place = cell // width * stride_y + cell % width * stride_x
    value = tl.load(bits + place + channel.to(tl.int64) * stride_c, inside, 0)
    infinity, top = infinity.to(value.dtype), top.to(value.dtype)
    # Those of a NaN, of either sign, are above infinity.
    negative = tl.where((value & top) > infinity, top, value ^ top)
    tl.store(keys + cell * channels + channel, tl.where(value < 0, negative, value), inside)


@triton.jit
def _pool(
    keys,
    windows,
    plan,
    rows,
    levels,
    width,
    channels,
    row_stride,
    first,
    top,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):  # pragma: no cover
    """All levels of one window and a block of channels; a level may follow from bins that are written already."""
    window = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x0, y0 = tl.load(windows + 4 * window), tl.load(windows + 4 * window + 1)
    x1, y1 = tl.load(windows + 4 * window + 2), tl.load(windows + 4 * window + 3)
    row = rows + window * row_stride + first
    for level in range(levels):
        n, target = tl.load(plan + 4 * level), tl.load(plan + 4 * level + 1)
        source_n, source = tl.load(plan + 4 * level + 2), tl.load(plan + 4 * level + 3)
        if source_n == 0:
            from_map = keys + (y0 * width + x0) * channels
            _grid(from_map, width, y1 - y0 + 1, x1 - x0 + 1, row, n, target, channels, channel, top, False, BLOCK, TILE)
        else:
            # What other threads of the program have written must be there.
            tl.debug_barrier()
            from_bins = row + source * channels
            _grid(from_bins, source_n, source_n, source_n, row, n, target, channels, channel, top, True, BLOCK, TILE)


@triton.jit
def _grid(
    cells,
    pitch,
    height,
    width,
    row,
    n,
    target,
    channels,
    channel,
    top,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):  # pragma: no cover
    """Maxima over n x n bins of ``height`` x ``width`` cells, which are keys, or with BITS bits that were written."""
    inside = channel < channels
    top = top.to(cells.dtype.element_ty)
    lowest = -top - 1
    # The bits of the lowest key are all ones.
    absent = lowest ^ top if BITS else lowest
    for place in range(n * n):
        bin_y, bin_x = place // n, place % n
        start_y, end_y = bin_y * height // n, ((bin_y + 1) * height + n - 1) // n
        start_x, end_x = bin_x * width // n, ((bin_x + 1) * width + n - 1) // n
        best = tl.full((BLOCK,), 0, cells.dtype.element_ty) + lowest
        for tile_y in range(start_y, end_y, TILE):
            for tile_x in range(start_x, end_x, TILE):
                # Unrolled: these loads do not wait for each other.
                for y in tl.static_range(TILE):
                    for x in tl.static_range(TILE):
                        there = inside & (tile_y + y < end_y) & (tile_x + x < end_x)
                        cell = ((tile_y + y) * pitch + tile_x + x) * channels
                        part = tl.load(cells + cell + channel, there, absent)
                        if BITS:
                            part = tl.where(part < 0, part ^ top, part)
                        best = tl.maximum(best, part)
        tl.store(row + (target + place) * channels + channel, tl.where(best < 0, best ^ top, best), inside)
