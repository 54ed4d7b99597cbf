"""From scored windows to detections: threshold, suppression, caps, box regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ...data.boxes import clip, decode
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


def select(windows: Array, scores: Array, options: DetectOptions) -> tuple[Array, Array]:
    """Select the windows (rows) and classes (labels) that survive each class's threshold, suppression and cap.

    Parameters
    ----------
    windows : float32 array (N, 4)
    scores : float32 array (N, classes)

    Returns
    -------
    rows, labels : int64 arrays (M,), class after class, best first within a class.
    """
    rows, labels = [], []
    for label in range(scores.shape[1]):
        above = np.flatnonzero(scores[:, label] > options.keep_above)
        kept = above[nms(windows[above], scores[above, label], options.nms)[: options.max_per_class]]
        rows.append(kept)
        labels.append(np.full(len(kept), label, np.int64))
    return np.concatenate([np.zeros(0, np.int64), *rows]), np.concatenate([np.zeros(0, np.int64), *labels])


def finish(
    windows: Array,
    scores: Array,
    image_size: tuple[int, int],
    class_names: Sequence[str],
    options: DetectOptions,
    threshold: ArrayLike,
    regress: Callable[[Array, Array], Array] | None = None,
    calibration: Calibration | None = None,
) -> Detections:
    """Turn the scored windows of an image into detections, best first.

    Parameters
    ----------
    windows : float32 array (N, 4)
    scores : float32 array (N, classes)
    image_size : (height, width)
    threshold : float, or float array (classes,)
        Only detections with a higher score are kept; with a calibration, with a higher probability.
    regress : callable, optional
        Maps boxes (M, 4) and labels (M,) to deltas (M, 4).
    calibration : Calibration, optional
        Adds probabilities to the detections.
    """
    rows, labels = select(windows, scores, options)
    best = scores[rows, labels].astype(np.float32)
    probabilities = None if calibration is None else calibration.probabilities(best, labels)
    # Compare in float32, the precision of the detections' values.
    levels = np.broadcast_to(np.asarray(threshold, np.float32), scores.shape[1])
    kept = (best if probabilities is None else probabilities) > levels[labels]
    rows, labels, best = rows[kept], labels[kept], best[kept]
    if probabilities is not None:
        probabilities = probabilities[kept]
    boxes = clip(windows[rows].astype(np.float32), *image_size)
    found = _solid(Detections(boxes, best, labels, tuple(class_names), probabilities))
    if regress is not None:
        for _ in range(options.regressions):
            if not len(found):
                break
            moved = decode(found.boxes, regress(found.boxes, found.labels)).astype(np.float32)
            found = _solid(found.replace(boxes=clip(moved, *image_size)))
        found = found.nms(options.nms)
    return found[np.argsort(-found.scores, kind="stable")]


def _solid(found: Detections) -> Detections:
    """Detections whose boxes have a positive area."""
    return found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)]
