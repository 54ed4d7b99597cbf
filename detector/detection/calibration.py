"""From scores to probabilities: Platt scaling for each class, fitted on held-out images.

scikit-learn's Platt scaling needs many detections. Here a class may have only a few, all right or all wrong; it then
takes the slope of all classes together. No slope may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data.arrays import Array
from ...data.errors import InputError
from ...eval.reliability import Verdicts
from ...eval.voc_ap import Judged
from ..options import BaseOptions

#: Right detections, and wrong ones, that a class needs for a slope of its own.
FEWEST = 10

#: Slope if all classes together have fewer: scores are then taken as log-odds, which those of a softmax are.
PRIOR_SLOPE = 1.0

#: Threshold of a class without detections: show detections that are more likely right than wrong.
PRIOR_THRESHOLD = 0.5

#: Lowest threshold: even of a weak class, at least one in five of the detections shown should be right.
LEAST_THRESHOLD = 0.2

#: Weight, in objects, of all classes together in the threshold of each class, so that a few objects do not decide it.
PRIOR_OBJECTS = 20

#: Share of the photographs without any object that probabilities and thresholds allow for, where the training set has
#: one class and fewer of them.
SHARE_WITHOUT = 1 / 3

#: Wrong detections in a photograph without an object, for one in a photograph with an object.
WRONG_RATIO = 2.0

#: Scores are clipped to this distance from 0 before fitting. Margins and log-odds are far smaller.
LARGEST_SCORE = 1000.0


@dataclass(frozen=True)
class Calibration(BaseOptions):
    """For each class the probability that a detection with a given score is right, and the default threshold.

    The probability is ``sigmoid(slope * score + intercept)`` (Platt, 1999). Slopes are positive, so the ranking within
    a class does not change.

    Attributes
    ----------
    slopes, intercepts : tuple of float
        One per class, in the order of the model's classes.
    thresholds : tuple of float
        For each class, the probability above which detections are shown by default.

    Raises
    ------
    InputError
        When their numbers differ, a slope is not positive, an intercept is not finite or a threshold is not from 0 to
        1.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.slopes) == len(self.intercepts) == len(self.thresholds):
            raise InputError(
                "a calibration needs a slope, an intercept and a threshold for each class, not "
                f"{len(self.slopes)}, {len(self.intercepts)} and {len(self.thresholds)}"
            )
        for slope, intercept, threshold in zip(self.slopes, self.intercepts, self.thresholds, strict=True):
            if not (isfinite(slope) and slope > 0 and isfinite(intercept) and 0 <= threshold <= 1):
                raise InputError(
                    "a calibration needs positive slopes, finite intercepts and thresholds from 0 to 1, not "
                    f"{slope}, {intercept} and {threshold}"
                )

    def probabilities(self, scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float32]:
        """Probabilities, float32 (N,), that detections with these scores (N,) and class labels (N,) are right."""
        values, of_class = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
        log_odds = np.array(self.slopes)[of_class] * values + np.array(self.intercepts)[of_class]
        return _sigmoid(log_odds).astype(np.float32)

    @classmethod
    def fit(cls, judged: Sequence[Judged], wrong_weight: float = 1.0) -> Calibration:
        """Fit to detections that were judged right or wrong.

        A class with at least :data:`FEWEST` right and :data:`FEWEST` wrong detections gets its own slope and intercept
        (see :func:`platt`). A class with fewer, or with a negative slope, takes the slope of all classes together and
        fits only its intercept. A class without detections takes the intercept of all classes too. If all classes
        together do not determine a slope, it is :data:`PRIOR_SLOPE`.

        Thresholds have the best expected F1 (:func:`best_expected_f1`), computed from the probabilities; the verdicts
        on single detections would make it noisy. The detections and objects of all classes count too, with the weight
        of :data:`PRIOR_OBJECTS`. No threshold is below :data:`LEAST_THRESHOLD`; a class without detections has
        :data:`PRIOR_THRESHOLD`.

        Parameters
        ----------
        judged : sequence of Judged
            One per class of the model, in the same order.
        wrong_weight : float
            Weight of a wrong detection; that of a right one is 1 (:func:`weight_of_wrong`).
        """
        scores = np.concatenate([np.zeros(0), *(one.scores for one in judged)])
        right = np.concatenate([np.zeros(0, bool), *(one.right for one in judged)])
        slope, intercept = _line(scores, right, wrong_weight, PRIOR_SLOPE, 0.0)
        lines = [_line(one.scores, one.right, wrong_weight, slope, intercept) for one in judged]
        untold = cls(tuple(a for a, _ in lines), tuple(b for _, b in lines), (PRIOR_THRESHOLD,) * len(lines))
        return replace(untold, thresholds=untold._thresholds(judged, wrong_weight))

    def _thresholds(self, judged: Sequence[Judged], wrong_weight: float) -> tuple[float, ...]:
        """Half of the best expected F1 of each class."""
        own = [self.probabilities(one.scores, np.full(len(one.scores), n)) for n, one in enumerate(judged)]
        together, objects = np.concatenate([np.zeros(0), *own]), sum(one.positives for one in judged)
        share = PRIOR_OBJECTS / max(objects, 1)
        weights = [np.where(one.right, 1.0, wrong_weight) for one in judged]
        of_all = share * np.concatenate([np.zeros(0), *weights])
        thresholds = []
        for p, weight, one in zip(own, weights, judged, strict=True):
            f1 = best_expected_f1(
                np.concatenate([p, together]), np.concatenate([weight, of_all]), one.positives + share * objects
            )
            thresholds.append(max(f1 / 2, LEAST_THRESHOLD) if one.right.any() else PRIOR_THRESHOLD)
        return tuple(thresholds)


