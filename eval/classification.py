"""Scores of a classifier: accuracy if each image shows one class, average precision if it may show several.

Ties count against the classifier: a class with the same score as the true one is ranked before it. So a classifier
that gives every class the same score is never right. (scikit-learn's accuracies are the same without ties; with ties
they depend on the order of the classes.) Among images of equal score the earlier image comes first, as in
:mod:`sppnet.eval.voc_ap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.arrays import Array
from .report import text_table
from .voc_ap import METRICS, PrecisionRecall, VOCResult


def top_k_accuracy(scores: Array, labels: Array, k: int) -> float:
    """Share of the images whose class is among the ``k`` highest scores.

    Parameters
    ----------
    scores : float array (N, C)
    labels : int array (N,)
        The class of each image, 0 to C - 1.
    k : int
        At least 1; with C or more every image is right.

    Returns
    -------
    float
        NaN without images.

    Raises
    ------
    ValueError
        When shapes do not fit, a score is NaN, a label is no class or ``k`` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return _mean(_rivals(scores, labels) < k)


def mean_class_accuracy(scores: Array, labels: Array) -> float:
    """Mean over the classes of the share of their images that are right; classes without images do not count.

    Caltech101's measure: large classes weigh no more than small ones (Fei-Fei et al., 2004). An image is right when
    its class is scored highest.

    Parameters
    ----------
    scores : float array (N, C)
    labels : int array (N,)

    Returns
    -------
    float
        NaN without images.

    Raises
    ------
    ValueError
        As :func:`top_k_accuracy`.
    """
    right = _rivals(scores, labels) == 0
    images = np.bincount(labels)
    occurring = images > 0
    return _mean(np.bincount(labels, weights=right)[occurring] / images[occurring])


def classification_ap(scores: Array, targets: Array, class_names: Sequence[str]) -> VOCResult:
    """Average precision of each class over a set of images (PASCAL VOC's classification task).

    Parameters
    ----------
    scores : float array (N, C)
    targets : int array (N, C)
        1 if the image shows the class, 0 if it does not, -1 if the class's curve ignores the image.
    class_names : sequence of C str

    Returns
    -------
    VOCResult
        Its objects and detections are images here.

    Raises
    ------
    ValueError
        When shapes do not fit, a score is NaN, or a target is not 1, 0 or -1.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or scores.shape != targets.shape or scores.shape[1] != len(class_names):
        raise ValueError(
            f"scores and targets must have shape (N, {len(class_names)}), got {scores.shape} and {targets.shape}"
        )
    _check_numbers(scores)
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError(f"targets must be 1, 0 or -1, got {np.unique(targets)}")
    return VOCResult(tuple(_curve(scores[:, index], targets[:, index], name) for index, name in enumerate(class_names)))


def _curve(scores: Array, targets: Array, name: str) -> PrecisionRecall:
    counted = targets >= 0
    score, shown = scores[counted].astype(np.float64), targets[counted] == 1
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(shown[order])
    positives = int(shown.sum())
    recall = found / positives if positives else np.full(len(found), np.nan)
    return PrecisionRecall(name, positives, score[order], recall, found / np.arange(1, len(found) + 1))


@dataclass(frozen=True, eq=False)
class SingleLabelResult:
    """Results of a classifier on images that show one class each.

    Attributes
    ----------
    class_names : tuple of str
    confusion : int64 array (C, C)
        Images of each class (rows) by the predicted class (columns), the one with the highest score; in a tie with the
        true class, the first of the other classes.
    top5 : float
        Share of the images whose class is among the five highest scores. NaN without images.
    """

    class_names: tuple[str, ...]
    confusion: Array
    top5: float

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of the images whose class has the highest score; NaN without images."""
        return float(np.trace(self.confusion)) / self.images if self.images else float("nan")

    @property
    def accuracies(self) -> dict[str, float]:
        """Share of the images of each class that are right; NaN for a class without images."""
        images = self.confusion.sum(axis=1)
        return {
            name: float(self.confusion[index, index] / images[index]) if images[index] else float("nan")
            for index, name in enumerate(self.class_names)
        }

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have images; NaN without images."""
        return _mean(np.array([value for value in self.accuracies.values() if not np.isnan(value)]))

    def confused_pairs(self, n: int) -> list[tuple[str, str, int]]:
        """The ``n`` most frequent errors as (true class, predicted class, images); ties in the order of the classes."""
        errors = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-errors, axis=None, kind="stable")[:n]
        pairs = np.stack(np.unravel_index(order, errors.shape), axis=1)
        return [
            (self.class_names[true], self.class_names[predicted], int(errors[true, predicted]))
            for true, predicted in pairs
            if errors[true, predicted]
        ]

    def to_dict(self) -> dict[str, Any]:
        """``{"images", "top1", "top5", "mean_class", "accuracy": {class: ...}}`` for JSON; None stands for NaN."""
        return {
            "images": self.images,
            "top1": _or_none(self.top1),
            "top5": _or_none(self.top5),
            "mean_class": _or_none(self.mean_class),
            "accuracy": {name: _or_none(value) for name, value in self.accuracies.items()},
        }


def evaluate_single(scores: Array, labels: Array, class_names: Sequence[str]) -> SingleLabelResult:
    """Score a classifier on images that show one class each.

    Parameters
    ----------
    scores : float array (N, C)
    labels : int array (N,)
        The class of each image, 0 to C - 1.
    class_names : sequence of C str

    Raises
    ------
    ValueError
        When shapes do not fit, a score is NaN or a label is no class.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] != len(class_names):
        raise ValueError(f"scores must have shape (N, {len(class_names)}), got {scores.shape}")
    top5 = top_k_accuracy(scores, labels, 5)
    confusion = np.zeros((len(class_names), len(class_names)), np.int64)
    np.add.at(confusion, (labels, _predicted(scores, labels)), 1)
    return SingleLabelResult(tuple(class_names), confusion, top5)


