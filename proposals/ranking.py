"""In which order a method without scores of its own lists its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.boxes import unique

Array = NDArray[Any]


def ranked(hierarchies: Sequence[Array], seed: int) -> Array:
    """Boxes of all hierarchies without repeats, best first.

    A box's rank is its position in its hierarchy, counted from the last, times a random
    number from 0 to 1 (Uijlings et al., IJCV 2013, section 4.4): large boxes tend to come
    first, but not all of them before all small ones.

    Parameters
    ----------
    hierarchies : sequence of arrays (N_i, 4)
        Boxes in the order of their making, segments first, the whole image last.
    seed : int
        Of the random numbers.

    Returns
    -------
    array (N, 4)
        Of the hierarchies' dtype.
    """
    rng = np.random.default_rng(seed)
    rank = [np.arange(len(boxes), 0, -1) * rng.random(len(boxes)) for boxes in hierarchies]
    return unique(np.concatenate(hierarchies)[np.argsort(np.concatenate(rank), kind="stable")])
