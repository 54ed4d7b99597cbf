"""Project windows of the image onto cells of the feature map (paper: section 4.1, appendix A).

As in the paper, the formulas use 1-based inclusive pixels. Compared with our half-open
boxes only the left (top) coordinate changes, to ``x1 + 1`` (see
:func:`sppnet.data.boxes.to_voc`). Cells are 0-based.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ...data.boxes import to_voc
from ..options import CornerRule

# ZF-5's margin in the authors' release: 6.5 pixels at stride 16. Other strides use the same fraction of a cell.
_MARGIN = 6.5 / 16


def default_offset(stride: int) -> float:
    """Margin in pixels by which the reference moves corners inwards: 6.5 at stride 16, proportional to the stride."""
    return _MARGIN * stride


def project(
    windows: ArrayLike,
    map_size: tuple[int, int],
    stride: int,
    offset0: float,
    offset: float | None = None,
    rule: CornerRule = "reference",
) -> Array:
    """Compute the cells of the feature map that each window covers.

    S is the stride, offset0 the receptive-field centre of the first cell and x a
    1-based corner. The 1-based cells are, in the authors' release ("reference"),

        left, top      floor((x - offset0 + offset) / S + 0.5) + 1
        right, bottom  ceil((x - offset0 - offset) / S - 0.5) + 1

    and in appendix A ("paper", the same with offset = S / 2) the cells whose centres
    are strictly between the corners:

        left, top      floor((x - offset0) / S) + 2
        right, bottom  ceil((x - offset0) / S)

    (The appendix writes ``floor(x / S) + 1`` and ``ceil(x / S) - 1``: there cell i
    is centred at ``S i``, so offset0 = S.) A window too small for any cell,
    left > right, gets the cell in the middle; finally all cells are clamped to the map.

    Parameters
    ----------
    windows : array (N, 4)
        x1, y1, x2, y2, 0-based, half-open, in pixels of the scaled image from which the map was computed.
    map_size : (h, w)
        Rows and columns of the map, each at least 1.
    stride : int
        Pixels from one cell to the next.
    offset0 : float
        Receptive-field centre of the first cell in 1-based pixels.
    offset : float, optional
        Margin of the reference's rule in pixels; None is :func:`default_offset`.
    rule : {"reference", "paper"}

    Returns
    -------
    int32 array (N, 4)
        x0, y0, x1, y1 of the first and last cell, inclusive, 0-based; never empty, never outside the map.

    Raises
    ------
    ValueError
        For an unknown rule, an offset with the paper's rule, or a stride or map size below 1.
    """
    if rule not in ("reference", "paper"):
        raise ValueError(f"rule must be 'reference' or 'paper', not {rule!r}")
    if rule == "paper" and offset is not None:
        raise ValueError(f"the paper's rule has no margin; offset must be None, not {offset}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, not {stride}")
    height, width = map_size
    if height < 1 or width < 1:
        raise ValueError(f"a feature map has at least 1 x 1 cells, not {height} x {width}")

    corners = to_voc(windows, np.float64) - offset0
    if rule == "paper":
        first = np.floor(corners[:, :2] / stride) + 1
        last = np.ceil(corners[:, 2:] / stride) - 1
    else:
        margin = default_offset(stride) if offset is None else offset
        first = np.floor((corners[:, :2] + margin) / stride + 0.5)
        last = np.ceil((corners[:, 2:] - margin) / stride - 0.5)

    middle = np.floor((first + last) / 2)
    inverted = first > last
    limit = np.array([width - 1, height - 1], np.float64)
    cells = np.empty((len(corners), 4), np.int32)
    cells[:, :2] = np.clip(np.where(inverted, middle, first), 0, limit)
    cells[:, 2:] = np.clip(np.where(inverted, middle, last), 0, limit)
    return cells
