"""From scored windows to detections: threshold, suppression, caps, box regression, box voting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ...data.boxes import clip, decode, iou
from ...data.detections import Detections
from ...data.nms import nms
from ..options import DetectOptions
from .calibration import Calibration


def log_odds(logits: Array) -> Array:
    """log(p / (1 - p)) of each class's softmax probability p, float32 (N, K), from logits (N, K + 1), background last.

    Like an SVM margin this score is unbounded. It is 0 if the class is as likely as all others together.
    """
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True, initial=-np.inf)
    likelihoods = np.exp(values)
    # The sum of the others, not 1 - p, which rounds to 0 for every confident window.
    others = np.stack([np.delete(likelihoods, k, axis=1).sum(axis=1) for k in range(logits.shape[1] - 1)], axis=1)
    smallest = np.finfo(np.float64).tiny
    return (values[:, :-1] - np.log(np.maximum(others, smallest))).astype(np.float32)


def select(windows: Array, scores: Array, keep_above: float, most: float, cap: int) -> tuple[Array, Array]:
    """Select the windows (rows) and classes (labels) that survive each class's threshold, suppression and cap.

    Parameters
    ----------
    windows : float32 array (N, 4)
    scores : float32 array (N, classes)
    keep_above : float
        Lowest score.
    most : float
        Highest IoU of two windows of a class.
    cap : int
        Most windows of a class.

    Returns
    -------
    rows, labels : int64 arrays (M,), class after class, best first within a class.
    """
    rows, labels = [], []
    for label in range(scores.shape[1]):
        above = np.flatnonzero(scores[:, label] > keep_above)
        kept = above[nms(windows[above], scores[above, label], most)[:cap]]
        rows.append(kept)
        labels.append(np.full(len(kept), label, np.int64))
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.concatenate([np.zeros(0, np.int64), *labels])


#: Maps boxes (M, 4), their labels (M,) and whether scores are wanted to deltas (M, 4) and scores (M,), if wanted.
Look = Callable[[Array, Array, bool], tuple[Array, Array]]


def finish(
    windows: Array,
    scores: Array,
    image_size: tuple[int, int],
    class_names: Sequence[str],
    options: DetectOptions,
    threshold: ArrayLike,
    look: Look | None = None,
    calibration: Calibration | None = None,
) -> Detections:
    """Turn the scored windows of an image into detections, best first.

    Parameters
    ----------
    windows : float32 array (N, 4)
    scores : float32 array (N, classes)
    image_size : (height, width)
    threshold : float, or float array (classes,)
        Only detections with a higher score are kept; with a calibration, with a higher probability. The detections
        above a threshold do not depend on it.
    look : callable, optional
        What regresses boxes and scores them again. Without it windows are suppressed once and stay as they are.
    calibration : Calibration, optional
        Adds probabilities to the detections.
    """
    move = look if options.regressions else None
    first = (options.nms_before, options.max_per_class_before)
    limits = first if move is not None else (options.nms, options.max_per_class)
    rows, labels = select(windows, scores, options.keep_above, *limits)
    boxes = clip(windows[rows].astype(np.float32), *image_size)
    found = _solid(Detections(boxes, scores[rows, labels].astype(np.float32), labels, tuple(class_names), None))
    if move is None or (options.voting >= 1 and not options.rescored):
        # Neither scores nor other boxes matter any more, so there is less to regress.
        found = judged(found, threshold, calibration)
    if move is not None:
        found = _regressed(found, image_size, options, move)
        kept = best_of_each(found.nms(options.nms), options.max_per_class)
        found = judged(vote(kept, found, options.voting), threshold, calibration)
    return ranked(found)


def judged(found: Detections, threshold: ArrayLike, calibration: Calibration | None) -> Detections:
    """Detections with their probabilities, if there is a calibration, above the threshold (see :func:`finish`)."""
    # Compare in float32, the precision of the detections' values.
    levels = np.broadcast_to(np.asarray(threshold, np.float32), len(found.class_names))
    probabilities = None if calibration is None else calibration.probabilities(found.scores, found.labels)
    kept = (found.scores if probabilities is None else probabilities) > levels[found.labels]
    return found.replace(probabilities=probabilities)[kept]


def best_of_each(found: Detections, cap: int) -> Detections:
    """The first ``cap`` detections of each class, of detections that come best first."""
    kept = [np.flatnonzero(found.labels == label)[:cap] for label in np.unique(found.labels)]
    return found[np.sort(np.concatenate([np.zeros(0, np.int64), *kept]))]


def ranked(found: Detections) -> Detections:
    """Detections, best first."""
    return found[np.argsort(-found.scores, kind="stable")]


def _regressed(found: Detections, image_size: tuple[int, int], options: DetectOptions, look: Look) -> Detections:
    """Regress boxes, and score them again if they are ``rescored``: a score is the mean over all places of its box."""
    deltas = None
    for number in range(options.regressions):
        if not len(found):
            break
        if deltas is None:
            deltas, _ = look(found.boxes, found.labels, False)
        moved, deltas = decode(found.boxes, deltas).astype(np.float32), None
        found = _solid(found.replace(boxes=clip(moved, *image_size)))
        if options.rescored and len(found):
            # The features of the moved boxes serve for their scores and for the next pass.
            deltas, scores = look(found.boxes, found.labels, True)
            change = (scores - found.scores) / (number + 2)
            found = found.replace(scores=found.scores + change.astype(np.float32))
    return found


def vote(kept: Detections, found: Detections, least: float) -> Detections:
    """Move the boxes of ``kept`` to weighted means of the boxes of ``found`` with an IoU of ``least`` or more.

    See ``voting`` of :class:`.options.DetectOptions`.
    """
    if least >= 1 or not len(kept):
        return kept
    near = (iou(kept.boxes, found.boxes) >= least) & (kept.labels[:, None] == found.labels)
    weights = near * np.maximum(found.scores + 1, 1e-3).astype(np.float64)
    boxes = weights @ found.boxes / weights.sum(axis=1, keepdims=True)
    return kept.replace(boxes=boxes.astype(np.float32))


def _solid(found: Detections) -> Detections:
    """Detections whose boxes have a positive area."""
    return found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)]
