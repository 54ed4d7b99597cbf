"""Several detectors as one: all score the same windows; suppression runs over the union of their detections."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...data.arrays import Array
from ...data.boxes import iou
from ...data.detections import Detections
from ...data.errors import InputError, MisuseWarning
from .detector import Detector
from .interface import BaseDetector


class CombinedDetector(BaseDetector):
    """Model combination (paper, section 4.4), used like an :class:`.detector.SPPDetector`.

    Windows are proposed once, with the first detector's method and number, and all detectors score them. Each detector
    applies its own threshold, suppression, cap and box regression. Of the union of the results, what overlaps a better
    result of another detector is suppressed, and the rest is capped for each class, both with the first detector's
    options. The score of a window is the best score of any detector: the score with which it survives suppression over
    the union if nothing else overlaps it.

    A given threshold is compared with probabilities in detectors that have them, with scores in the others. By default
    each detector uses its own thresholds, which were chosen for its scores. So the combination shows what at least one
    detector would show alone; no detector's threshold hides the results of another.

    Scores are compared directly. SVM margins are comparable, because features are scaled to one mean norm before
    training. SVM margins and log-odds of a softmax are only roughly comparable; a line on stderr says so. Scores rank
    detections with probabilities too. Each detection has the probability of its own detector, but only if every
    detector is calibrated.

    Parameters
    ----------
    detectors : sequence of Detector
        At least one. The order of the classes may differ.

    Attributes
    ----------
    detectors : tuple of Detector
    class_names : tuple of str
        Classes, in the order of detection labels and score columns: that of the first detector.

    Raises
    ------
    InputError
        When the detectors have different classes.

    Examples
    --------
    >>> models = ("animals.safetensors", "animals-2.safetensors")
    >>> detector = CombinedDetector([SPPDetector.load(model) for model in models])      # doctest: +SKIP
    >>> found = detector.detect("photo.jpg")                                            # doctest: +SKIP
    """

    def __init__(self, detectors: Sequence[Detector]):
        if not detectors:
            raise ValueError("a combination needs at least one detector, not 0")
        self.detectors = tuple(detectors)
        self.class_names = detectors[0].class_names
        for number, detector in enumerate(detectors[1:], start=2):
            _check_classes(number, self.class_names, detector.class_names)
        scorers = [detector.bundle.scorer for detector in detectors]
        if len(set(scorers)) > 1:
            kinds = ", ".join(f"model {number} {scorer}" for number, scorer in enumerate(scorers, start=1))
            message = f"scores of different kinds are compared directly: {kinds}"
            warnings.warn(message, MisuseWarning, stacklevel=2)

    @property
    def calibrated(self) -> bool:
        """Whether detections have probabilities: true if all detectors are calibrated."""
        return all(detector.calibrated for detector in self.detectors)

    @property
    def device(self) -> torch.device:
        """Device of the first detector."""
        return self.detectors[0].device

    def _smaller_chunks(self) -> bool:
        smaller = [detector._smaller_chunks() for detector in self.detectors]
        return any(smaller)

    def _move(self, device: str | torch.device) -> None:
        for detector in self.detectors:
            detector.to(device)

    def propose(self, image: Array) -> Array:
        """Windows proposed by the first detector, float32 (N, 4), best first."""
        return self.detectors[0].propose(image)

    def maps(self, image: Array) -> tuple[Any, ...]:
        """Result of ``maps`` of each detector for an RGB uint8 image (H, W, 3)."""
        return tuple(detector.maps(image) for detector in self.detectors)

    def maps_of(self, images: Sequence[Array]) -> list[tuple[Any, ...]]:
        """Result of ``maps_of`` of each detector, image by image."""
        return list(zip(*(detector.maps_of(images) for detector in self.detectors), strict=True))

    def score_on(self, maps: tuple[Any, ...], windows: Array) -> Array:
        """Best scores (N, classes) of any detector for windows (N, 4) on the result of :meth:`maps`."""
        scores = []
        for detector, of_detector in zip(self.detectors, maps, strict=True):
            columns = [detector.class_names.index(name) for name in self.class_names]
            scores.append(detector.score_on(of_detector, windows)[:, columns])
        return np.maximum.reduce(scores)

    def detect_on(self, maps: tuple[Any, ...], windows: Array, threshold: float | None = None) -> Detections:
        """Objects that any detector finds among windows (N, 4) on the result of :meth:`maps`."""
        pairs = zip(self.detectors, maps, strict=True)
        found = [detector.detect_on(of_detector, windows, threshold) for detector, of_detector in pairs]
        rules = self.detectors[0].bundle.detection
        return combine(found, rules.nms, rules.max_per_class)


def combine(found: Sequence[Detections], nms: float, max_per_class: int) -> Detections:
    """Union of detections in one image, best first, without those that overlap a better one of another list.

    Within a list nothing is suppressed: each detector has done that, before its boxes voted.

    Parameters
    ----------
    found : sequence of Detections
        At least one, with the same classes in any order. Among equal scores the earlier list comes first.
    nms : float
        IoU above which the lower-scoring of two boxes of a class from different lists is removed.
    max_per_class : int
        Most detections per class.

    Returns
    -------
    Detections
        With the classes in the order of the first list.
    """
    names = found[0].class_names
    union = Detections.concatenate([_relabelled(part, names) for part in found])
    source = np.repeat(np.arange(len(found)), [len(part) for part in found])
    order = np.argsort(-union.scores, kind="stable")
    union, source = union[order], source[order]
    kept = [np.zeros(0, np.int64)]
    for label in range(len(names)):
        rows = np.flatnonzero(union.labels == label)
        boxes = union.boxes[rows].astype(np.float64)
        rivals = (iou(boxes, boxes) > nms) & (source[rows][:, None] != source[rows])
        stays = np.ones(len(rows), bool)
        for row in range(len(rows)):
            if stays[row]:
                stays[row + 1 :] &= ~rivals[row, row + 1 :]
        kept.append(rows[stays][:max_per_class])
    return union[np.sort(np.concatenate(kept))]


def _relabelled(found: Detections, names: tuple[str, ...]) -> Detections:
    """The same detections, with their classes in the order of ``names``."""
    if found.class_names == names:
        return found
    place = np.array([names.index(name) for name in found.class_names], np.int64)
    return found.replace(labels=place[found.labels], class_names=names)


def _check_classes(number: int, expected: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Raise unless model ``number`` has the same classes as the first model, in any order."""
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    if missing or unknown:
        differences = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(unknown)}"] * bool(unknown)
        raise InputError(f"combined models must have the same classes: model {number} {' and '.join(differences)}")
