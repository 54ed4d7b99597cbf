"""What goes wrong with a detector, as tables and pictures for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.boxes import area
from ...data.detections import Detections
from ...data.errors import ImageError
from ...eval.mistakes import (
    KINDS,
    MISSED,
    Explained,
    confusion,
    costs,
    explain,
    missed_objects,
    recall_by_size,
)
from ...eval.page import Gallery, Picture, found_boxes
from ...eval.reliability import probabilities_of
from ...eval.voc_ap import VOCResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ...data.sample import Sample

#: Wrong detections of each kind, and missed objects, of which pictures are shown.
SHOWN = 30


class View:
    """Mistakes of a detector as tables and pictures.

    Parameters
    ----------
    found : sequence of Detections
        All of one per sample, at any threshold.
    samples : sequence of Sample
    class_names : tuple of str
        The names that labels of both index.
    thresholds : dict of str to float
        Above which level each class is shown.

    Attributes
    ----------
    result : VOCResult
    explained, visible : list of Explained
        Of all detections, and of those that are shown.
    levels : list of float arrays
        Probabilities, or else scores, of the detections of ``explained``.
    gains : dict of str to float
        What each kind of mistake costs.
    confusion : int array (classes + 1, classes + 1)
        As :func:`.mistakes.confusion` has it.
    found_by_size, objects_by_size : int arrays (classes, 3)
        As :func:`.mistakes.recall_by_size` has them.
    """

    def __init__(
        self,
        found: Sequence[Detections],
        samples: Sequence[Sample],
        class_names: tuple[str, ...],
        thresholds: Mapping[str, float],
    ) -> None:
        self.found, self.samples, self.class_names = found, samples, class_names
        self.explained = explain(found, samples, class_names)
        judged = [one.judged for one in self.explained]
        self.result = VOCResult(tuple(one.curve() for one in judged))
        self.gains = costs(self.explained, samples)
        calibrated = all(one.calibrated for one in found if len(one))
        self.levels = probabilities_of(found, judged) if calibrated else [one.scores for one in judged]
        self.visible = [
            one.above(level, thresholds[one.judged.name])
            for one, level in zip(self.explained, self.levels, strict=True)
        ]
        least = np.array([thresholds[name] for name in class_names], np.float32)
        displayed = [one[_levels(one) > least[one.labels]] for one in found]
        self.confusion = confusion(displayed, samples, len(class_names))
        self.found_by_size, self.objects_by_size = recall_by_size(self.visible, samples, len(class_names))

    def tables(self) -> dict[str, dict[str, Any]]:
        """Kinds of mistakes, confusion of classes, and recall by size, for the templates."""
        return {
            "mistakes": _kinds(self.visible, self.samples, self.gains),
            "confusion": _confusion(self.confusion, self.class_names),
            "sizes": _sizes(self.found_by_size, self.objects_by_size, self.class_names),
        }

    def gallery(self, copy_of: Callable[[Sample, NDArray[np.uint8]], str]) -> Gallery:
        """Pictures of mistakes; ``copy_of`` puts a small copy of a sample's image somewhere and returns its address."""
        names = self.class_names
        pictures = _pictures(self.visible, self.found, self.samples, names, copy_of)
        return Gallery(names, (None,) * len(names), (0.0, 1.0, 0.01), pictures, (*KINDS, MISSED))


def _levels(found: Detections) -> Any:
    return found.probabilities if found.calibrated else found.scores


