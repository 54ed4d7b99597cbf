"""``sppnet benchmark few``: a few labelled photographs, the same minutes, ``sppnet train`` and Faster R-CNN."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ...detector.options import FeatureOptions, TrainOptions
from ...detector.training.plan import TrainPlan
from ..arguments import (
    add_classes_argument,
    add_dataset_arguments,
    add_test_set_arguments,
    integers,
    positive_numbers,
    some_of,
)
from ..common import compile_kernels, resolve_device
from ..datasets import of_test_set, set_name, train_and_test_sets
from ..parser import CommandParser, as_typed
from ..train import add_effort_argument, add_trained_backbone_arguments, given_choices
from .faster_rcnn import NETWORK, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from ...data.detections import Detections
    from ...data.sample import Sample, SampleList
    from ...detector.detection.detector import Detector

HELP = """Train on a few labelled photographs with 'sppnet train', and fine-tune torchvision's Faster R-CNN on the same
photographs, on the same machine, from the same ImageNet weights, for a given number of minutes. Both are scored on
another image set, outside those minutes.

'sppnet train' runs once and takes the time that it takes; Faster R-CNN is trained anew for every number of minutes,
because its learning rate falls to zero at their end. It keeps the state that is best on one of the folds of 'sppnet
train' and learns from the other photographs."""

