"""What is shown at a threshold: how much of it is right, and how many of the objects it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.arrays import Array
from .report import text_table
from .voc_ap import Judged


@dataclass(frozen=True)
class Shown:
    """Detections of one class above a threshold.

    Attributes
    ----------
    name : str
        The class.
    objects : int
        Objects to find.
    threshold : float
    shown, right : int
        Detections above the threshold, and how many of them are right.
    best_threshold, best_f1 : float or None
        The threshold with the best F1, and that F1; None if no detection is right.
    """

    name: str
    objects: int
    threshold: float
    shown: int
    right: int
    best_threshold: float | None
    best_f1: float | None

    @property
    def precision(self) -> float | None:
        """Share of what is shown that is right; None if nothing is shown."""
        return self.right / self.shown if self.shown else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that is found; None without objects."""
        return self.right / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without objects."""
        return 2 * self.right / (self.shown + self.objects) if self.objects else None

    def to_dict(self) -> dict[str, Any]:
        """All figures for JSON, without the name."""
        return {
            "objects": self.objects,
            "threshold": self.threshold,
            "shown": self.shown,
            "right": self.right,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "best_threshold": self.best_threshold,
            "best_f1": self.best_f1,
        }


def shown_above(judged: Judged, levels: Array, threshold: float) -> Shown:
    """Count what is shown above a threshold, and find the threshold with the best F1.

    Parameters
    ----------
    judged : Judged
    levels : float array (N,)
        What is compared with the threshold, for each of the detections: their probabilities, or their scores.
    threshold : float
    """
    above = levels > threshold
    order = np.argsort(-levels, kind="stable")
    found, values = np.cumsum(judged.right[order]), levels[order]
    # Equal levels are shown together, and the last one is shown above nothing.
    ends = np.flatnonzero(np.diff(values, append=-np.inf) < 0)
    f1 = 2 * found[ends] / (ends + 1 + judged.positives)
    best_threshold = best_f1 = None
    if judged.right.any():
        best = int(np.argmax(f1))
        # Halfway to the next detection, or just below the last one.
        after = values[ends[best] + 1] if ends[best] + 1 < len(values) else values[-1] - 1e-6
        best_threshold, best_f1 = float((values[ends[best]] + after) / 2), float(f1[best])
    shown, right = int(above.sum()), int(judged.right[above].sum())
    return Shown(judged.name, judged.positives, threshold, shown, right, best_threshold, best_f1)


def shown_table(found: Sequence[Shown]) -> str:
    """A table of what is shown of each class, as text."""
    header = ["class", "shown above", "shown", "right", "precision", "recall", "F1", "best F1", "above"]
    rows = []
    for one in found:
        best = None if one.best_threshold is None else f"{one.best_threshold:.2f}"
        counts = [f"{one.threshold:.2f}", one.shown, one.right]
        rows.append([one.name, *counts, one.precision, one.recall, one.f1, one.best_f1, best])
    return text_table(header, rows)
