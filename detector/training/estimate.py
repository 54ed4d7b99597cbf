"""What a training will take: time on this machine, from what its stages take on some photographs, and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ...data.sample import Sample
from ...eval.timing import synchroniser
from ...proposals.backends import Proposer
from ..convolutions.truncation import default_layers
from ..learners.gram import gram_matrix
from ..options import FEW_EARLIER_LAYER, FEW_LAST_LAYER
from ..windows.features import Features
from .plan import TrainPlan
from .search import Round

#: Photographs that are timed, and repetitions of the inner products.
TIMED = 3

#: Rows of the inner products that are timed.
ROWS = 256

#: Windows of a class for its box regressor, for each of its objects.
WINDOWS_OF_OBJECT = 30

#: In units of the time in which a photograph's windows are pooled and scored: another candidate in the same pass, and
#: a pass of hard negatives with its solutions. Boxes regressed and scored again take 0.5 for sheep and 0.9 for blood
#: cells, of which there are more.
CANDIDATE, MINING = 0.6, 1.3

#: In the same unit, for each photograph: the SVMs of one candidate without each part.
SOLUTIONS = 0.2

#: Share of a photograph's windows that are distinct on its maps, all of which go through the fc layers.
DISTINCT = 0.5


#: Bytes of a box, and of a number in half precision.
WINDOW_BYTES, HALF = 16, 2


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine.

    Attributes
    ----------
    proposals, maps, windows : float
        Of one photograph: proposals, feature maps, and its windows once pooled and scored.
    products : float
        Of the inner products of :data:`ROWS` rows.
    width : int
        Length of a row.
    """

    proposals: float
    maps: float
    windows: float
    products: float
    width: int

    def for_plan(self, plan: TrainPlan, measured: TrainPlan) -> Speed:
        """The speed of another plan than the ``measured`` one, by its scales and its number of maps."""
        pixels, channels = (of(plan) / of(measured) for of in (_pixels, _channels))
        return replace(
            self,
            maps=self.maps * pixels,
            windows=self.windows * channels,
            products=self.products * channels,
            width=round(self.width * channels),
        )


def _pixels(plan: TrainPlan) -> int:
    """Pixels of a square photograph at all scales."""
    return sum(scale**2 for scale in plan.features.scales)


def _channels(plan: TrainPlan) -> int:
    """Channels of all maps of a plan that leaves them open, for few photographs."""
    earlier = (plan.layer or default_layers(plan.backbone, plan.stride)).count(",")
    return FEW_LAST_LAYER + earlier * FEW_EARLIER_LAYER


def work_bytes(sizes: Sequence[tuple[int, int]], plan: TrainPlan, features: Features[Any]) -> float:
    """Bytes of the folder of a training: feature maps, or rows of warped windows, and proposals.

    Parameters
    ----------
    sizes : sequence of (height, width)
        Of the photographs.
    plan : TrainPlan
    features : Features
        Those that are kept, with the backbone whose maps are reduced already.
    """
    images = len(sizes) * (1 + plan.options.mirror)
    windows = plan.detection.max_windows
    proposals = len(sizes) * windows * WINDOW_BYTES
    if plan.features.method == "warp":
        return proposals + images * windows * (features.pooled_width * HALF + WINDOW_BYTES)
    areas = sum(max(size) / min(size) for size in sizes) * sum(scale**2 for scale in plan.features.scales)
    cells = sum(grid.channels / grid.stride**2 for grid in features.backbone.grids)
    return proposals + areas * cells * HALF * (1 + plan.options.mirror)


def measure(samples: Sequence[Sample], features: Features[Any], proposer: Proposer) -> Speed:
    """Measure on a few photographs, the median of each; nothing is kept."""
    times = [_times(sample, features, proposer) for sample in [samples[0], *samples[:TIMED]]]
    rows = np.random.default_rng(0).random((ROWS, features.pooled_width), np.float32).astype(np.float16)
    marks = [perf_counter()]
    for _ in range(TIMED):
        gram_matrix(rows)
        marks.append(perf_counter())
    products = float(np.diff(marks).min())
    # The first photograph is a warm-up.
    proposals, maps, windows = np.median(times[1:], axis=0).tolist()
    return Speed(proposals, maps, windows, products, features.pooled_width)


