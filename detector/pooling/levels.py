"""Levels of a spatial pyramid: number of bins, order of computation, and which levels follow from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ..options import check_levels


@dataclass(frozen=True)
class Step:
    """Computation of one level.

    Attributes
    ----------
    position : int
        Index of the level in the caller's list.
    n : int
        The level has n x n bins.
    source : int or None
        Position of an earlier level whose bins nest in this level's bins; None for the feature map itself.
    """

    position: int
    n: int
    source: int | None


def check_windows(windows: ArrayLike, height: int, width: int) -> Array:
    """Check windows on a map of ``height`` x ``width`` cells; returns a contiguous int32 array (N, 4).

    Raises
    ------
    ValueError
        Unless every window has ``0 <= x0 <= x1 < width`` and ``0 <= y0 <= y1 < height``.
    """
    array = np.asarray(windows)
    if array.size == 0:
        return np.zeros((0, 4), np.int32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"windows must have shape (N, 4), not {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"windows must hold integer cells, not {array.dtype}")
    ordered = (array[:, :2] <= array[:, 2:]).all(axis=1)
    inside = (array[:, :2] >= 0).all(axis=1) & (array[:, 2] < width) & (array[:, 3] < height)
    if not (ordered & inside).all():
        first = int(np.argmin(ordered & inside))
        raise ValueError(
            f"window {first} is x0 y0 x1 y1 = {array[first].tolist()}; expected 0 <= x0 <= x1 < {width} "
            f"and 0 <= y0 <= y1 < {height}"
        )
    return np.ascontiguousarray(array, np.int32)


def bins(levels: Sequence[int]) -> int:
    """Number of bins of a pyramid, M: 50 for (1, 2, 3, 6)."""
    return sum(n * n for n in check_levels(levels))


def edges(extent: Any, n: int) -> tuple[Any, Any]:
    """Starts and ends of the n bins along an axis of ``extent`` cells, int64 arrays (..., n).

    Bin i covers ``floor(i * extent / n) <= cell < ceil((i + 1) * extent / n)``, the edges of
    :class:`torch.nn.AdaptiveMaxPool2d`: bins are never empty, and share cells if extent < n.
    """
    index = np.arange(n)
    extent = np.asarray(extent, np.int64)[..., None]
    return index * extent // n, -(-(index + 1) * extent // n)


def steps(levels: Sequence[int]) -> tuple[Step, ...]:
    """Order the levels so that each can be computed from finer ones.

    If n divides m, each bin of level n is exactly the union of (m / n) x (m / n) bins
    of level m: ``floor(i H / n) = floor(i (m / n) H / m)``. So (1, 2, 3, 6) takes one
    pooling of 6 x 6 bins and a few maxima. Of several sources the coarsest is cheapest.
    """
    checked = check_levels(levels)
    result: list[Step] = []
    for position in sorted(range(len(checked)), key=lambda position: -checked[position]):
        n = checked[position]
        nested = [step for step in result if step.n % n == 0]
        source = min(nested, key=lambda step: step.n).position if nested else None
        result.append(Step(position, n, source))
    return tuple(result)
