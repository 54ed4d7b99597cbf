"""From scores to probabilities: Platt scaling for each class, learnt on images that the detector has not seen.

scikit-learn's would do for many detections. Here a class may have a handful, all right or all wrong: it then borrows
the slope of all classes, and no slope may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data.arrays import Array
from ...data.errors import InputError
from ...eval.calibration import Verdicts
from ...eval.voc_ap import Judged
from ..options import BaseOptions

#: Right and wrong detections that a class needs, of each kind, to have a slope of its own.
FEWEST = 10

#: The slope where even all classes together have fewer: a score is then read as log-odds, as a softmax's are.
PRIOR_SLOPE = 1.0

#: The threshold of a class of which nothing was found: what is more likely right than not is shown.
PRIOR_THRESHOLD = 0.5

#: The least threshold: of what is shown, at least one detection in five should be right, however weak the class is.
LEAST_THRESHOLD = 0.2

#: Objects of all classes together that count beside a class's own, so that a handful of objects decides nothing alone.
PRIOR_OBJECTS = 20

#: Scores are cut to this distance from 0 before anything is learnt from them. Margins and log-odds lie far within.
LARGEST_SCORE = 1000.0


@dataclass(frozen=True)
class Calibration(BaseOptions):
    """For each class how probable it is that a detection with some score is right, and from where on it is shown.

    The probability is ``sigmoid(slope * score + intercept)`` (Platt, 1999). Slopes are positive, so that the ranking
    within a class stays.

    Attributes
    ----------
    slopes, intercepts : tuple of float
        One for each class, in the order of the model's classes.
    thresholds : tuple of float
        For each class the probability above which a detection is shown by default.

    Raises
    ------
    InputError
        When there are not as many of each, a slope is not positive, an intercept not finite or a threshold not from
        0 to 1.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
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
        """How probable it is that detections (N,) with these scores (N,) and classes (N,) are right, float32 (N,)."""
        values, of_class = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
        log_odds = np.array(self.slopes)[of_class] * values + np.array(self.intercepts)[of_class]
        return _sigmoid(log_odds).astype(np.float32)

    @classmethod
    def fit(cls, judged: Sequence[Judged]) -> Calibration:
        """Learn from detections that were judged.

        A class with at least :data:`FEWEST` right and as many wrong detections has a slope and an intercept of its
        own (see :func:`platt`). One with fewer, or one whose better scores are right less often, takes the slope of
        all classes together, and only its intercept is its own; without detections, that of all of them too. Where
        all classes together do not tell a slope, it is :data:`PRIOR_SLOPE`.

        Thresholds have the best expected F1 (:func:`best_expected_f1`), which the probabilities give: no cut between
        two detections that happened to be right and wrong decides. Beside a class's own detections and objects those of
        all classes count, with the weight of :data:`PRIOR_OBJECTS`. No threshold is below :data:`LEAST_THRESHOLD`; a
        class of which nothing was found has :data:`PRIOR_THRESHOLD`.

        Parameters
        ----------
        judged : sequence of Judged
            One for each of the model's classes, in their order.
        """
        scores = np.concatenate([np.zeros(0), *(one.scores for one in judged)])
        right = np.concatenate([np.zeros(0, bool), *(one.right for one in judged)])
        slope, intercept = _line(scores, right, PRIOR_SLOPE, 0.0)
        lines = [_line(one.scores, one.right, slope, intercept) for one in judged]
        untold = cls(tuple(a for a, _ in lines), tuple(b for _, b in lines), (PRIOR_THRESHOLD,) * len(lines))
        return replace(untold, thresholds=untold._thresholds(judged))

    def _thresholds(self, judged: Sequence[Judged]) -> tuple[float, ...]:
        """For each class half of its best expected F1."""
        own = [self.probabilities(one.scores, np.full(len(one.scores), n)) for n, one in enumerate(judged)]
        together, objects = np.concatenate([np.zeros(0), *own]), sum(one.positives for one in judged)
        share = PRIOR_OBJECTS / max(objects, 1)
        weights = np.full(len(together), share)
        thresholds = []
        for p, one in zip(own, judged, strict=True):
            f1 = best_expected_f1(
                np.concatenate([p, together]),
                np.concatenate([np.ones(len(p)), weights]),
                one.positives + share * objects,
            )
            thresholds.append(max(f1 / 2, LEAST_THRESHOLD) if one.right.any() else PRIOR_THRESHOLD)
        return tuple(thresholds)


