"""Which photographs a detector is scored on: folds, or one held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from ...data.arrays import Array
from ...data.near_duplicates import duplicate_groups
from ...data.sample import Sample
from ..options import FOLDS, HELD_OUT, TrainOptions


@dataclass(frozen=True)
class Split:
    """Parts of the images; each is scored by a model that has not learnt from it.

    Attributes
    ----------
    order : tuple of int
        All images, in the order in which hard negatives are collected.
    parts : tuple of tuples of int
        K folds, which together are all images; or one held-out part; or none.
    """

    order: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...] = ()

    @property
    def scored(self) -> tuple[int, ...]:
        """The images of all parts."""
        return tuple(index for part in self.parts for index in part)

    @property
    def learnt(self) -> tuple[int, ...]:
        """The images of no part."""
        scored = set(self.scored)
        return tuple(index for index in self.order if index not in scored)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of images of the parts."""
        return tuple(map(len, self.parts))

    def limited(self, most: int) -> Split:
        """The same order, and of each part the first images, so that they are ``most`` in all, or a few more."""
        share = min(1.0, most / max(1, len(self.scored)))
        return Split(self.order, tuple(part[: ceil(share * len(part))] for part in self.parts))

    def smaller(self, share: float, seed: int) -> list[tuple[int, ...]]:
        """What models leave out that learn from a random share of the images that are not in their part."""
        left_out = []
        for part in self.parts:
            inside = set(part)
            others = [index for index in self.order if index not in inside]
            # A larger share has all images of a smaller one.
            shuffled = np.random.default_rng([seed, len(others)]).permutation(others).tolist()
            left_out.append((*part, *shuffled[max(1, round(share * len(others))) :]))
        return left_out

    @classmethod
    def held_out(cls, count: int, share: float, seed: int) -> Split:
        """Hold out a random share of ``count`` images, but never all; they are the last in the order."""
        order = np.random.default_rng([seed, count]).permutation(count).tolist()
        number = min(count - 1, round(count * share)) if count > 1 else 0
        return cls(tuple(order), (tuple(order[count - number :]),) if number else ())

    @classmethod
    def folds(cls, shown: Array, groups: Array, folds: int, seed: int) -> Split:
        """Make folds that show each class about equally often.

        The rarest class that is left comes first, and each image that shows it goes to the fold that lacks it most
        (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data", ECML 2011).

        Parameters
        ----------
        shown : bool array (N, classes)
            Which classes each image shows.
        groups : int array (N,)
            Images with the same number stay together.
        folds : int
            At least 2; no more than groups are made.
        seed : int

        Returns
        -------
        Split
            Without parts when there are fewer than two groups.
        """
        rng = np.random.default_rng([seed, len(shown)])
        order = tuple(rng.permutation(len(shown)).tolist())
        names = np.unique(groups)
        folds = min(folds, len(names))
        if folds < 2:
            return cls(order)
        # Images without an object count as one more class, the most frequent one, so that all folds are equally large.
        columns = np.concatenate([shown, np.ones((len(shown), 1), bool)], axis=1)
        table = np.stack([columns[groups == name].sum(axis=0) for name in names])
        lacking = np.tile(table.sum(axis=0) / folds, (folds, 1))
        fold_of = np.full(len(names), -1)
        left = rng.permutation(len(names))
        while len(left):
            remaining = table[left].sum(axis=0)
            rarest = int(np.argmin(np.where(remaining > 0, remaining, np.inf)))
            showing = left[table[left, rarest] > 0]
            # Large groups first: small ones fill the gaps.
            for group in showing[np.argsort(-table[showing, rarest], kind="stable")]:
                most = np.flatnonzero(lacking[:, rarest] == lacking[:, rarest].max())
                fold = most[np.argmax(lacking[most, -1])]
                fold_of[group] = fold
                lacking[fold] -= table[group]
            left = left[table[left, rarest] == 0]
        of_image = fold_of[np.searchsorted(names, groups)]
        return cls(order, tuple(tuple(i for i in order if of_image[i] == fold) for fold in range(folds)))


def choose_split(samples: Sequence[Sample], classes: int, options: TrainOptions, folded: bool) -> Split:
    """Folds, or one held-out part.

    Near duplicates stay in the same fold.

    Parameters
    ----------
    samples : sequence of Sample
    classes : int
    options : TrainOptions
    folded : bool
        Whether there are folds (:meth:`.plan.TrainPlan.folded`).
    """
    if not folded:
        return Split.held_out(len(samples), HELD_OUT if options.held_out is None else options.held_out, options.seed)
    shown = np.stack([np.isin(np.arange(classes), sample.labels[~sample.difficult]) for sample in samples])
    groups = duplicate_groups([sample.path for sample in samples])
    return Split.folds(shown, groups, options.folds or FOLDS, options.seed)
