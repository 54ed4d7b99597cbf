"""Why detections are wrong, what each kind of mistake costs, which objects are missed, and what for what was taken.

Kinds as in TIDE (Bolya et al., "TIDE: A general toolbox for identifying object detection errors", ECCV 2020), which
refines Hoiem et al., "Diagnosing error in object detectors", ECCV 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.arrays import Array
from ..data.boxes import MEDIUM, SMALL, area, iou
from ..data.detections import Detections
from ..data.sample import Sample
from .voc_ap import Judged, judge_voc

#: Kinds of wrong detections: of an object that a better one has found; of an object of its class, but in the wrong
#: place (IoU of at least :data:`NEAR`); in the place of an object of another class; near one of another class; of none.
KINDS = ("duplicate", "wrong place", "other class", "other class, wrong place", "background")
DUPLICATE, PLACE, CLASS, BOTH, BACKGROUND = range(5)

#: What missed objects are called among the kinds.
MISSED = "missed"

#: IoU with an object from which a wrong detection is about that object.
NEAR = 0.1


@dataclass(frozen=True, eq=False)
class Explained:
    """Detections of one class with the kind of each mistake.

    Attributes
    ----------
    judged : Judged
    kinds : int64 array (N,)
        Index into :data:`KINDS` of each detection; -1 for the right ones.
    objects : int64 array (N,)
        Number of the object that each detection is about, of all objects of all images in their order; -1 for
        background.
    """

    judged: Judged
    kinds: Array
    objects: Array

    def above(self, levels: Array, threshold: float) -> Explained:
        """Those whose level (N,), a probability or score, is above a threshold."""
        kept = levels > threshold
        one = self.judged
        judged = replace(
            one, scores=one.scores[kept], right=one.right[kept], images=one.images[kept], places=one.places[kept]
        )
        return Explained(judged, self.kinds[kept], self.objects[kept])


def explain(
    detections: Sequence[Detections], samples: Sequence[Sample], class_names: Sequence[str], min_iou: float = 0.5
) -> list[Explained]:
    """Say of each detection that is wrong why it is.

    Parameters
    ----------
    detections : sequence of Detections
        One per sample, with the classes ``class_names``.
    samples : sequence of Sample
    class_names : sequence of str
        The names that labels of both index.
    min_iou : float
        Lowest IoU of a right detection.

    Returns
    -------
    list of Explained
        One per class. Detections of difficult objects are neither right nor wrong and are left out.
    """
    overlaps = [
        iou(found.boxes.astype(np.float64), sample.boxes.astype(np.float64))
        for found, sample in zip(detections, samples, strict=True)
    ]
    first = np.cumsum([0, *(len(sample.boxes) for sample in samples)])
    explained = []
    for label, judged in enumerate(judge_voc(detections, samples, class_names, min_iou=min_iou)):
        kinds = np.full(len(judged.scores), -1, np.int64)
        objects = np.full(len(judged.scores), -1, np.int64)
        for number, (image, place, right) in enumerate(zip(judged.images, judged.places, judged.right, strict=True)):
            kind, about = _reason(overlaps[image][place], samples[image].labels == label, min_iou)
            kinds[number] = -1 if right else kind
            objects[number] = -1 if about is None else first[image] + about
        explained.append(Explained(judged, kinds, objects))
    return explained


def _reason(overlaps: Array, same: Array, min_iou: float) -> tuple[int, int | None]:
    """Kind of a detection with these IoUs (M,) that is not right, and the object that it is about."""
    own = int(np.argmax(np.where(same, overlaps, -1))) if same.any() else None
    other = int(np.argmax(np.where(same, -1, overlaps))) if not same.all() else None
    if own is not None and overlaps[own] >= NEAR:
        return (DUPLICATE if overlaps[own] >= min_iou else PLACE), own
    if other is not None and overlaps[other] >= NEAR:
        return (CLASS if overlaps[other] >= min_iou else BOTH), other
    return BACKGROUND, None


def costs(explained: Sequence[Explained], samples: Sequence[Sample]) -> dict[str, float]:
    """Mean area AP that the detector would gain without the mistakes of one kind (TIDE, section 2.3).

    Detections that are in the wrong place, or of another class, are put right, unless their object is found already;
    the others are removed. Objects that nothing is about count no more, as the cost of :data:`MISSED`.

    Parameters
    ----------
    explained : sequence of Explained
        One per class, of all detections.
    samples : sequence of Sample

    Returns
    -------
    dict of str to float
        For each of :data:`KINDS`, and :data:`MISSED`; without objects NaN.
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)])
    difficult = np.concatenate([np.zeros(0, bool), *(sample.difficult for sample in samples)])
    start = _mean_ap([_ap(one.judged.scores, one.judged.right, one.judged.positives) for one in explained])
    gains = {}
    for kind, name in enumerate(KINDS):
        mended = [_without(one, kind) for one in explained]
        if kind in (PLACE, CLASS):
            repairs = [
                (float(one.judged.scores[number]), int(one.objects[number]))
                for one in explained
                for number in np.flatnonzero(one.kinds == kind)
            ]
            # The best first: of two for one object the better one stays.
            for score, about in sorted(repairs, key=lambda repair: -repair[0]):
                if not difficult[about]:
                    mended[labels[about]].put_right(score, about)
        aps = [one.ap(explained[label].judged.positives) for label, one in enumerate(mended)]
        gains[name] = _mean_ap(aps) - start
    told = set().union(*(set(one.objects[np.isin(one.kinds, (-1, PLACE, CLASS))].tolist()) for one in explained))
    aps = []
    for label, one in enumerate(explained):
        own = np.flatnonzero((labels == label) & ~difficult)
        missed = sum(int(number) not in told for number in own)
        aps.append(_ap(one.judged.scores, one.judged.right, one.judged.positives - missed))
    gains[MISSED] = _mean_ap(aps) - start
    return gains


