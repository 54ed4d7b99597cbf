"""Average precision as PASCAL VOC defines it: 11-point (2007) and area under the curve (2010 on).

The rules of the VOC development kit:

- Detections of a class are sorted by score over all images, highest first.
- Each is compared with one object: the object of its class that it overlaps most in its
  image. It is right if the IoU is at least 0.5 and the object was not found before;
  otherwise it is wrong. So a second box on the same object is wrong.
- A detection on a "difficult" object counts neither as right nor as wrong.

The kit adds 1 to widths and heights because its corners are 1-based and inclusive; our
half-open boxes have the same areas (see :mod:`sppnet.data.boxes`).

The kit leaves some cases open. Here, among equal scores the earlier image comes first,
and within an image the earlier detection; among equally overlapped objects the first
counts. The eleven recall levels are exactly 0, 1/10, ..., 1; the floating-point steps
of the kit and its Python copies miss a recall of exactly 3/10.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..data.arrays import Array
from ..data.boxes import iou
from ..data.detections import Detections
from ..data.sample import Sample

Metric = Literal["voc07", "voc"]

METRICS: dict[Metric, str] = {"voc07": "VOC07 11-point AP", "voc": "VOC area AP"}


def average_precision(recall: Array, precision: Array, metric: Metric) -> float:
    """Area under a precision-recall curve, by one of VOC's two rules.

    Parameters
    ----------
    recall : float array (N,)
        Non-decreasing, 0 to 1.
    precision : float array (N,)
        Precision of all detections up to that recall.
    metric : {"voc07", "voc"}
        ``voc07``: mean over the recall levels 0, 0.1, ..., 1 of the best precision at
        that recall or a higher one (Everingham et al., IJCV 88, section 4.2).
        ``voc``: area under the same interpolated curve, over all recalls (VOC 2010 kit).

    Returns
    -------
    float
        0 for an empty curve.
    """
    if recall.shape != precision.shape or recall.ndim != 1:
        raise ValueError(
            f"recall and precision must have the same shape (N,), got {recall.shape} and {precision.shape}"
        )
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    # Best precision at this recall or a higher one; 0 beyond the highest recall reached.
    interpolated = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if metric == "voc07":
        levels = np.arange(11) / 10
        return float(interpolated[np.searchsorted(recall, levels, side="left")].mean())
    return float(np.sum(np.diff(recall, prepend=0.0) * interpolated[:-1]))


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision-recall curve of one class.

    Attributes
    ----------
    name : str
        The class.
    positives : int
        Objects to find; difficult objects do not count.
    scores, recall, precision : float64 arrays (N,)
        One entry per detection that is right or wrong, highest score first. Without
        positives ``recall`` is NaN.
    """

    name: str
    positives: int
    scores: Array
    recall: Array
    precision: Array

    def ap(self, metric: Metric) -> float:
        """Average precision; NaN without objects to find."""
        return average_precision(self.recall, self.precision, metric) if self.positives else float("nan")


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections of one class, judged right or wrong, highest score first.

    Detections on difficult objects are neither and are left out.

    Attributes
    ----------
    name : str
        The class.
    objects : int64 array (I,)
        Objects to find in each image; difficult objects do not count.
    scores : float64 array (N,)
    right : bool array (N,)
    images, places : int64 arrays (N,)
        Image index of each detection, and its index among the detections of the image.
    """

    name: str
    objects: Array
    scores: Array
    right: Array
    images: Array
    places: Array

    @property
    def positives(self) -> int:
        """Objects to find in all images."""
        return int(self.objects.sum())

    def among(self, images: Array) -> Judged:
        """Restrict to some images, given by a mask (I,); image indices do not change."""
        here = images[self.images]
        found = (self.scores[here], self.right[here], self.images[here], self.places[here])
        return Judged(self.name, np.where(images, self.objects, 0), *found)

    def curve(self) -> PrecisionRecall:
        """Precision and recall of the first detection, the first two, and so on."""
        found, positives = np.cumsum(self.right), self.positives
        recall = found / positives if positives else np.full(len(found), np.nan)
        return PrecisionRecall(self.name, positives, self.scores, recall, found / np.arange(1, len(found) + 1))


@dataclass(frozen=True, eq=False)
class VOCResult:
    """Curves and average precisions of all scored classes."""

    curves: tuple[PrecisionRecall, ...]

    @property
    def unscored(self) -> tuple[str, ...]:
        """Classes without objects that count; they have no AP and are not in the mean."""
        return tuple(curve.name for curve in self.curves if curve.positives == 0)

    def ap(self, metric: Metric) -> dict[str, float]:
        """AP of each class, NaN for those in :attr:`unscored`."""
        return {curve.name: curve.ap(metric) for curve in self.curves}

    def mean_ap(self, metric: Metric) -> float:
        """Mean AP over the classes that have one; NaN when none has."""
        scored = [curve.ap(metric) for curve in self.curves if curve.positives]
        return float(np.mean(scored)) if scored else float("nan")

    def to_dict(self, metric: Metric) -> dict[str, Any]:
        """``{"map": ..., "ap": {class: ...}}`` for JSON, with None for NaN."""
        values = {name: None if np.isnan(ap) else ap for name, ap in self.ap(metric).items()}
        mean = self.mean_ap(metric)
        return {"map": None if np.isnan(mean) else mean, "ap": values}


def precision_recall(
    boxes: Sequence[Array],
    scores: Sequence[Array],
    truths: Sequence[Array],
    difficult: Sequence[Array],
    min_iou: float = 0.5,
    name: str = "",
) -> PrecisionRecall:
    """Precision-recall curve of one class over a set of images.

    Parameters and errors are those of :func:`judge`.
    """
    return judge(boxes, scores, truths, difficult, min_iou, name).curve()


def judge(
    boxes: Sequence[Array],
    scores: Sequence[Array],
    truths: Sequence[Array],
    difficult: Sequence[Array],
    min_iou: float = 0.5,
    name: str = "",
) -> Judged:
    """Judge which detections of one class over a set of images are right.

    Parameters
    ----------
    boxes, scores : sequences of float arrays (N_i, 4) and (N_i,)
        Detections of the class in each image, in any order.
    truths, difficult : sequences of a float array (M_i, 4) and a bool array (M_i,)
        Objects of the class in each image.
    min_iou : float
        Lowest IoU of a right detection.
    name : str
        Name of the class, for the result.

    Raises
    ------
    ValueError
        When the sequences differ in length or a score is NaN.
    """
    if not len(boxes) == len(scores) == len(truths) == len(difficult):
        raise ValueError(
            "expected one entry for each image, got "
            f"{len(boxes)} boxes, {len(scores)} scores, {len(truths)} truths, {len(difficult)} difficult"
        )
    # The object that a detection is compared with does not depend on the other detections. So find it image by image,
    # number the objects of all images, then judge all images at once.
    is_difficult = np.concatenate([np.zeros(0, bool), *difficult])
    target = np.concatenate([np.zeros(0, np.int64), *_targets(boxes, truths, min_iou)])
    score = np.concatenate([np.zeros(0), *scores]).astype(np.float64)
    if np.isnan(score).any():
        raise ValueError(f"scores must be numbers, got {int(np.isnan(score).sum())} NaN among {len(score)}")

    image = np.repeat(np.arange(len(boxes)), [len(found) for found in boxes])
    place = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(found)) for found in boxes)])

    order = np.argsort(-score, kind="stable")
    target = target[order]
    hit = target >= 0
    counted = ~hit
    counted[hit] = ~is_difficult[target[hit]]
    order, target, hit = order[counted], target[counted], hit[counted]

    right = np.zeros(len(target), bool)
    _, first = np.unique(target, return_index=True)
    right[first] = hit[first]
    objects = np.array([np.count_nonzero(~flags) for flags in difficult], np.int64)
    return Judged(name, objects, score[order], right, image[order], place[order])


def _targets(boxes: Sequence[Array], truths: Sequence[Array], min_iou: float) -> list[Array]:
    """For each image, the index of the object that each detection overlaps most; -1 if the IoU is too small."""
    targets = []
    first_number = 0
    for found, truth in zip(boxes, truths, strict=True):
        target = np.full(len(found), -1, np.int64)
        if len(found) and len(truth):
            # In float64, because rounding must not change an IoU of exactly one half.
            overlap = iou(found.astype(np.float64), truth.astype(np.float64))
            best = overlap.argmax(axis=1)
            enough = overlap[np.arange(len(found)), best] >= min_iou
            target[enough] = first_number + best[enough]
        targets.append(target)
        first_number += len(truth)
    return targets


def evaluate_voc(
    detections: Sequence[Detections],
    samples: Iterable[Sample],
    class_names: Sequence[str],
    classes: Sequence[str] | None = None,
    min_iou: float = 0.5,
) -> VOCResult:
    """Score detections on labelled images, class by class.

    Parameters and errors are those of :func:`judge_voc`.
    """
    judged = judge_voc(detections, samples, class_names, classes, min_iou)
    return VOCResult(tuple(of_class.curve() for of_class in judged))


def judge_voc(
    detections: Sequence[Detections],
    samples: Iterable[Sample],
    class_names: Sequence[str],
    classes: Sequence[str] | None = None,
    min_iou: float = 0.5,
) -> list[Judged]:
    """Judge which detections on labelled images are right, class by class.

    Parameters
    ----------
    detections : sequence of Detections
        One per sample, in the same order. Classes are matched by name, so a detector may
        have them in another order, or have more or fewer classes.
    samples : iterable of Sample
        Only boxes, labels and difficult flags are used; images are not read.
    class_names : sequence of str
        The dataset's ``class_names``, which the samples' labels index.
    classes : sequence of str, optional
        Classes to score; by default all of ``class_names``. A class that the detector does
        not have has an AP of 0: all its objects are missed.
    min_iou : float
        Lowest IoU of a right detection.

    Returns
    -------
    list of Judged
        One per class; their ``places`` are indices into each image's ``detections``.

    Raises
    ------
    ValueError
        When the numbers of detections and samples differ, or ``classes`` has an unknown name.
    """
    samples = list(samples)
    if len(detections) != len(samples):
        raise ValueError(f"expected one Detections for each of {len(samples)} samples, got {len(detections)}")
    judged = []
    for name in class_names if classes is None else classes:
        if name not in class_names:
            raise ValueError(f"cannot score class {name!r}: the samples have {', '.join(class_names)}")
        label = list(class_names).index(name)
        rows = [np.flatnonzero(found.labels == _index(found.class_names, name)) for found in detections]
        is_class = [sample.labels == label for sample in samples]
        of_class = judge(
            [found.boxes[here] for found, here in zip(detections, rows, strict=True)],
            [found.scores[here] for found, here in zip(detections, rows, strict=True)],
            [sample.boxes[mask] for sample, mask in zip(samples, is_class, strict=True)],
            [sample.difficult[mask] for sample, mask in zip(samples, is_class, strict=True)],
            min_iou,
            name,
        )
        # Convert indices among the class's detections of an image to indices among all of them.
        first = np.cumsum([0, *map(len, rows)])[of_class.images]
        places = np.concatenate([np.zeros(0, np.int64), *rows])[first + of_class.places]
        judged.append(replace(of_class, places=places))
    return judged


def _index(class_names: Sequence[str], name: str) -> int:
    return class_names.index(name) if name in class_names else -1
