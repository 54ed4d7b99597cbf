"""What a training chooses by itself, and how: by the objects that are labelled, and by scores on other photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ...data.boxes import area
from ...data.image import image_size
from ...data.progress import track
from ...data.sample import Sample
from ...data.store import read_json, write_json
from ...eval.recall import recall_and_mabo
from ...eval.voc_ap import Judged
from ...proposals.backends import make_proposer
from ...proposals.cache import ProposalCache
from ..convolutions.truncation import cut, default_layers
from ..options import ENOUGH, FEW_IMAGES, FINE_STRIDE, HELD_OUT, MANY_WINDOWS, STRIDE, Effort, FeatureOptions
from ..windows.scales import choose_scale
from .plan import TrainPlan
from .search import Round, Trial, search
from .split import Split
from .stages import Stages

#: Part of the key of a stored search; increase it when its meaning changes.
VERSION = 2

#: Scales to choose from.
SCALES = (320, 480, 688, 960)

#: Share of the objects, as a mean over the classes, that must fit the largest scale best for it to be used; and the
#: scales then. Without 688 the maps take a quarter less time, and cows had an area AP of 0.632 instead of 0.619, sheep
#: 0.609 instead of 0.614 (``--effort quick``, one run).
SMALL, SCALES_FOR_SMALL = 0.2, (320, 480, 960)

#: Small scales are left out if less than this share of the objects fits them best, and without them nine in ten objects
#: of each class are no longer than so many pixels. White cells of 470 pixels had an AP of 0.989 on BCCD's val set with
#: the scale 960 alone, 0.990 with 480 and 960; of all classes the mean was 0.869 and 0.866.
NEGLIGIBLE, LARGEST = 0.1, 500

#: What dense windows must cover more to be worth twice the time: no AP can gain more points than that.
WORTH = 0.03

#: With so many objects, mirror images are left to the effort "best". With 108 cats they brought 4.6 points of area AP,
#: with 156 horses 4.9.
MANY_OBJECTS = 1000

#: Of more photographs than these, the effort "quick" has one scale, a held-out part, and the default number of windows.
QUICKLY, QUICK_SCALE = 150, 480

#: The largest number of photographs on which proposals are compared.
COMPARED = 100

#: Candidates are compared on so many photographs at most, or on those with so many objects, and on so many at least. In
#: cross-validation they learn from no others, either.
SEARCHED, SEARCHED_OBJECTS, SEARCHED_LEAST = 100, 500, 30

#: What is tried.
ROUNDS: dict[Effort, tuple[Round, ...]] = {
    "quick": (),
    "normal": ({"C": (0.001, 0.003, 0.01)}, {"regressions": (1, 2, 3)}),
    "best": (
        {"C": (0.0003, 0.001, 0.003, 0.01, 0.03), "positive_weight": (1.0, 2.0, 5.0)},
        {"regressions": (1, 2, 3), "ridge": (300.0, 1000.0, 3000.0)},
        {"pyramid": ((1, 2, 3, 6), (1, 2, 4, 8))},
        {"features": ("pool5", "fc7")},
    ),
}


@dataclass(frozen=True)
class Choice:
    """An option that the training has chosen.

    Attributes
    ----------
    name : str
        One of :data:`.plan.CHOICES`.
    value
        JSON-like.
    why : str
        For people.
    """

    name: str
    value: Any
    why: str


def fit_to_objects(
    plan: TrainPlan, samples: Sequence[Sample], work: Path, quiet: bool
) -> tuple[TrainPlan, list[Choice]]:
    """Choose scales and proposals of a plan by the labelled objects, its layers, and whether mirror images are used.

    Parameters
    ----------
    plan : TrainPlan
        With an effort and a network; its ``fixed`` options stay as they are.
    samples : sequence of Sample
    work : Path
        Folder of the training, which keeps the proposals that are computed here.
    quiet : bool
        No progress bar.
    """
    if plan.layer is not None or plan.stride is not None:
        plan = replace(plan, fixed=plan.fixed | {"layer", "stride"})
    choices = _scales_and_split(plan, samples) + _layers(plan, len(samples))
    if not {"proposals", "max_windows"} & plan.fixed:
        most = plan.detection.max_windows if _hurried(plan, samples) else MANY_WINDOWS
        choices += _proposals(plan, samples, most, work, quiet)
    if "mirror" not in plan.fixed and mirrors(plan, samples):
        choices.append(Choice("mirror", True, "twice the examples, in twice the time for maps"))
    return _with(plan, choices), choices


def with_effort(plan: TrainPlan, effort: Effort, samples: Sequence[Sample]) -> TrainPlan:
    """What :func:`fit_to_objects` would choose with another effort; the proposals and their number stay."""
    if _hurried(plan, samples) and "held_out" not in plan.fixed:
        plan = plan.changed(held_out=None)
    if not {"layer", "stride"} & plan.fixed:
        plan = plan.changed(layer=None, stride=None)
    plan = replace(plan, effort=effort)
    plan = _with(plan, _scales_and_split(plan, samples) + _layers(plan, len(samples)))
    return plan.changed(mirror=mirrors(plan, samples))


def _with(plan: TrainPlan, choices: Sequence[Choice]) -> TrainPlan:
    return plan.changed(**{one.name: one.value for one in choices})


def _hurried(plan: TrainPlan, samples: Sequence[Sample]) -> bool:
    return plan.effort == "quick" and len(samples) > QUICKLY


def _scales_and_split(plan: TrainPlan, samples: Sequence[Sample]) -> list[Choice]:
    """The scales, and a held-out part where folds would take too long."""
    choices = []
    if plan.features.method == "spp" and "scales" not in plan.fixed:
        of_few = Choice("scales", (QUICK_SCALE,), f"the quickest for {len(samples)} photographs")
        choices.append(of_few if _hurried(plan, samples) else _scales(samples))
    if _hurried(plan, samples) and plan.options.folds is None and "held_out" not in plan.fixed:
        choices.append(Choice("held_out", HELD_OUT, "quicker than cross-validation"))
    return choices


def _layers(plan: TrainPlan, images: int) -> list[Choice]:
    """A third map, of a fine stride, of a network that has two by itself."""
    if {"layer", "stride"} & plan.fixed or not plan.searchable or plan.effort == "quick" or images > FEW_IMAGES:
        return []
    usual, layers = (default_layers(plan.backbone, None, strides) for strides in ((STRIDE,), (FINE_STRIDE, STRIDE)))
    if "," not in usual or layers == usual:
        return []
    coarsest = max(grid.stride for grid in cut(plan.backbone, layers, None).maps)
    return [
        Choice("layer", layers, f"a map of stride {FINE_STRIDE} beside the two that are the default"),
        Choice("stride", coarsest, "the network's own"),
    ]


def _scales(samples: Sequence[Sample]) -> Choice:
    """The default scales, a larger one for small objects, and no small ones if all objects are small."""
    labels = np.concatenate([sample.labels[~sample.difficult] for sample in samples])
    sizes = [image_size(sample.path) for sample in samples]
    boxes = [sample.boxes[~sample.difficult] for sample in samples]
    best = np.concatenate([choose_scale(of_image, size, SCALES) for of_image, size in zip(boxes, sizes, strict=True)])
    sides = np.concatenate([np.sqrt(area(of_image)) / min(size) for of_image, size in zip(boxes, sizes, strict=True)])
    classes = [labels == label for label in np.unique(labels)]
    largest = max(np.quantile(sides[of_class], 0.9) for of_class in classes)
    small = np.mean([np.mean(best[of_class] == len(SCALES) - 1) for of_class in classes])
    chosen = SCALES_FOR_SMALL if small >= SMALL else FeatureOptions().scales
    while len(chosen) > 1 and largest * chosen[1] <= LARGEST and np.mean(best < SCALES.index(chosen[1])) < NEGLIGIBLE:
        chosen = chosen[1:]
    shares = np.bincount(best, minlength=len(SCALES)) / len(best)
    told = ", ".join(f"{share:.0%} at {scale}" for share, scale in zip(shares, SCALES, strict=True))
    return Choice("scales", chosen, f"the scales that fit most objects best: {told}")


def _proposals(plan: TrainPlan, samples: Sequence[Sample], many: int, work: Path, quiet: bool) -> list[Choice]:
    """Proposals as they are, or ``many`` dense ones if the others miss objects of some class that these cover."""
    rng = np.random.default_rng([plan.options.seed, len(samples)])
    chosen = [samples[i] for i in np.sort(rng.permutation(len(samples))[:COMPARED])]
    default, most = plan.detection.proposals, plan.detection.max_windows
    covered = _least_recall(chosen, default, most, work, quiet)
    if covered >= ENOUGH:
        return [Choice("proposals", default, f"{most} windows cover {covered:.0%} of the objects")]
    dense = _least_recall(chosen, "dense", many, work, quiet)
    if dense < covered + WORTH:
        why = f"{most} windows cover {covered:.0%} of the objects of any class, {many} dense ones {dense:.0%}"
        return [Choice("proposals", default, why)]
    why = f"they cover {dense:.0%} of the objects of any class, {most} {default} windows only {covered:.0%}"
    return [Choice("proposals", "dense", why), Choice("max_windows", many, why)]


def _least_recall(samples: Sequence[Sample], method: str, most: int, work: Path, quiet: bool) -> float:
    """Share of the objects of a class that some window covers with an IoU of 0.5; the least of all classes.

    Without any object nothing is missed: 1.
    """
    stored = ProposalCache(work / "proposals", make_proposer(method, most, seed=0))
    found = [stored.get(sample.path) for sample in track(samples, f"{method} proposals compared", quiet=quiet)]
    objects = [(one.boxes[~one.difficult], one.labels[~one.difficult]) for one in samples]
    shares = []
    for label in {int(label) for _, labels in objects for label in labels}:
        boxes = [of_image[labels == label] for of_image, labels in objects]
        of_label = [np.full(len(of_image), label) for of_image in boxes]
        shares.append(recall_and_mabo(found, boxes, of_label, thresholds=(0.5,)).recall[0.5])
    return min(shares, default=1.0)


def open_rounds(plan: TrainPlan, images: int) -> list[Round]:
    """What a plan's effort tries on so many images, without the options that are fixed."""
    if plan.effort is None or not plan.searchable or plan.scored(images) == 0:
        return []
    # A learning curve needs pool5.
    fixed = plan.fixed | ({"features"} if plan.learning_curve else set())
    rounds = [{name: values for name, values in one.items() if name not in fixed} for one in ROUNDS[plan.effort]]
    return [one for one in rounds if one]


