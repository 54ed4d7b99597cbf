"""SVMs on a network's features of a new data set, by the protocols of VOC07 and Caltech101 (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any, Literal

import numpy as np

from ...data.arrays import Array
from ...data.errors import InputError
from ...data.labelled import LabelledImage, LabelledImages
from ...data.progress import log, warn
from ...eval.classification import classification_ap, mean_class_accuracy
from ...eval.report import text_table
from ..convolutions.backbone import Backbone
from ..head.head import Head
from ..learners.gram import gram_matrix
from ..learners.one_vs_rest import MAX_GRAM_ROWS, OneVsRest, choose, random_splits
from .representation import Representation, represent_all

Protocol = Literal["caltech101", "voc07"]

PROTOCOLS: dict[Protocol, str] = {"caltech101": "mean class accuracy", "voc07": "VOC07 11-point mAP"}


@dataclass(frozen=True)
class Candidate:
    """A scale and a C, with their held-out score."""

    scale: int
    C: float
    held_out: float


@dataclass(frozen=True)
class TransferResult:
    """Scores of a representation.

    Attributes
    ----------
    chosen : Candidate
        Best candidate; the first of equally good ones.
    candidates : tuple of Candidate
    test : float or None
        Score on the test photographs; NaN when none could be read, None when there are none.
    splits : tuple of float
        Scores on random splits.
    inexact : int
        Number of SVMs of the chosen candidate that did not converge.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    test: float | None
    splits: tuple[float, ...]
    inexact: int

    @property
    def mean(self) -> float | None:
        """Mean score of the splits; None without splits."""
        return float(np.mean(self.splits)) if self.splits else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the splits (divided by N, not N - 1); None without splits."""
        return float(np.std(self.splits)) if self.splits else None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-like dict, with None for NaN."""
        test = None if self.test is None or isnan(self.test) else self.test
        return {**asdict(self), "test": test, "mean": self.mean, "deviation": self.deviation}


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows (N, width) of the readable photographs, and their targets (N, classes)."""

    rows: Array
    targets: Array


class Transfer:
    """SVMs on representations of a set of photographs; scale and C are chosen on a held-out set.

    Parameters
    ----------
    backbone, head
        As in :func:`.representation.represent`.
    images : LabelledImages
        Photographs to train on.
    protocol : {"caltech101", "voc07"}
        Score: mean class accuracy, or the mean 11-point average precision.
    held_out : float
        Share of the photographs on which scale and C are chosen, more than 0 and less than 1.
    seed : int
        Seed of the held-out set and the random splits.
    quiet : bool
        No progress and no table of candidates on stderr.

    Attributes
    ----------
    failed : dict from str to str
        Error message of each photograph that could not be read so far, by name. They are left out.

    Raises
    ------
    InputError
        When photographs have several labels and the protocol is "caltech101", or there are too few for a held-out set.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head | None,
        images: LabelledImages,
        protocol: Protocol,
        held_out: float = 0.2,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
        if images.multi_label and protocol == "caltech101":
            raise InputError("the protocol caltech101 is for photographs of one label each, not of several")
        self.backbone, self.head, self.protocol, self.seed, self.quiet = backbone, head, protocol, seed, quiet
        self.class_names = images.class_names
        self._learnt, self._held_out = images.split(held_out, seed)
        if not len(self._held_out) or not len(self._learnt):
            raise InputError(f"{len(images)} photographs are too few to hold {held_out:g} of them out")
        self.failed: dict[str, str] = {}

    def run(
        self,
        options: Sequence[Representation],
        costs: Sequence[float],
        test: LabelledImages | None = None,
        splits: int = 0,
        per_class: tuple[int, int] = (30, 50),
    ) -> TransferResult:
        """Choose scale and C, train and score.

        Parameters
        ----------
        options : sequence of Representation
            Candidates, which differ in scale.
        costs : sequence of float
            Candidates for C.
        test : LabelledImages, optional
            Test set, with the same classes; it is read after the choice.
        splits : int
            Number of random splits (:func:`.random_splits`) of all photographs, including ``test``; each is trained
            and scored with the chosen scale and C.
        per_class : (train, test)
            Photographs of a class in each part of a split.

        Raises
        ------
        InputError
            When the held-out photographs give no score, or splits are asked for and photographs have several labels.
        ValueError
            When ``test`` has other classes.
        """
        if test is not None and test.class_names != self.class_names:
            raise ValueError(f"test must have the classes {self.class_names}, not {test.class_names}")
        if splits and self._learnt.multi_label:
            raise InputError("random splits are for photographs of one label each, not of several")
        chosen, known, gram, candidates = self._choose(options, costs)
        representation = next(option for option in options if option.scale == chosen.scale)
        svm = OneVsRest(C=chosen.C, seed=self.seed).fit(known.rows, known.targets, gram)
        scored = None
        if test is not None:
            of_test, _ = self._represent(representation, list(test), test.targets)
            scored = self._score(svm.decision_function(of_test.rows), of_test.targets)
            if splits:
                known, gram = _joined(known, of_test), None
        of_splits = self._of_splits(known, gram, chosen.C, splits, per_class) if splits else ()
        return TransferResult(chosen, candidates, scored, of_splits, int((~svm.converged_).sum()))

    def _choose(
        self, options: Sequence[Representation], costs: Sequence[float]
    ) -> tuple[Candidate, _Rows, Array | None, tuple[Candidate, ...]]:
        """Return the best candidate, all rows at its scale, their inner products if they fit, and all candidates."""
        images = [*self._learnt, *self._held_out]
        targets = np.concatenate([self._learnt.targets, self._held_out.targets])
        candidates: list[Candidate] = []
        best: tuple[Candidate, _Rows, Array | None] | None = None
        for option in options:
            known, kept = self._represent(option, images, targets)
            count = int(np.count_nonzero(kept < len(self._learnt)))
            gram = gram_matrix(known.rows) if len(known.rows) <= MAX_GRAM_ROWS else None
            found = choose(
                known.rows[:count],
                known.targets[:count],
                known.rows[count:],
                known.targets[count:],
                costs,
                self._score,
                None if gram is None else gram[:count, :count],
            )
            of_scale = [Candidate(option.scale, cost, score) for cost, score in found.items()]
            if any(isnan(candidate.held_out) for candidate in of_scale):
                raise InputError(
                    f"the {len(known.rows) - count} readable held-out photographs show none of the classes: scale and "
                    "C cannot be chosen on them"
                )
            candidates += of_scale
            first = max(of_scale, key=lambda candidate: candidate.held_out)
            if best is None or first.held_out > best[0].held_out:
                best = first, known, gram
        if best is None:
            raise ValueError("options must be one or more representations, not none")
        table = text_table(
            ["scale", "C", "held out"], [[str(each.scale), f"{each.C:g}", each.held_out] for each in candidates]
        )
        log(f"{options[0].view}: {PROTOCOLS[self.protocol]} of the candidates\n{table}", self.quiet)
        return *best, tuple(candidates)

    def _of_splits(
        self, known: _Rows, gram: Array | None, cost: float, splits: int, per_class: tuple[int, int]
    ) -> tuple[float, ...]:
        """Scores of random splits; the inner products are computed once for all."""
        if gram is None and len(known.rows) <= MAX_GRAM_ROWS:
            gram = gram_matrix(known.rows)
        scores = []
        for train, test in random_splits(known.targets.argmax(axis=1), *per_class, splits, self.seed):
            products = None if gram is None else gram[np.ix_(train, train)]
            svm = OneVsRest(C=cost, seed=self.seed).fit(known.rows[train], known.targets[train], products)
            scores.append(self._score(svm.decision_function(known.rows[test]), known.targets[test]))
        return tuple(scores)

    def _represent(
        self, options: Representation, images: Sequence[LabelledImage], targets: Array
    ) -> tuple[_Rows, Array]:
        """Rows of the readable photographs, and their indices, int64 (N,)."""
        rows, failed = represent_all(self.backbone, options, images, self.head, self.quiet)
        for name, message in failed.items():
            if name not in self.failed:
                warn(f"warning: {message}")
        self.failed |= failed
        kept = np.array([index for index, image in enumerate(images) if image.name not in failed], np.int64)
        return _Rows(rows, targets[kept]), kept

    def _score(self, scores: Array, targets: Array) -> float:
        if self.protocol == "voc07":
            return classification_ap(scores, targets, self.class_names).mean_ap("voc07")
        return mean_class_accuracy(scores, targets.argmax(axis=1))


def _joined(first: _Rows, second: _Rows) -> _Rows:
    return _Rows(np.concatenate([first.rows, second.rows]), np.concatenate([first.targets, second.targets]))
