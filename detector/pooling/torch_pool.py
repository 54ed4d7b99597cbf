"""Pool windows with torch's operations alone: on any device, and differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from .levels import edges, steps


def pool_with_torch(features: Tensor, windows: Array, levels: Sequence[int]) -> Tensor:
    """:func:`.spp.spp_pool` of valid windows; see there."""
    cells = features.permute(1, 2, 0)
    count, channels = len(windows), cells.shape[2]
    blocks: dict[int, Tensor] = {}
    for step in steps(levels):
        if step.source is None:
            block = _pool_level(cells, windows, step.n)
        else:
            finer = blocks[step.source]
            k = finer.shape[1] // step.n
            block = finer.reshape(count, step.n, k, step.n, k, channels).amax(dim=(2, 4))
        blocks[step.position] = block
    return torch.cat([blocks[position].flatten(1) for position in range(len(levels))], dim=1)


def _pool_level(cells: Tensor, windows: Array, n: int) -> Tensor:
    """Pool the bins (N, n, n, C) of windows on a map (H, W, C).

    A maximum may count cells twice, so four overlapping blocks of 2^i x 2^j cells at its
    corners cover a bin of any size (a sparse table for range maxima). Block maxima at
    every position come from doubling; each size is used by the bins that need it and
    then freed.
    """
    count, channels = len(windows), cells.shape[2]
    if count == 0:
        return cells.new_empty((0, n, n, channels))
    x0, y0, x1, y1 = windows.astype(np.int64).T
    tops, bottoms = (y0[:, None] + edge for edge in edges(y1 - y0 + 1, n))
    lefts, rights = (x0[:, None] + edge for edge in edges(x1 - x0 + 1, n))
    # frexp's exponent is floor(log2) + 1, exactly.
    log_height = np.frexp(bottoms - tops)[1] - 1
    log_width = np.frexp(rights - lefts)[1] - 1

    pooled, places = [], []
    tall = cells
    for i in range(int(log_height.max()) + 1):
        if i > 0:
            tall = torch.maximum(tall[: -(1 << i - 1)], tall[1 << i - 1 :])
        block = tall
        for j in range(int(log_width.max()) + 1):
            if j > 0:
                block = torch.maximum(block[:, : -(1 << j - 1)], block[:, 1 << j - 1 :])
            window, row, column = np.nonzero((log_height == i)[:, :, None] & (log_width == j)[:, None, :])
            if len(window) == 0:
                continue
            flat = block.reshape(-1, channels)
            top, bottom = tops[window, row], bottoms[window, row] - (1 << i)
            left, right = lefts[window, column], rights[window, column] - (1 << j)
            corners = [torch.from_numpy(y * block.shape[1] + x) for y in (top, bottom) for x in (left, right)]
            a, b, c, d = (flat[corner.to(cells.device)] for corner in corners)
            pooled.append(torch.maximum(torch.maximum(a, b), torch.maximum(c, d)))
            places.append((window * n + row) * n + column)
    # The parts are ordered by block size; restore the order of the windows.
    order = torch.from_numpy(np.argsort(np.concatenate(places))).to(cells.device)
    return torch.cat(pooled)[order].reshape(count, n, n, channels)
