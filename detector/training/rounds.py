"""Hard-negative mining in rounds, for images that are visited by others while this process solves.

In one pass (:mod:`.mining`) each image sees the planes that those before it have led to. Here all images of a round see
the same planes, and are visited side by side. The first rounds have few images, since poor planes find nearly all
windows hard, and each further one has as many as all before it. Then all images are visited again, until hardly a
window is hard that the SVMs do not have: the problem is convex, so this is its solution whatever the order. What a
round finds does not depend on the number of those who visit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...data.arrays import Array
from .collecting import Collected, Collector
from .images import TrainingImages
from .mining import Miner

#: Images of the first round.
FIRST = 16

#: Mining ends when a round over all images finds fewer new examples than this share of those that there are, or after
#: so many such rounds.
FEW, MOST_ROUNDS = 0.01, 10


def mine_in_rounds(
    miner: Miner, order: Sequence[int], keep: Callable[[], object], report: Callable[[str], None]
) -> None:
    """Collect the windows of all images for the SVMs of a miner, and solve them.

    Parameters
    ----------
    miner : Miner
        New, or restored to the state that a call of ``keep`` has stored; ``complete`` at the end. Its ``visited``
        counts visits.
    order : sequence of int
        The images; the first ones in it are the first to be visited.
    keep : callable
        Called after each round.
    report : callable
        Called with a line of text for each round.
    """
    images = miner.images
    if miner.visited == 0:
        for index, found in images.each(_first_of, miner.collector, order):
            miner.add(index, found)
        miner.fit()
    while not miner.complete:
        begin, end = miner.visited, min(len(order), max(FIRST, 2 * miner.visited))
        whole = begin >= len(order)
        indices = order if whole else order[begin:end]
        new, had = _round(miner, indices, report)
        miner.visited += len(indices)
        miner.complete = whole and (new <= FEW * had or miner.visited >= (1 + MOST_ROUNDS) * len(order))
        keep()


def _round(miner: Miner, indices: Sequence[int], report: Callable[[str], None]) -> tuple[int, int]:
    """Visit some images with the same planes and solve; returns the numbers of new examples and of those before."""
    had, new, size = _examples(miner), 0, 0
    for index, found in miner.images.each(
        _hard_of, (miner.collector, miner.hyperplanes()), indices, _known(miner, indices)
    ):
        miner.add(index, found)
        new += sum(len(rows) for rows, _, _ in found.examples)
        size += found.rows.nbytes
    miner.fit()
    report(f"a round of {len(indices)} images: {new} new hard negatives of {had + new}, {size / 1e6:.0f} MB")
    return new, had


def _examples(miner: Miner) -> int:
    return sum(len(machine.members) for machine in miner.machines)


def _known(miner: Miner, indices: Sequence[int]) -> dict[int, Array]:
    """For each image its negatives that the SVMs have: class, scale and cells, int32 (K, 2 + 4 * grids)."""
    rows = [machine.members[machine.signs < 0] for machine in miner.machines]
    label = np.repeat(np.arange(len(rows), dtype=np.int32), list(map(len, rows)))
    origin = miner.origin[np.concatenate(rows)]
    every = np.column_stack([label, origin[:, 1:]])
    order = np.argsort(origin[:, 0], kind="stable")
    sorted_by_image, owner = every[order], origin[order, 0]
    wanted = np.asarray(indices)
    starts, ends = np.searchsorted(owner, wanted), np.searchsorted(owner, wanted, side="right")
    return {index: sorted_by_image[start:end] for index, start, end in zip(indices, starts, ends, strict=True)}


def _first_of(images: TrainingImages, place: int, index: int, maps: Any, collector: Collector, own: None) -> Collected:
    return collector.first(images, place, index, maps)


def _hard_of(
    images: TrainingImages,
    place: int,
    index: int,
    maps: Any,
    common: tuple[Collector, tuple[Array, Array]],
    known: Array,
) -> Collected:
    collector, planes = common
    return collector.hard(images, place, maps, planes, known)
