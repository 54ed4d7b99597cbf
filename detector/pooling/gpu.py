"""Pool windows on a GPU: one Triton kernel over a channel-last map, equal to :mod:`.kernel` bit by bit.

As on the CPU the maximum is one of integers that sort like the floats. A program pools one window for a block of
channels.
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
from .kernel import bits_of
from .levels import steps

#: Bytes that a thread reads at once, and threads in a warp, the program of a window and a block of channels.
_READ, _WARP = 16, 32

#: Cells that a program reads at once, along each axis: a bin of six by six on a map has about as many.
_TILE = 4


class KeyMaps:
    """Feature maps, as integers that sort like their floats, for one or more scales of an image.

    Parameters
    ----------
    maps : sequence of tensors (C, H, W)
        Of one floating-point dtype, on one device, with any strides.
    """

    def __init__(self, maps: Sequence[Tensor]) -> None:
        sizes = [one.shape[1] * one.shape[2] for one in maps]
        self._widths, self._starts = [one.shape[2] for one in maps], [sum(sizes[:i]) for i in range(len(maps))]
        bits, infinity = bits_of(maps[0])
        self._keys = torch.empty(sum(sizes), len(bits), dtype=bits.dtype, device=bits.device)
        for one, start, size in zip(maps, self._starts, sizes, strict=True):
            _order_into(self._keys[start : start + size], bits_of(one)[0].permute(1, 2, 0), infinity)

    def pool_into(
        self, rows: Tensor, cells: Tensor, levels: Sequence[int], first: int = 0, which: Tensor | None = None
    ) -> None:
        """Max-pool windows into the columns of ``rows`` from ``first`` on; nothing waits for the device.

        Parameters
        ----------
        rows : tensor (N, at least first + M * C) of the dtype of the maps, whose rows are contiguous
            The output, in the order of :func:`.spp.spp_pool`.
        cells : int32 tensor (N, 4)
            x0, y0, x1, y1, inclusive, 0-based, all of them on the map: they are not checked here.
        levels : sequence of int
            Level n has n x n bins, with the edges of AdaptiveMaxPool2d.
        first : int
            First column of the output.
        which : int64 tensor (N,), optional
            Index of each window's map; the first one by default.
        """
        if len(cells) == 0:
            return
        x0, y0, x1, y1 = cells.unbind(dim=1)
        start, pitch = torch.zeros_like(x0), torch.full_like(x0, self._widths[0])
        if which is not None:
            for number, (begins, width) in enumerate(zip(self._starts, self._widths, strict=True)):
                here = which == number
                start, pitch = start.masked_fill(here, begins), pitch.masked_fill(here, width)
        places = torch.stack([start + y0 * pitch + x0, pitch, y1 - y0 + 1, x1 - x0 + 1], dim=1)
        channels, plan, out = self._keys.shape[1], _plan(tuple(levels), self._keys.device), bits_of(rows)[0]
        block = _READ // out.element_size() * _WARP
        grid = (len(cells), triton.cdiv(channels, block))
        sizes = len(plan), channels, rows.stride(0), first, _top(out)
        with torch.cuda.device_of(rows):
            _pool[grid](self._keys, places, plan, out, *sizes, BLOCK=block, TILE=_TILE, num_warps=1)


def _order_into(keys: Tensor, bits: Tensor, infinity: int) -> None:
    """Fill keys (H * W, C) from the bits (H, W, C) of floats, with any strides."""
    _, width, channels = bits.shape
    block = _READ // bits.element_size() * _WARP
    grid = (len(keys), triton.cdiv(channels, block))
    with torch.cuda.device_of(bits):
        _order[grid](bits, keys, width, channels, *bits.stride(), infinity, _top(bits), BLOCK=block, num_warps=1)


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
    keys, places, plan, rows, levels, channels, row_stride, first, top, BLOCK: tl.constexpr, TILE: tl.constexpr
):  # pragma: no cover
    """All levels of one window and a block of channels; a level may follow from bins that are written already."""
    window = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    origin, pitch = tl.load(places + 4 * window).to(tl.int64), tl.load(places + 4 * window + 1)
    height, width = tl.load(places + 4 * window + 2), tl.load(places + 4 * window + 3)
    row = rows + window * row_stride + first
    for level in range(levels):
        n, target = tl.load(plan + 4 * level), tl.load(plan + 4 * level + 1)
        source_n, source = tl.load(plan + 4 * level + 2), tl.load(plan + 4 * level + 3)
        if source_n == 0:
            from_map = keys + origin * channels
            _grid(from_map, pitch, height, width, row, n, target, channels, channel, top, False, BLOCK, TILE)
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