#: Name of this package's detector in tables and charts.
OURS = "sppnet"


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark few``."""
    network, learning = parser.groups["network"], parser.groups["learning"]
    add_dataset_arguments(parser, "trainval", set_help="image set to train on", split=True)
    add_test_set_arguments(parser)
    add_classes_argument(parser)
    add_trained_backbone_arguments(parser, NETWORK, "of sppnet: ")
    network.add_argument(
        "--scales",
        type=integers,
        default=FeatureOptions.scales,
        metavar="N,N",
        help="image scales of sppnet, not those that fit the objects: lengths of the shorter side in pixels",
    )
    add_effort_argument(parser)
    network.add_argument(
        "--opponent-weights",
        metavar="imagenet|none|FILE",
        help=f"weights of the opponents' {NETWORK} (default: --weights, or imagenet if that is another network's file)",
    )
    learning.add_argument(
        "--minutes",
        type=positive_numbers,
        default=(3.0, 10.0, 30.0),
        metavar="N,N",
        help="how long the opponents train, one training each",
    )
    learning.add_argument(
        "--opponents",
        type=some_of(VARIANTS),
        default=tuple(VARIANTS),
        metavar=",".join(VARIANTS),
        help="Faster R-CNN with a feature pyramid from stride 8 on, photographs of 400 to 800 pixels (fpn), or as "
        "torchvision's mobile variant, 320 pixels (320)",
    )
    learning.add_argument(
        "--no-early-stopping",
        action="store_true",
        help="let the opponents learn from all photographs and keep their last state, without a fold to choose it on",
    )
    parser.groups["output"].add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the AP over the minutes of training, SVG or PNG"
    )


def plan_of(args: argparse.Namespace) -> TrainPlan:
    """The plan of our own training."""
    return TrainPlan(
        args.backbone,
        args.weights,
        args.layer,
        args.stride,
        features=FeatureOptions(scales=args.scales, levels=args.pyramid),
        options=TrainOptions(seed=args.seed),
        effort=args.effort,
        fixed=given_choices(args),
    )


def opponent_weights(args: argparse.Namespace) -> str:
    """Weights of the opponents, a word or a file."""
    if args.opponent_weights is not None:
        return str(args.opponent_weights)
    shared = args.backbone == NETWORK or args.weights in ("imagenet", "none")
    return str(args.weights) if shared else "imagenet"


def measure(args: argparse.Namespace, clock: Callable[[], float] = perf_counter) -> dict[str, Any]:
    """Scores of both sides; ``clock`` gives the seconds that trainings are given."""
    from ...detector.convolutions.weights import read_weights
    from ...detector.training.split import choose_split
    from ...eval.figures import check_figure_path, save_figure

    if args.plot is not None:
        check_figure_path(args.plot, "--plot")
    train_set, test_set = train_and_test_sets(args)
    # Read before anything is timed: the first call downloads them.
    origin, state = read_weights(NETWORK, opponent_weights(args), args.seed)
    compile_kernels(args.quiet)
    bench = _Bench(args, train_set, test_set, clock)
    plan = plan_of(args)
    bench.ours(plan)
    split = choose_split(list(train_set), len(train_set.class_names), plan.options, plan.folded(len(train_set)))
    held_out = () if args.no_early_stopping or not split.parts else split.parts[0]
    for name in args.opponents:
        for minutes in sorted(set(args.minutes)):
            bench.opponent(name, minutes, origin, state, held_out)
    result = {
        "classes": list(train_set.class_names),
        "trained_on": {"set": set_name(args), "images": len(train_set)},
        "tested_on": {"set": set_name(of_test_set(args)), "images": len(test_set)},
        "device": bench.device,
        "minutes": sorted(set(args.minutes)),
        "opponent_weights": opponent_weights(args),
        **bench.results,
        "failed": sorted(bench.failed),
    }
    if args.plot is not None:
        save_figure(args.plot, chart(result))
    return result


class _Bench:
    """The photographs, the clock, and the results so far."""

    def __init__(
        self, args: argparse.Namespace, train_set: SampleList, test_set: SampleList, clock: Callable[[], float]
    ) -> None:
        self.train_set, self.test_set, self.clock = train_set, test_set, clock
        self.seed, self.quiet, self.device = args.seed, args.quiet, resolve_device(args)
        self.results: dict[str, Any] = {OURS: {}, "opponents": {name: {} for name in args.opponents}}
        self.failed: set[str] = set()

    def ours(self, plan: TrainPlan) -> None:
        """Train and score this package's detector; nothing is there from earlier trainings."""
        from tempfile import TemporaryDirectory

        import numpy as np

        from ...detector.training.train import train

        with TemporaryDirectory() as folder:
            start = self.clock()
            out = Path(folder) / "model.safetensors"
            detector = train(self.train_set, plan, out=out, device=self.device, quiet=self.quiet)
            seconds = self.clock() - start
        self.results[OURS] = {
            "plan": {**plan.to_dict(), **_used(detector)},
            "seconds": seconds,
            **self._score(OURS, lambda image: detector.detect(image, threshold=-np.inf)),
        }

    def opponent(
        self, name: str, minutes: float, origin: str, state: Mapping[str, Tensor], held_out: Sequence[int]
    ) -> None:
        """Train and score an opponent."""
        import torch

        from ...data.progress import log
        from .faster_rcnn import HELD_OUT, FineTuning, Settings, build, detect, seeded

        variant, settings, names = VARIANTS[name], Settings(), self.train_set.class_names
        label = f"{name}, {minutes:g} min"
        left_out = set(held_out)
        learnt = [sample for index, sample in enumerate(self.train_set) if index not in left_out]
        with seeded(self.seed, self.device):
            model = build(variant, len(names), state, origin, settings.windows).to(
                self.device, memory_format=torch.channels_last
            )
            training = FineTuning(
                model,
                variant,
                learnt,
                [self.train_set[index] for index in held_out[:HELD_OUT]],
                names,
                60 * minutes,
                self.device,
                self.seed,
                settings,
                self.clock,
                lambda line: log(f"{label}: {line}", self.quiet),
            ).run()
        scores = self._score(label, lambda image: detect(model, variant, image, names))
        of_name = self.results["opponents"][name]
        of_name.update(variant=asdict(variant), settings=asdict(settings))
        of_name.setdefault("trainings", []).append({"minutes": minutes, **training, **scores})

    def _score(self, label: str, detect: Callable[[NDArray[Any]], Detections]) -> dict[str, Any]:
        """APs on the test set, and the seconds of a photograph from the file to boxes; unreadable ones are named."""
        from ...data.detections import Detections
        from ...data.errors import ImageError
        from ...data.progress import log, track, warn
        from ...eval.timing import StageTimer
        from ...eval.voc_ap import METRICS, evaluate_voc

        names, timer = self.test_set.class_names, StageTimer(self.device)
        found = []
        samples: list[Sample] = list(self.test_set)
        for sample in track(samples, f"{label}: test images", quiet=self.quiet):
            try:
                with timer.stage(label):
                    found.append(detect(sample.image))
            except ImageError as error:
                if str(sample.path) not in self.failed:
                    warn(f"sppnet: {error}")
                self.failed.add(str(sample.path))
                found.append(Detections.empty(names))
        result = evaluate_voc(found, samples, names)
        log(f"{label}: area AP {result.mean_ap('voc'):.3f}", self.quiet)
        times = timer.times().get(label)
        a_photograph = None if times is None else {"median": times.median, "quartiles": list(times.quartiles)}
        return {"seconds_a_photograph": a_photograph, **{metric: result.to_dict(metric) for metric in METRICS}}