@dataclass
class _Mended:
    """Detections of one class after a repair."""

    scores: list[float]
    right: list[bool]
    found: set[int]

    def put_right(self, score: float, about: int) -> None:
        """Add a right detection, unless its object is found already."""
        if about not in self.found:
            self.found.add(about)
            self.scores.append(score)
            self.right.append(True)

    def ap(self, positives: int) -> float:
        order = np.argsort(-np.array(self.scores), kind="stable")
        return _ap(np.array(self.scores)[order], np.array(self.right, bool)[order], positives)


def _without(one: Explained, kind: int) -> _Mended:
    stays = one.kinds != kind
    found = set(one.objects[one.judged.right].tolist())
    return _Mended(one.judged.scores[stays].tolist(), one.judged.right[stays].tolist(), found)


def _ap(scores: Array, right: Array, positives: int) -> float:
    nothing = np.zeros(0, np.int64)
    objects = np.array([positives], np.int64)
    return Judged("", objects, scores, right, nothing, nothing).curve().ap("voc")


def _mean_ap(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def missed_objects(explained: Sequence[Explained], samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """Image and index of each object that no detection finds; difficult ones do not count."""
    found = {int(about) for one in explained for about in one.objects[one.judged.right]}
    number, missed = 0, []
    for image, sample in enumerate(samples):
        for place, difficult in enumerate(sample.difficult):
            if not difficult and number not in found:
                missed.append((image, place))
            number += 1
    return missed


def confusion(detections: Sequence[Detections], samples: Sequence[Sample], classes: int, min_iou: float = 0.5) -> Array:
    """What objects were taken for.

    Parameters
    ----------
    detections : sequence of Detections
        Those that are shown, one per sample.
    samples : sequence of Sample
    classes : int
    min_iou : float

    Returns
    -------
    int64 array (classes + 1, classes + 1)
        Row i: objects of class i by the class of the best detection that overlaps them, in the last column those that
        none does. Last row: detections by class that overlap no object. Difficult objects are in no row.
    """
    table = np.zeros((classes + 1, classes + 1), np.int64)
    for found, sample in zip(detections, samples, strict=True):
        overlaps = iou(found.boxes.astype(np.float64), sample.boxes.astype(np.float64)) >= min_iou
        for place, (label, difficult) in enumerate(zip(sample.labels, sample.difficult, strict=True)):
            about = np.flatnonzero(overlaps[:, place])
            taken = found.labels[about[np.argmax(found.scores[about])]] if len(about) else classes
            table[label, taken] += not difficult
        for label in found.labels[~overlaps.any(axis=1)]:
            table[classes, label] += 1
    return table


def recall_by_size(explained: Sequence[Explained], samples: Sequence[Sample], classes: int) -> tuple[Array, Array]:
    """Objects that are found, and all objects, by class and size.

    Returns
    -------
    found, objects : int64 arrays (classes, 3)
        Small (less than 32 x 32 pixels), medium, and large (from 96 x 96) ones, as COCO has it; without difficult ones.
    """
    boxes = np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in samples)])
    labels = np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)])
    counted = ~np.concatenate([np.zeros(0, bool), *(sample.difficult for sample in samples)])
    sizes = np.digitize(area(boxes), (SMALL, MEDIUM))
    is_found = np.zeros(len(boxes), bool)
    for one in explained:
        is_found[one.objects[one.judged.right]] = True
    tables = [np.zeros((classes, 3), np.int64) for _ in range(2)]
    for table, here in zip(tables, (counted & is_found, counted), strict=True):
        np.add.at(table, (labels[here], sizes[here]), 1)
    return tables[0], tables[1]


def to_dict(explained: Sequence[Explained], gains: dict[str, float]) -> dict[str, Any]:
    """Number of mistakes of each kind among these, and what the kind costs, for JSON."""
    kinds = np.concatenate([np.zeros(0, np.int64), *(one.kinds for one in explained)])
    return {
        name: {"count": int((kinds == kind).sum()), "ap_cost": _or_none(gains[name])} for kind, name in enumerate(KINDS)
    } | {MISSED: {"ap_cost": _or_none(gains[MISSED])}}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