def accuracy(result: VOCResult, shown: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Table of AP, and of what is shown of each class (:meth:`.shown.Shown.to_dict`), for the templates."""
    header = ["class", "objects", "AP, VOC07", "AP, area", "shown above", "precision", "recall", "F1"]
    rows = [
        [
            curve.name,
            curve.positives,
            _three(curve.ap("voc07")),
            _three(curve.ap("voc")),
            f"{shown[curve.name]['threshold']:.2f}",
            *(_three(shown[curve.name][name]) for name in ("precision", "recall", "f1")),
        ]
        for curve in result.curves
    ]
    total = sum(curve.positives for curve in result.curves)
    foot = ["mean", total, _three(result.mean_ap("voc07")), _three(result.mean_ap("voc")), "", "", "", ""]
    return {"header": header, "rows": rows, "foot": foot}


def _kinds(visible: Sequence[Explained], samples: Sequence[Sample], gains: dict[str, float]) -> dict[str, Any]:
    counts = np.bincount(np.concatenate([one.kinds[one.kinds >= 0] for one in visible]), minlength=len(KINDS))
    what = {
        "duplicate": "of an object that a better one has found",
        "wrong place": "overlaps an object of its class too little (IoU 0.1 to 0.5)",
        "other class": "an object of another class is there",
        "other class, wrong place": "overlaps an object of another class a little",
        "background": "nothing that is labelled is there",
    }
    rows = [[kind, what[kind], int(counts[number]), _three(gains[kind])] for number, kind in enumerate(KINDS)]
    rows.append(
        [MISSED, "no detection of the object is shown", len(missed_objects(visible, samples)), _three(gains[MISSED])]
    )
    return {"header": ["kind", "what is meant", "shown by default", "cost in AP"], "rows": rows}


def _confusion(table: Any, names: Sequence[str]) -> dict[str, Any]:
    header = ["labelled", *names, "not found"]
    rows = [[name, *map(int, row)] for name, row in zip([*names, "no object (IoU below 0.5)"], table, strict=True)]
    rows[-1][-1] = ""
    return {"header": header, "rows": rows}


def _sizes(found: Any, objects: Any, names: Sequence[str]) -> dict[str, Any]:
    def row(name: str, of_class: Any, among: Any) -> list[str]:
        cells = (f"{part} of {whole}" if whole else "-" for part, whole in zip(of_class, among, strict=True))
        return [name, *cells]

    rows = [row(name, *pair) for name, *pair in zip(names, found, objects, strict=True)]
    header = ["class", "small (below 32 x 32 pixels)", "medium", "large (from 96 x 96)"]
    return {"header": header, "rows": rows, "foot": row("all", found.sum(axis=0), objects.sum(axis=0))}


def _pictures(
    visible: Sequence[Explained],
    found: Sequence[Detections],
    samples: Sequence[Sample],
    class_names: tuple[str, ...],
    copy_of: Callable[[Sample, NDArray[np.uint8]], str],
) -> list[Picture]:
    """Pictures of mistakes; their groups are those of :data:`KINDS`, and missed objects."""
    copies: dict[int, tuple[str, int, int] | None] = {}
    pictures: list[Picture] = []

    def add(image: int, boxes: list[list[float]], truth: list[list[float]], group: int, note: str) -> None:
        if image not in copies:
            try:
                pixels = samples[image].image
                copies[image] = copy_of(samples[image], pixels), pixels.shape[1], pixels.shape[0]
            except ImageError:  # named where the photographs are read
                copies[image] = None
        copy = copies[image]
        if copy is not None:
            pictures.append(Picture(samples[image].path.name, *copy, boxes, truth, group, note))

    for kind, name in enumerate(KINDS):
        of_kind = [
            (float(score), int(image), int(place))
            for one in visible
            for score, image, place in zip(
                *(part[one.kinds == kind] for part in (one.judged.scores, one.judged.images, one.judged.places)),
                strict=True,
            )
        ]
        for _, image, place in sorted(of_kind, reverse=True)[:SHOWN]:
            add(image, found_boxes(found[image][place]), truth_boxes(samples[image]), kind, name)
    missed = missed_objects(visible, samples)
    missed.sort(key=lambda one: -area(samples[one[0]].boxes)[one[1]])
    for image, place in missed[:SHOWN]:
        truth = [truth_boxes(samples[image])[place]]
        add(image, [], truth, len(KINDS), f"missed {class_names[samples[image].labels[place]]}")
    return pictures


def truth_boxes(sample: Sample) -> list[list[float]]:
    """Labelled objects as :attr:`.page.Picture.truth` has them."""
    return [
        [int(label), *(round(float(side)) for side in box)]
        for label, box in zip(sample.labels, sample.boxes, strict=True)
    ]


def _three(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"
