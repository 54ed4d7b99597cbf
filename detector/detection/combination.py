"""Several detectors as one: each scores the windows, suppression runs over the union of what they find."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...data.arrays import Array
from ...data.detections import Detections
from ...data.errors import InputError, MisuseWarning
from .base import BaseDetector
from .detector import Detector


class CombinedDetector(BaseDetector):
    """Model combination (paper, section 4.4), used like an :class:`.detector.SPPDetector`.

    Windows are proposed once, by the first detector's method and number, and all detectors score the same ones.
    Each finishes its list by its own rules: threshold, suppression, cap, box regression. The union of the lists is
    suppressed again and capped for each class, by the first detector's rules. The score of a window is the best that
    any detector gives: with it a window comes through suppression over the union, when nothing else overlaps it.

    A threshold is compared with probabilities by each detector that has them, and with scores by the others. Without
    one each detector applies its own thresholds: those were chosen for its scores, so the combination shows what at
    least one detector would show alone, and none is silenced by another's.

    Scores are compared as they are. The margins of SVMs can be: features are scaled to one mean norm before they
    are trained. Margins beside log-odds of a softmax cannot quite; a line on stderr says so. Scores rank detections
    that have probabilities too; each has its own detector's, and none has one unless every detector is calibrated.

    Parameters
    ----------
    detectors : sequence of Detector
        At least one. Their classes may be in different orders.

    Attributes
    ----------
    detectors : tuple of Detector
    class_names : tuple of str
        In the order of the first detector: what the labels of detections and the columns of scores stand for.

    Raises
    ------
    InputError
        When the detectors do not know the same classes.

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
            message = f"scores of different kinds are compared as they are: {kinds}"
            warnings.warn(message, MisuseWarning, stacklevel=2)

    @property
    def calibrated(self) -> bool:
        """Whether detections have probabilities: those of all detectors do."""
        return all(detector.calibrated for detector in self.detectors)

    @property
    def device(self) -> torch.device:
        """Where the first detector computes."""
        return self.detectors[0].device

    def _move(self, device: str | torch.device) -> None:
        for detector in self.detectors:
            detector.to(device)

    def propose(self, image: Array) -> Array:
        """The windows (N, 4) that the first detector proposes, float32, best first."""
        return self.detectors[0].propose(image)

    def maps(self, image: Array) -> tuple[Any, ...]:
        """What each detector computes once for an RGB uint8 image (H, W, 3)."""
        return tuple(detector.maps(image) for detector in self.detectors)

    def score_on(self, maps: tuple[Any, ...], windows: Array) -> Array:
        """The best scores (N, classes) that any detector gives to windows (N, 4) on what :meth:`maps` gave."""
        scores = []
        for detector, of_detector in zip(self.detectors, maps, strict=True):
            columns = [detector.class_names.index(name) for name in self.class_names]
            scores.append(detector.score_on(of_detector, windows)[:, columns])
        return np.maximum.reduce(scores)

    def detect_on(self, maps: tuple[Any, ...], windows: Array, threshold: float | None = None) -> Detections:
        """Objects that any detector finds among windows (N, 4) on what :meth:`maps` gave."""
        pairs = zip(self.detectors, maps, strict=True)
        found = [detector.detect_on(of_detector, windows, threshold) for detector, of_detector in pairs]
        rules = self.detectors[0].bundle.detection
        return combine(found, rules.nms, rules.max_per_class)


def combine(found: Sequence[Detections], nms: float, max_per_class: int) -> Detections:
    """The union of detections in one image after suppression within each class, the best first.

    Parameters
    ----------
    found : sequence of Detections
        At least one; over the same classes, in any order. Of equal scores the earlier list's comes first.
    nms : float
        IoU above which the lower-scoring of two boxes of a class goes.
    max_per_class : int
        Detections kept for a class.

    Returns
    -------
    Detections
        With the classes in the order of the first list.
    """
    names = found[0].class_names
    union = Detections.concatenate([_relabelled(part, names) for part in found]).nms(nms)
    kept = [np.flatnonzero(union.labels == label)[:max_per_class] for label in range(len(names))]
    return union[np.sort(np.concatenate([np.zeros(0, np.int64), *kept]))]


def _relabelled(found: Detections, names: tuple[str, ...]) -> Detections:
    """The same detections, with their classes in the order of ``names``."""
    if found.class_names == names:
        return found
    place = np.array([names.index(name) for name in found.class_names], np.int64)
    return found.replace(labels=place[found.labels], class_names=names)


def _check_classes(number: int, expected: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Refuse the classes ``names`` of the model with this number when they are not the first's, in some order."""
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    if missing or unknown:
        differences = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(unknown)}"] * bool(unknown)
        raise InputError(f"combined models must know the same classes: model {number} {' and '.join(differences)}")