def weight_of_wrong(judged: Sequence[Judged]) -> float:
    """Weight of a wrong detection that makes up for photographs without objects, which a training set may lack.

    People collect photographs of what they look for, and detect in folders that hold others too. There a detector takes
    other things for it: on photographs of VOC without the class, detectors of one of five animals showed 0.57 wrong
    boxes, on those with it 0.27. If a set has one class, and less than :data:`SHARE_WITHOUT` of its photographs are
    without objects, the weight makes up for the missing ones; it is 2 if all show the class. With several classes it is
    1: photographs and objects of the others show what is taken for the class.

    Parameters
    ----------
    judged : sequence of Judged
        One per class of the model, over the same images.
    """
    if len(judged) != 1 or not len(judged[0].objects):
        return 1.0
    without = float(np.mean(judged[0].objects == 0))
    missing = max(0.0, (SHARE_WITHOUT - without) / (1 - SHARE_WITHOUT))
    return 1 + WRONG_RATIO * missing / (1 - without + WRONG_RATIO * without)


def best_expected_f1(probabilities: Array, weights: Array, objects: float) -> float:
    """Best expected F1 over all thresholds; the best threshold is half of it.

    The k most probable detections have the expected F1 ``2 * (sum of their probabilities) / (k + objects)``. One more
    detection raises it if its probability is more than half of the current F1, so the best threshold is half of the
    best F1 (Lipton, Elkan and Naryanaswamy, ECML 2014).

    Parameters
    ----------
    probabilities : float array (N,)
    weights : float array (N,)
        Weight of each detection.
    objects : float
        Number of objects.

    Returns
    -------
    float
        From 0 to 1; 0 without detections.
    """
    order = np.argsort(-probabilities, kind="stable")
    taken = np.cumsum(weights[order])
    found = np.cumsum((weights * probabilities)[order])
    return min(1.0, float(np.max(2 * found / (taken + objects), initial=0.0)))


