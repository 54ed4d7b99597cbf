"""The choice of a training's options by cross-validation, on hard negatives and maps that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...eval.voc_ap import Judged
from .plan import TrainPlan
from .scores import in_parts, mean_ap

#: Values of some options, by their names in :data:`.plan.CHOICES`; a round tries all combinations of them.
Round = Mapping[str, Sequence[Any]]

#: The least gain in AP that counts, however sure it is.
LEAST_GAIN = 0.003


@dataclass(frozen=True)
class Trial:
    """What a candidate brings.

    Attributes
    ----------
    values : dict
        Its options by name.
    ap : float
        Mean area AP over the classes, by cross-validation.
    gain : float
        What it is better than the plan before the round.
    error : float
        Standard error of the gain, from the gains in the single folds.
    """

    values: Mapping[str, Any]
    ap: float
    gain: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether the gain is more than chance may bring."""
        return self.gain > max(self.error, LEAST_GAIN)


def search(
    plan: TrainPlan,
    rounds: Sequence[Round],
    judge: Callable[[Sequence[TrainPlan]], Sequence[Sequence[Judged]]],
    sizes: Sequence[int],
) -> tuple[TrainPlan, list[list[Trial]]]:
    """Choose options round by round; each round starts from the choice of the one before.

    A candidate takes the place of the plan if its gain is more than its own standard error, as in the rule of one
    standard error (Breiman et al., "Classification and Regression Trees", 1984): of many candidates that are equally
    good, the best one looks better than it is.

    Parameters
    ----------
    plan : TrainPlan
        Where the search starts.
    rounds : sequence of Round
    judge : callable
        Maps plans to the judged detections of each class, over the images of all folds, fold after fold.
    sizes : sequence of int
        Numbers of images of the folds.

    Returns
    -------
    plan : TrainPlan
    trials : list of lists of Trial
        For each round its candidates; the first is the plan before the round.
    """
    trials = []
    for options in rounds:
        start = {name: plan.choice(name) for name in options}
        others = [dict(zip(options, values, strict=True)) for values in product(*options.values())]
        values = [start, *(one for one in others if one != start)]
        judged = judge([plan.changed(**one) for one in values])
        # Folds in which a class shows no object have a mean over the others.
        parts = np.array([[mean_ap(part) for part in in_parts(one, sizes)] for one in judged])
        gains = parts - parts[0]
        before = mean_ap(judged[0])
        tried = [
            Trial(one, mean_ap(found), mean_ap(found) - before, _standard_error(gain))
            for one, found, gain in zip(values, judged, gains, strict=True)
        ]
        best = max(tried, key=lambda trial: trial.gain if trial.counts else 0.0)
        plan = plan.changed(**best.values)
        trials.append(tried)
    return plan, trials


def _standard_error(gains: Array) -> float:
    """Of the mean of the folds' gains; NaN are those of folds without any object."""
    known = gains[~np.isnan(gains)]
    return float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else np.inf