def searched(samples: Sequence[Sample]) -> int:
    """Number of photographs on which candidates are compared."""
    enough = ceil(SEARCHED_OBJECTS * len(samples) / max(1, _objects(samples)))
    most = min(SEARCHED, max(enough, SEARCHED_LEAST))
    # With nearly all of them, regressors for fewer would cost more than they save.
    return len(samples) if most >= 0.7 * len(samples) else most


def _objects(samples: Sequence[Sample]) -> int:
    return sum(int((~sample.difficult).sum()) for sample in samples)


def mirrors(plan: TrainPlan, samples: Sequence[Sample]) -> bool:
    """Whether a plan's effort learns from mirror images, too."""
    if "mirror" in plan.fixed:
        return plan.options.mirror
    few = plan.folded(len(samples)) and _objects(samples) < MANY_OBJECTS
    return plan.searchable and (plan.effort == "best" or (plan.effort == "normal" and few))


def choose_by_scores(
    plan: TrainPlan, stages: Stages, judge: Callable[[Split, Sequence[TrainPlan]], Sequence[Sequence[Judged]]]
) -> tuple[TrainPlan, list[Choice]]:
    """Choose options by cross-validation, or on the held-out part (see :func:`.search.search`); stored on disk.

    Parameters
    ----------
    plan : TrainPlan
        With an effort; its ``fixed`` options stay as they are.
    stages : Stages
        With a part of the images to score on, or several.
    judge : callable
        Maps a split and plans to what the plans' detectors find in the parts of the split, judged for each class.
    """
    rounds = open_rounds(plan, len(stages.images))
    if not rounds:
        return plan, []
    split = stages.split.limited(searched(stages.images.samples))
    key = stages.key(VERSION, split.parts, plan.to_dict(), rounds)
    path = stages.folder / f"search-{key}.json"
    try:
        choices = [Choice(**one) for one in read_json(path)["choices"]]
        # JSON has no tuples.
        choices = [
            replace(one, value=tuple(one.value) if isinstance(one.value, list) else one.value) for one in choices
        ]
        return _with(plan, choices), choices
    except (KeyError, TypeError, ValueError):  # there is none, or a damaged one
        pass
    plan, trials = search(plan, rounds, lambda plans: judge(split, plans), plan.options.seed)
    how = "by cross-validation" if len(split.parts) > 1 else "on held-out photographs"
    choices = [choice for tried in trials for choice in _reasons(plan, tried, how)]
    write_json(path, {"choices": [asdict(one) for one in choices]})
    return plan, choices


def _reasons(plan: TrainPlan, tried: Sequence[Trial], how: str) -> list[Choice]:
    """What a round of the search chose, and why."""
    start, best = tried[0], max(tried, key=lambda trial: trial.gain)
    taken = next(trial for trial in tried if all(plan.choice(name) == value for name, value in trial.values.items()))
    if taken is not start:
        why = f"AP {taken.ap:.3f} {how}, {start.ap:.3f} with {_named(start.values)}"
    elif best is start:
        why = f"none of {len(tried) - 1} others was better {how}"
    else:
        why = f"no clear gain from {_named(best.values)}: AP {best.gain:+.3f}, standard error {best.error:.3f}"
    return [Choice(name, value, why) for name, value in taken.values.items()]


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_as_text(value)}" for name, value in values.items())


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_as_text, value))
    return value if isinstance(value, str) else f"{value:g}"