def platt(scores: Array, right: Array, wrong_weight: float = 1.0) -> tuple[float, float]:
    """Slope and intercept of the best-fitting sigmoid; the slope may be negative.

    The fit minimises the cross-entropy to Platt's targets: (R + 1) / (R + 2) for the R right detections and 1 / (W + 2)
    for the W wrong ones. They keep the sigmoid finite when a score separates the two (Platt, 1999; Lin, Lin and Weng,
    Machine Learning 68, 2007).

    Parameters
    ----------
    scores : float array (N,)
        At least one; clipped to :data:`LARGEST_SCORE`.
    right : bool array (N,)
    wrong_weight : float
        Weight of a wrong detection: W counts their weights.

    Returns
    -------
    slope, intercept : float
        The slope is 0 if all scores are equal.
    """
    from scipy.optimize import minimize  # slow to import and not needed for detection

    values, aims = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE), targets(right, wrong_weight)
    weights = _weights(right, wrong_weight)
    centre, spread = float(values.mean()), float(values.std())
    if values.min() == values.max():
        return 0.0, _intercept(values, aims, weights, 0.0)
    x = (values - centre) / spread

    # Means of products, not dot products: dot products of long vectors depend on the number of threads.
    def loss(line: Array) -> float:
        z = line[0] * x + line[1]
        return float(np.mean(weights * (np.logaddexp(0, z) - aims * z)))

    def gradient(line: Array) -> Array:
        off = weights * (_sigmoid(line[0] * x + line[1]) - aims)
        return np.array([np.mean(off * x), np.mean(off)])

    def hessian(line: Array) -> Array:
        p = _sigmoid(line[0] * x + line[1])
        weight = weights * p * (1 - p)
        mixed = np.mean(weight * x)
        return np.array([[np.mean(weight * x * x), mixed], [mixed, np.mean(weight)]])

    count = int(np.count_nonzero(right))
    start = np.array([0.0, np.log((count + 1) / (wrong_weight * (len(right) - count) + 1))])
    # A Newton method with trust regions; the loss is convex.
    found = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10})
    slope = float(found.x[0]) / spread
    return slope, float(found.x[1]) - slope * centre


def _sigmoid(values: Array) -> Array:
    """Same as :func:`scipy.special.expit`, without the time to import scipy."""
    with np.errstate(over="ignore"):  # far below 0 it is 1 / (1 + inf)
        return 1 / (1 + np.exp(-values))


def targets(right: Array, wrong_weight: float = 1.0) -> Array:
    """Platt's targets (N,) for the probabilities of right and wrong detections; the latter count ``wrong_weight``."""
    count = int(np.count_nonzero(right))
    return np.where(right, (count + 1) / (count + 2), 1 / (wrong_weight * (len(right) - count) + 2))


def _weights(right: Array, wrong_weight: float) -> Array:
    """Weight of each detection (N,), 1 on average."""
    weights = np.where(right, 1.0, wrong_weight)
    return weights / weights.mean()


def _line(scores: Array, right: Array, wrong_weight: float, slope: float, intercept: float) -> tuple[float, float]:
    """Fit slope and intercept; use the given slope if it cannot be fitted, the given intercept without detections."""
    count = int(np.count_nonzero(right))
    if min(count, len(right) - count) >= FEWEST:
        own = platt(scores, right, wrong_weight)
        if own[0] > 0:
            return own
    if not len(scores):
        return slope, intercept
    values = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)
    return slope, _intercept(values, targets(right, wrong_weight), _weights(right, wrong_weight), slope)


def _intercept(scores: Array, aims: Array, weights: Array, slope: float) -> float:
    """Intercept with the least cross-entropy to targets (N,): it makes the means of probabilities and targets equal."""
    from scipy.optimize import brentq

    # Below, every probability is less than the least target; above, each is more than the greatest.
    low = np.log(aims.min() / (1 - aims.min())) - slope * scores.max() - 1
    high = np.log(aims.max() / (1 - aims.max())) - slope * scores.min() + 1
    return float(brentq(lambda b: np.mean(weights * (_sigmoid(slope * scores + b) - aims)), low, high, xtol=1e-12))


def cross_fitted(judged: Sequence[Judged], folds: int = 5, wrong_weight: float = 1.0) -> list[Verdicts] | None:
    """Cross-fit the calibration: probabilities, and which detections are shown, from the images of the other folds.

    Parameters
    ----------
    judged : sequence of Judged
        One per class of the model, over the same images. The fold of image i is ``i % folds``.
    folds : int
        At most the number of images.
    wrong_weight : float
        As in :meth:`Calibration.fit`.

    Returns
    -------
    list of Verdicts
        One per class, fold after fold; None for fewer than two images.
    """
    count = len(judged[0].objects) if judged else 0
    folds = min(folds, count)
    if folds < 2:
        return None
    parts: list[list[Verdicts]] = [[] for _ in judged]
    for fold in range(folds):
        here = np.arange(count) % folds == fold
        calibration = Calibration.fit([one.among(~here) for one in judged], wrong_weight)
        for label, one in enumerate(judged):
            part = one.among(here)
            p = calibration.probabilities(part.scores, np.full(len(part.scores), label))
            parts[label].append(Verdicts(p.astype(np.float64), part.right, p > calibration.thresholds[label]))
    return [Verdicts.joined(of_class) for of_class in parts]