def best_expected_f1(probabilities: Array, weights: Array, objects: float) -> float:
    """The greatest F1 to be expected of the detections above any threshold, which lies at half of it.

    Taking the k most probable, ``2 * (sum of their probabilities) / (k + objects)`` is expected. One more raises it
    as long as its probability is more than half of what it is, so that half of the greatest is the threshold (Lipton,
    Elkan and Naryanaswamy, ECML 2014).

    Parameters
    ----------
    probabilities : float array (N,)
    weights : float array (N,)
        How often each detection counts.
    objects : float
        Objects to be found.

    Returns
    -------
    float
        From 0 to 1; 0 without detections.
    """
    order = np.argsort(-probabilities, kind="stable")
    taken = np.cumsum(weights[order])
    found = np.cumsum((weights * probabilities)[order])
    return min(1.0, float(np.max(2 * found / (taken + objects), initial=0.0)))


def platt(scores: Array, right: Array) -> tuple[float, float]:
    """Slope and intercept of the sigmoid that fits best, the slope not always positive.

    The cross-entropy to Platt's targets is least: (R + 1) / (R + 2) for the R right detections and 1 / (W + 2) for
    the W wrong ones, which keeps the sigmoid finite where a score parts them (Platt, 1999; Lin, Lin and Weng, Machine
    Learning 68, 2007).

    Parameters
    ----------
    scores : float array (N,)
        At least one; cut to :data:`LARGEST_SCORE`.
    right : bool array (N,)

    Returns
    -------
    slope, intercept : float
        A slope of 0 where all scores are equal.
    """
    from scipy.optimize import minimize  # slow to import, and detection does not need it

    values, aims = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE), targets(right)
    centre, spread = float(values.mean()), float(values.std())
    if values.min() == values.max():
        return 0.0, _intercept(values, aims, 0.0)
    x = (values - centre) / spread

    # Means of products, not dot products: those of long vectors depend on the number of threads.
    def loss(line: Array) -> float:
        z = line[0] * x + line[1]
        return float(np.mean(np.logaddexp(0, z) - aims * z))

    def gradient(line: Array) -> Array:
        off = _sigmoid(line[0] * x + line[1]) - aims
        return np.array([np.mean(off * x), np.mean(off)])

    def hessian(line: Array) -> Array:
        p = _sigmoid(line[0] * x + line[1])
        weight = p * (1 - p)
        mixed = np.mean(weight * x)
        return np.array([[np.mean(weight * x * x), mixed], [mixed, np.mean(weight)]])

    count = int(np.count_nonzero(right))
    start = np.array([0.0, np.log((count + 1) / (len(right) - count + 1))])
    # A Newton method with trust regions; the loss is convex.
    found = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10})
    slope = float(found.x[0]) / spread
    return slope, float(found.x[1]) - slope * centre


def _sigmoid(values: Array) -> Array:
    """As :func:`scipy.special.expit`, without what scipy takes to load."""
    with np.errstate(over="ignore"):  # far below 0 it is 1 / (1 + inf)
        return 1 / (1 + np.exp(-values))


def targets(right: Array) -> Array:
    """Platt's targets (N,): what the probabilities of right and of wrong detections are drawn to."""
    count = int(np.count_nonzero(right))
    return np.where(right, (count + 1) / (count + 2), 1 / (len(right) - count + 2))


def _line(scores: Array, right: Array, slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept of some detections; the slope given where they do not tell one, the intercept without any."""
    count = int(np.count_nonzero(right))
    if min(count, len(right) - count) >= FEWEST:
        own = platt(scores, right)
        if own[0] > 0:
            return own
    if not len(scores):
        return slope, intercept
    return slope, _intercept(np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE), targets(right), slope)


def _intercept(scores: Array, aims: Array, slope: float) -> float:
    """The intercept with the least cross-entropy to targets (N,): with it probabilities and targets have one mean."""
    from scipy.optimize import brentq

    # Below, every probability is less than the least target; above, each is more than the greatest.
    low = np.log(aims.min() / (1 - aims.min())) - slope * scores.max() - 1
    high = np.log(aims.max() / (1 - aims.max())) - slope * scores.min() + 1
    return float(brentq(lambda b: np.mean(_sigmoid(slope * scores + b) - aims), low, high, xtol=1e-12))


def cross_fitted(judged: Sequence[Judged], folds: int = 5) -> Verdicts | None:
    """Probabilities of detections from calibrations that have not seen their images, and what these would show.

    Parameters
    ----------
    judged : sequence of Judged
        One for each of the model's classes, over the same images. The fold of image i is ``i % folds``.
    folds : int
        At most as many as there are images.

    Returns
    -------
    Verdicts
        Fold after fold, class after class; None for less than two images.
    """
    count = len(judged[0].objects) if judged else 0
    folds = min(folds, count)
    if folds < 2:
        return None
    parts = []
    for fold in range(folds):
        here = np.arange(count) % folds == fold
        calibration = Calibration.fit([one.among(~here) for one in judged])
        for label, one in enumerate(judged):
            part = one.among(here)
            p = calibration.probabilities(part.scores, np.full(len(part.scores), label))
            parts.append((p.astype(np.float64), part.right, p > calibration.thresholds[label]))
    return Verdicts(*(np.concatenate(part) for part in zip(*parts, strict=True)))