def _used(detector: Detector) -> dict[str, Any]:
    """What the training chose by itself, to take the place of the plan's options."""
    bundle = detector.bundle
    used = {name: detector.card[name] for name in ("svm", "boxes", "training", "choices")}
    return {
        "backbone": bundle.backbone,
        "layer": bundle.layer,
        "stride": bundle.stride,
        "features": bundle.features.to_dict(),
        "detection": bundle.detection.to_dict(),
        **used,
    }


def table(result: dict[str, Any]) -> str:
    """A row for each number of minutes and each side, and what they were trained on."""
    from ...eval.report import text_table

    trained, tested, ours = result["trained_on"], result["tested_on"], result[OURS]
    rows: list[list[Any]] = []
    for minutes in result["minutes"]:
        done = ours["seconds"] <= 60 * minutes
        rows.append([OURS, f"{minutes:g}", *_cells(ours if done else None)])
        for name, opponent in result["opponents"].items():
            (training,) = (one for one in opponent["trainings"] if one["minutes"] == minutes)
            rows.append([_title(name), f"{minutes:g}", *_cells(training)])
    plan = ours["plan"]
    lines = [
        f"trained on {trained['set']} ({trained['images']} images), "
        f"tested on {tested['set']} ({tested['images']} images), {result['device']}",
        f"{OURS}: {plan['backbone']}, weights {plan['weights']}, scales {as_typed(tuple(plan['features']['scales']))}, "
        f"trained in {ours['seconds']:.0f} s, area AP {ours['voc']['map']:.3f}",
        f"Faster R-CNN: {NETWORK}, weights {result['opponent_weights']}, {_learnt(result)}",
        text_table(["", "minutes", "area AP", "VOC07 AP", "s of training", "s a photograph"], rows),
        f"'-': {OURS} had not finished" if any(row[2] is None for row in rows) else "",
        f"test images that could not be read, taken for empty: {', '.join(result['failed'])}" * bool(result["failed"]),
    ]
    return "\n".join(line for line in lines if line)


def _cells(side: Mapping[str, Any] | None) -> list[Any]:
    if side is None:
        return [None] * 4
    a_photograph = side["seconds_a_photograph"]
    return [
        side["voc"]["map"],
        side["voc07"]["map"],
        f"{side['seconds']:.0f}",
        None if a_photograph is None else a_photograph["median"],
    ]


def _title(opponent: str) -> str:
    return f"Faster R-CNN {opponent}"


def _learnt(result: Mapping[str, Any]) -> str:
    """What the opponents learn from, in words."""
    training = next(iter(result["opponents"].values()))["trainings"][0]
    if not training["held_out"]:
        return f"learns from all {training['learnt_from']} images"
    return f"learns from {training['learnt_from']} images, the best state on {training['held_out']} others"


def chart(result: dict[str, Any]) -> Figure:
    """Area AP over the minutes of training: a step for ours, a point for each training of an opponent."""
    from ...eval.figures import Axis
    from ...eval.plots import Line, line_chart

    ours, last = result[OURS], max(result["minutes"])
    ap, finished = ours["voc"]["map"], ours["seconds"] / 60
    lines = [Line(OURS, [finished, finished, max(last, finished)], [0.0, ap, ap])]
    for name, opponent in result["opponents"].items():
        trainings = opponent["trainings"]
        lines.append(
            Line(_title(name), [one["minutes"] for one in trainings], [one["voc"]["map"] for one in trainings])
        )
    title = f"{result['trained_on']['images']} training images, {result['tested_on']['images']} others to score on"
    return line_chart(title, lines, Axis("minutes of training", (0.0, last)), Axis("area AP", (0.0, 1.0)))
