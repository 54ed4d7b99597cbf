"""The choice of a training's options by cross-validation, on hard negatives and maps that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...eval.voc_ap import Judged
from .plan import TrainPlan
from .scores import mean_ap

#: Values of some options, by their names in :data:`.plan.CHOICES`; a round tries all combinations of them.
Round = Mapping[str, Sequence[Any]]

#: The least gain in AP that counts, however sure it is.
LEAST_GAIN = 0.003

#: Halves of the images for a standard error.
HALVES = 100


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
        Standard error of the gain, from the gains on random halves of the images.
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
    seed: int,
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
        Maps plans to the judged detections of each class, over the images of all folds.
    seed : int
        Seed of the halves.

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
        of_all, errors = [mean_ap(found) for found in judged], _standard_errors(judged, seed)
        tried = [Trial(one, ap, ap - of_all[0], error) for one, ap, error in zip(values, of_all, errors, strict=True)]
        best = max(tried, key=lambda trial: trial.gain if trial.counts else 0.0)
        plan = plan.changed(**best.values)
        trials.append(tried)
    return plan, trials


def _standard_errors(judged: Sequence[Sequence[Judged]], seed: int) -> list[float]:
    """Of each candidate's gain over the first one, from random halves of the images.

    Half of a sample differs from the other half as much as two such halves from different samples would, so the gain on
    a half differs from the gain on all images as that from the gain on all photographs there are (Politis, Romano and
    Wolf, "Subsampling", 1999). The gains in single folds would say less: with five folds and two sheep in each, their
    mean AP varies more than that of all images does.
    """
    count, rng = len(judged[0][0].objects), np.random.default_rng(seed)
    gains = []
    for _ in range(HALVES):
        half = rng.permutation(count) < count // 2
        of_half = np.array([mean_ap([of_class.among(half) for of_class in found]) for found in judged])
        gains.append(of_half - of_half[0])
    of_all = np.array([mean_ap(found) for found in judged])
    # Halves without any object say nothing.
    known = np.array(gains)[~np.isnan(gains).any(axis=1)]
    if len(known) < 2:
        return [np.inf] * len(judged)
    return np.sqrt(np.mean((known - (of_all - of_all[0])) ** 2, axis=0)).tolist()