def classification_table(result: SingleLabelResult | VOCResult) -> str:
    """Table of the scores of each class with their mean, and a line that names classes without images.

    A single-label result also shows the scores on the whole set and the five most frequent errors. A multi-label
    result shows AP by both of VOC's rules.
    """
    if isinstance(result, VOCResult):
        counts = [curve.positives for curve in result.curves]
        rows: list[list[Any]] = [
            [curve.name, curve.positives, *(curve.ap(metric) for metric in METRICS)] for curve in result.curves
        ]
        rows.append(["mean", sum(counts), *(result.mean_ap(metric) for metric in METRICS)])
        return text_table(["class", "images", *METRICS.values()], rows) + _without_images(result.unscored)
    images = result.confusion.sum(axis=1).tolist()
    rows = [[name, count, accuracy] for (name, accuracy), count in zip(result.accuracies.items(), images, strict=True)]
    rows.append(["mean", result.images, result.mean_class])
    absent = [name for name, count in zip(result.class_names, images, strict=True) if not count]
    parts = [
        text_table(["class", "images", "accuracy"], rows) + _without_images(absent),
        text_table(
            ["accuracy over all images", "value"],
            [["top-1", result.top1], [f"top-{min(5, len(result.class_names))}", result.top5]],
        ),
    ]
    if pairs := result.confused_pairs(5):
        parts.append(text_table(["class", "taken for", "images"], pairs))
    return "\n\n".join(parts)


def _without_images(names: Sequence[str]) -> str:
    return f"\nnot in the mean (no images): {', '.join(names)}" if names else ""


def _rivals(scores: Array, labels: Array) -> Array:
    """Number of other classes that score at least as high as the true one, int64 (N,)."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores and labels must have shapes (N, C) and (N,), got {scores.shape} and {labels.shape}")
    _check_numbers(scores)
    if labels.size and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ValueError(f"labels must be 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)
    return np.count_nonzero(scores >= own, axis=1) - 1


def _predicted(scores: Array, labels: Array) -> Array:
    """Predicted class of each image, int64 (N,): the true one only if no other score is as high."""
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")
    others = order[order != np.asarray(labels)[:, None]].reshape(len(scores), max(scores.shape[1] - 1, 0))
    return np.where(_rivals(scores, labels) == 0, labels, others[:, 0] if others.size else labels)


def _check_numbers(scores: Array) -> None:
    if missing := int(np.isnan(scores).sum()):
        raise ValueError(f"scores must be numbers, got {missing} NaN among {scores.size}")


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
