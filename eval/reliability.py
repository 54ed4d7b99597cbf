"""Calibration error: of the detections with a probability of 0.7, seven in ten should be right.

Only detections with a probability of at least :data:`AT_LEAST` count. A detector keeps a hundred boxes per class and
image, and correctly gives nearly all of them a probability near 0. If these counted, any detector would have almost no
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.arrays import Array
from ..data.detections import Detections
from .figures import Axis
from .plots import Line, line_chart
from .report import text_table
from .voc_ap import Judged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Lowest probability of the detections that count.
AT_LEAST = 0.05

#: Number of bins of equal width for the probabilities.
BINS = 10


@dataclass(frozen=True)
class Bin:
    """Detections with a probability in one range.

    Attributes
    ----------
    low, high : float
        ``low <= p < high``; the last bin includes 1.
    count : int
    mean_probability, share_right : float
        Mean probability, and share of right detections; NaN for an empty bin.
    """

    low: float
    high: float
    count: int
    mean_probability: float
    share_right: float


def reliability(probabilities: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Mean probability and share of right detections, in bins of equal width (Guo et al., ICML 2017, section 2).

    Parameters
    ----------
    probabilities : float array (N,)
        From 0 to 1.
    right : bool array (N,)
    bins : int

    Raises
    ------
    ValueError
        When shapes differ, a probability is not from 0 to 1, or ``bins`` is less than 1.
    """
    p, is_right = np.asarray(probabilities, np.float64), np.asarray(right, bool)
    if p.ndim != 1 or p.shape != is_right.shape:
        raise ValueError(
            f"expected one probability and one verdict for each detection, got {p.shape} and {is_right.shape}"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"probabilities must be from 0 to 1, got {p[~((p >= 0) & (p <= 1))][0]:g}")
    if bins < 1:
        raise ValueError(f"expected at least 1 bin, got {bins}")
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], p, side="right")
    members = [place == number for number in range(bins)]
    return [
        Bin(float(low), float(high), int(here.sum()), _mean(p[here]), _mean(is_right[here]))
        for low, high, here in zip(edges[:-1], edges[1:], members, strict=True)
    ]


def expected_calibration_error(probabilities: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """Mean difference between probability and share of right detections, each bin weighted by its detections.

    The expected calibration error of Naeini et al. (AAAI 2015) and Guo et al. (ICML 2017, equation 3).

    Parameters and errors are those of :func:`reliability`.

    Returns
    -------
    float
        From 0 to 1; NaN without detections.
    """
    return _error(reliability(probabilities, right, bins))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Probabilities of detections, which of them are right, and which would be shown.

    Attributes
    ----------
    probabilities : float64 array (N,)
    right, shown : bool arrays (N,)
        ``shown`` is None if unknown.
    """

    probabilities: Array
    right: Array
    shown: Array | None = None

    @classmethod
    def joined(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """Several verdicts as one; what is shown is unknown if it is of one of them."""
        shown = [part.shown for part in parts if part.shown is not None]
        return cls(
            np.concatenate([np.zeros(0), *(part.probabilities for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.right for part in parts)]),
            np.concatenate([np.zeros(0, bool), *shown]) if len(shown) == len(parts) else None,
        )

    def counted(self) -> tuple[Array, Array]:
        """Probabilities and verdicts of the detections with a probability of at least :data:`AT_LEAST`."""
        high = self.probabilities >= AT_LEAST
        return self.probabilities[high], self.right[high]

    def to_dict(self) -> dict[str, Any]:
        """The expected calibration errors and their numbers of detections for JSON; None without detections."""
        p, right = self.counted()
        figures = {
            "at_least": AT_LEAST,
            "bins": BINS,
            "detections": len(p),
            "ece": _or_none(_error(reliability(p, right))),
        }
        if self.shown is not None:
            bins = reliability(self.probabilities[self.shown], self.right[self.shown])
            figures |= {"shown": int(self.shown.sum()), "ece_shown": _or_none(_error(bins))}
        return figures


def verdicts(
    detections: Sequence[Detections], judged: Sequence[Judged], thresholds: Sequence[float] | None = None
) -> Verdicts:
    """The probabilities of detections that were judged.

    Parameters
    ----------
    detections : sequence of Detections
        All with probabilities.
    judged : sequence of Judged
        Result of :func:`.voc_ap.judge_voc` for them.
    thresholds : sequence of float, optional
        For each entry of ``judged``, the probability above which detections of the class are shown.

    Raises
    ------
    ValueError
        When detections lack probabilities.
    """
    levels = [None] * len(judged) if thresholds is None else list(thresholds)
    parts = zip(probabilities_of(detections, judged), judged, levels, strict=True)
    return Verdicts.joined(
        [Verdicts(p, of_class.right, None if level is None else p > level) for p, of_class, level in parts]
    )


def probabilities_of(detections: Sequence[Detections], judged: Sequence[Judged]) -> list[Array]:
    """For each entry of ``judged`` the probabilities (N,) of its detections; parameters as in :func:`verdicts`."""
    if any(not found.calibrated for found in detections if len(found)):
        raise ValueError("expected detections with probabilities, got some without")
    first = np.cumsum([0, *map(len, detections)])
    everything = np.concatenate([np.zeros(0), *(found.probabilities for found in detections if found.calibrated)])
    return [everything[first[of_class.images] + of_class.places] for of_class in judged]


def reliability_report(made: Verdicts) -> str:
    """Table of the bins and the expected calibration errors, as text."""
    rows = [
        [f"{one.low:.1f} to {one.high:.1f}", one.count, one.mean_probability, one.share_right]
        for one in reliability(*made.counted())
        if one.count
    ]
    table = text_table(["probability", "detections", "mean", "share right"], rows)
    return "\n".join([table, *error_lines(made.to_dict())])


def error_lines(figures: dict[str, Any]) -> list[str]:
    """One line for each expected calibration error in :meth:`Verdicts.to_dict`."""
    kinds = [("detections", "ece", f"with a probability from {figures['at_least']:g} up")]
    if "shown" in figures:
        kinds.append(("shown", "ece_shown", "shown by default"))
    return [
        f"expected calibration error of {figures[count]} detections {words}: "
        + ("-" if figures[error] is None else f"{figures[error]:.3f}")
        for count, error, words in kinds
    ]


def reliability_chart(made: Verdicts) -> Figure:
    """Chart of the share of right detections by probability; calibrated ones lie on the diagonal."""
    bins = [one for one in reliability(*made.counted()) if one.count]
    error = f"{_error(bins):.3f}" if bins else "-"
    lines = [
        Line("perfect calibration", [0.0, 1.0], [0.0, 1.0]),
        Line("this model", [one.mean_probability for one in bins], [one.share_right for one in bins]),
    ]
    title = f"Reliability; expected calibration error {error}"
    return line_chart(title, lines, Axis("mean probability", (0.0, 1.0)), Axis("share right", (0.0, 1.0)))


def _error(bins: Sequence[Bin]) -> float:
    total = sum(one.count for one in bins)
    distances = (one.count * abs(one.mean_probability - one.share_right) for one in bins if one.count)
    return sum(distances) / total if total else float("nan")


def _mean(values: Array) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value