def _times(sample: Sample, features: Features[Any], proposer: Proposer) -> tuple[float, float, float]:
    image = sample.image
    marks = [perf_counter()]
    windows = proposer(image, sample.path.stem)
    marks.append(perf_counter())
    maps = features.maps(image)
    synchroniser(features.device.type)()  # a GPU may still compute
    marks.append(perf_counter())
    weights = torch.zeros(1, features.pooled_width, device=features.device)
    features.scores(maps, features.locate(maps, windows), weights, weights.new_zeros(1))
    marks.append(perf_counter())
    one, two, three = np.diff(marks).tolist()
    return one, two, three


def stages_of(
    plan: TrainPlan, speed: Speed, images: int, objects: Sequence[int], rounds: Sequence[Round], searched: int
) -> list[tuple[str, float]]:
    """The stages of a training of pool5 features, and the seconds of each.

    Parameters
    ----------
    plan : TrainPlan
    speed : Speed
    images : int
    objects : sequence of int
        Objects of each class.
    rounds : sequence of Round
        The search.
    searched : int
        Photographs on which candidates are compared.
    """
    copies, share = 1 + plan.options.mirror, searched / images

    def regressors(*shares: float) -> float:
        return sum(_regression(count * copies, plan, speed, shares) for count in objects)

    again = any("ridge" in options for options in rounds)
    stages = [("proposals", images * speed.proposals), ("feature maps", images * copies * speed.maps)]
    mining = ("hard negatives", images * copies * speed.windows * MINING)
    for number, options in enumerate(rounds):
        candidates = prod(map(len, options.values()))
        if number == 0:
            stages.append(mining)
        if "features" in options:
            stages += _fine_tuned(plan, speed, images, searched)
            continue
        if "pyramid" in options:
            # The other pyramids' own windows, and again those of the one in use.
            stages += (candidates - 1) * [mining, ("box regressors", regressors(share, 1.0))]
            stages.append(
                (f"{candidates} candidates compared", candidates * searched * speed.windows * (1 + CANDIDATE))
            )
            continue
        if "ridge" in options:
            stages.append(("box regressors", regressors(*[share] * len(options["ridge"]))))
        elif number == 0:
            stages.append(("box regressors", regressors(*{share, 1.0})))
        solved = len(options.get("C", [0])) * len(options.get("positive_weight", [0]))
        stages.append(("SVMs of candidates", searched * copies * speed.windows * SOLUTIONS * solved))
        compared = searched * speed.windows * (1 + CANDIDATE * candidates)
        stages.append((f"{candidates} candidates compared", compared))
    if not rounds or (again and share < 1):
        stages.append(("box regressors", regressors(1.0)))
    return [
        *stages,
        *([] if rounds else [mining]),
        ("held-out images", images * plan.scored(images) * speed.windows * (1 + CANDIDATE)),
    ]


def _fine_tuned(plan: TrainPlan, speed: Speed, images: int, searched: int) -> list[tuple[str, float]]:
    """The stages of fine-tuned fc layers, of all images and without each of five parts of those searched."""
    options, copies = plan.finetune, 1 + plan.options.mirror
    # Of one row with the weights of fc6.
    product = speed.products * options.width / ROWS**2
    pooled = speed.windows + plan.detection.max_windows * DISTINCT * product
    stages = []
    for share in (images, *[0.8 * searched] * 5):
        windows = share * options.positives_of_each(round(share)) * (1 + options.negatives_per_positive)
        # Forwards, and backwards for weights and inputs.
        stages.append(
            ("fine-tuning", options.epochs * windows * (3 * product + speed.windows / plan.detection.max_windows))
        )
    for share in (images, *[0.8 * searched] * 5):
        stages.append(("hard negatives", share * copies * pooled * MINING))
    return [*stages, ("2 candidates compared", searched * (pooled + speed.windows))]


def _regression(objects: int, plan: TrainPlan, speed: Speed, shares: Sequence[float]) -> float:
    """Seconds of one class's box regressors: windows pooled once; solved with some shares of the photographs."""
    windows = min(plan.boxes.max_windows, objects * WINDOWS_OF_OBJECT)
    pooled = speed.windows * windows / plan.detection.max_windows
    # A factorisation takes N**3 / 3 steps, the products of ROWS rows ROWS**2 * width; of many rows only half of the
    # products are computed. One solution is of all windows, five leave a part out. For 4,000 windows of 24,000 numbers
    # a solution took 0.50 s (here 0.50), the products 4.1 s (4.4).
    factorisation = speed.products * windows**3 / (3 * ROWS**2 * speed.width)
    solved = 6 * factorisation * sum(share**3 for share in shares)
    return float(pooled + speed.products * (windows / ROWS) ** 2 / 2 + solved)
