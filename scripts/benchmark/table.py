"""``sppnet benchmark table``: reproduce the paper's table of detection results on any labelled data and backbone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ...detector.options import (
    BACKBONE,
    FIVE_SCALES,
    HELD_OUT,
    RCNN_DETECTION,
    WEIGHTS,
    FeatureOptions,
    FineTuneOptions,
    TrainOptions,
)
from ..arguments import (
    add_backbone_arguments,
    add_classes_argument,
    add_count,
    add_dataset_arguments,
    add_fc_width_argument,
    add_held_out_argument,
    add_test_set_arguments,
    integers,
    some_of,
)
from ..common import compile_kernels, resolve_device
from ..datasets import of_test_set, set_name, train_and_test_sets
from ..parser import CommandParser

if TYPE_CHECKING:
    from ...data.errors import ImageError
    from ...data.formats import ImageDetections
    from ...data.sample import SampleList
    from ...detector.detection.bundle import Bundle
    from ...detector.training.cache import MapCache
    from ...detector.training.plan import TrainPlan

HELP = """Train the detectors of the paper's table of results on one image set, score them on another, and print the
table beside the paper's: pool5, fc6 and fc7 without fine-tuning, fine-tuned fc6 and fc7, and box regression; at one
scale and at several.

The detectors share proposals, feature maps, fine-tuned layers and box regressors in the folder --work, which also keeps
models and scores: a stopped run goes on where it was."""

METRICS = ("voc07", "voc")
COLUMNS = ("1", "5")


@dataclass(frozen=True)
class Row:
    """Configuration of the detector in a row of the table.

    Attributes
    ----------
    model : str
        Row that provides the model; two rows may share one.
    kind : {"pool5", "fc6", "fc7"}
        Features of the windows.
    tuned : bool
        With fine-tuned fc layers.
    boxes : bool
        With box regression.
    scorer : {"svm", "softmax"}
    """

    model: str
    kind: Literal["pool5", "fc6", "fc7"]
    tuned: bool = False
    boxes: bool = False
    scorer: Literal["svm", "softmax"] = "svm"


ROWS = {
    "pool5": Row("pool5", "pool5"),
    "fc6": Row("fc6", "fc6"),
    "fc7": Row("fc7", "fc7"),
    "ftfc6": Row("ftfc6", "fc6", tuned=True),
    "ftfc7": Row("ftfc7", "fc7", tuned=True),
    "ftfc7+bbox": Row("ftfc7", "fc7", tuned=True, boxes=True),
    "softmax": Row("softmax", "fc7", tuned=True, scorer="softmax"),
}

#: The paper's mAP in per cent at one scale (688) and at five (He, Zhang, Ren, Sun: Spatial Pyramid Pooling in Deep
#: Convolutional Networks for Visual Recognition, TPAMI 37(9), 2015, arXiv 1406.4729, section 4): VOC 2007 test,
#: 11-point AP, ZF-5. It gives no figure for fc7 before fine-tuning or for the softmax.
PAPER = {
    "pool5": {"1": 43.0, "5": 44.9},
    "fc6": {"1": 42.5, "5": 44.8},
    "ftfc6": {"1": 52.3, "5": 53.7},
    "ftfc7": {"1": 54.5, "5": 55.2},
    "ftfc7+bbox": {"1": 58.0, "5": 59.2},
}

#: Part of every key; increase it when the meaning of a stored model or score changes.
VERSION = 2


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark table``."""
    network, output = (parser.groups[title] for title in ("network", "output"))
    add_dataset_arguments(parser, "trainval", "--dataset", set_help="image set to train on", split=True, required=True)
    add_test_set_arguments(parser)
    add_classes_argument(parser)
    add_held_out_argument(parser, HELD_OUT, "part of the training images that chooses the epoch of the fine-tuning")
    add_backbone_arguments(parser, BACKBONE, WEIGHTS)
    add_fc_width_argument(parser, FineTuneOptions.width)
    add_count(network, "--single", FeatureOptions.scales[0], "scale of the column '1 scale'")
    network.add_argument(
        "--scales", type=integers, default=FIVE_SCALES, metavar="N,N", help="scales of the other column"
    )
    add_count(
        parser.groups["learning"], "--epochs", FineTuneOptions.epochs, "fine-tuning: passes over the images at most"
    )
    output.add_argument(
        "--columns", type=some_of(COLUMNS), default=COLUMNS, metavar="1,5", help="one scale, several scales"
    )
    output.add_argument(
        "--rows",
        type=some_of(ROWS),
        default=tuple(ROWS),
        metavar="R,R",
        help="rows of the table; softmax: the fine-tuned network's own last layer instead of SVMs",
    )
    output.add_argument(
        "--metric", choices=METRICS, default=METRICS[0], help="11-point AP (voc07), or area under the curve (voc)"
    )
    output.add_argument(
        "--work",
        type=Path,
        default=Path("table.work"),
        metavar="DIR",
        help="folder for stages, models and scores, from which a stopped run goes on",
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Scores of every chosen row and column; missing models are trained."""
    from ...data.progress import log
    from ...eval.voc_ap import METRICS as METRIC_NAMES

    bench = _Bench(args)
    random_layers = bench.random_layers()
    compile_kernels(args.quiet)
    columns: dict[str, Any] = {}
    unreadable: set[int] = set()
    for column in args.columns:
        scales = bench.features[column].scales
        rows: dict[str, Any] = {}
        for name in args.rows:
            kept, seconds = bench.cell(name, column)
            unreadable.update(kept["unreadable"])
            rows[name] = {
                **kept[args.metric],
                "test_images": len(bench.test_set),
                "training_seconds_in_this_call": round(seconds, 3),
                "paper_map": round(PAPER[name][column] / 100, 3) if name in PAPER else None,
            }
            mean = 100 * rows[name]["map"]
            log(f"{name}, {_count(scales)}: mAP {mean:.1f} % ({METRIC_NAMES[args.metric]})", args.quiet)
        columns[column] = {"scales": list(scales), "rows": rows}
    return {
        "metric": args.metric,
        "backbone": args.backbone,
        "layer": bench.backbone.layer,
        "stride": bench.backbone.stride,
        "weights": args.weights,
        "random_layers": random_layers,
        "pyramid": list(args.pyramid),
        "training": bench.common.options.to_dict(),
        "fine_tuning": bench.common.finetune.to_dict(),
        "classes": list(bench.train_set.class_names),
        "trained_on": {"set": set_name(args), "images": len(bench.train_set)},
        "tested_on": {
            "set": set_name(of_test_set(args)),
            "images": len(bench.test_set),
        },
        "failed": [str(bench.test_set[index].path) for index in sorted(unreadable)],
        "columns": columns,
    }


class _Bench:
    """The two image sets, the work shared by all rows, and the results stored in the work folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        from ...detector.convolutions.backbone import Backbone
        from ...detector.training.plan import TrainPlan
        from ...proposals.backends import make_proposer

        self.args = args
        scales = {"1": (args.single,), "5": args.scales}
        self.features = {column: FeatureOptions(scales=scales[column], levels=args.pyramid) for column in args.columns}
        self.device = resolve_device(args)
        self.backbone = Backbone(args.backbone, args.weights, args.layer, args.seed, args.stride).to(self.device)
        self.common = TrainPlan(
            args.backbone,
            args.weights,
            args.layer or self.backbone.layer,
            args.stride,
            channels=(0,),  # the paper pools the map as it is
            detection=RCNN_DETECTION,
            finetune=FineTuneOptions(width=args.fc_width, epochs=args.epochs),
            options=TrainOptions(seed=args.seed, held_out=args.held_out),
        )
        detection = self.common.detection
        self.proposer = make_proposer(detection.proposals, detection.max_windows, seed=0)
        self.train_set, self.test_set = train_and_test_sets(args)
        self._named: set[str] = set()

    def random_layers(self) -> list[str]:
        """Rows without fine-tuning whose fc layers are random because there are no pretrained ones.

        Raises
        ------
        InputError
            When pretrained fc layers do not fit the pyramid.
        """
        from ...detector.head.pretrained import start_from_classifier

        with_fc = [name for name in self.args.rows if ROWS[name].kind != "pool5"]
        if not with_fc:
            return []
        start = start_from_classifier(self.backbone, self.args.weights, self.args.pyramid, classes=1)
        return [name for name in with_fc if not ROWS[name].tuned] if start is None else []

    @cached_property
    def _test_keys(self) -> list[str]:
        return _content(self.test_set)

    @cached_property
    def _test_key(self) -> str:
        """Key of everything that a score depends on except the model."""
        return _labels_key(self.test_set, self._test_keys)

    @cached_property
    def _train_key(self) -> str:
        """Key of everything that a model depends on except its plan."""
        from ... import __version__
        from ...data.store import content_key, file_key
        from ...detector.modelfile import FORMAT
        from ...detector.training.cache import fingerprint
        from ...detector.training.stages import STAGES

        weights = self.args.weights
        return content_key(
            [VERSION, __version__, FORMAT, STAGES],
            _labels_key(self.train_set, _content(self.train_set)),
            fingerprint(self.backbone),
            weights if weights in ("imagenet", "none") else file_key(weights),
            [self.proposer.name, self.proposer.options()],
        )

    def plan(self, row: Row, column: str) -> TrainPlan:
        """Training plan of a row's model."""
        finetune = self.common.finetune
        return replace(
            self.common,
            features=replace(self.features[column], kind=row.kind),
            scorer=row.scorer,
            finetune=finetune if row.tuned else replace(finetune, epochs=0),
        )

    def cell(self, name: str, column: str) -> tuple[dict[str, Any], float]:
        """Scores of a row in a column, and the seconds of training if it was needed."""
        from ...data.store import content_key, write_json
        from ...detector.detection.bundle import Bundle
        from ...detector.training.train import train

        row = ROWS[name]
        plan = self.plan(row, column)
        scales = plan.features.scales
        # The training key contains the content of the weights; their path must not matter.
        key = content_key(self._train_key, {**plan.to_dict(), "weights": None})
        scores = self.args.work / "scores" / f"{content_key(key, row.boxes, self._test_key)}.json"
        seconds = 0.0
        if not scores.is_file():
            sides = "-".join(map(str, scales))
            model = self.args.work / "models" / f"{row.model}-{sides}-{self.args.backbone}-{key[:12]}.safetensors"
            if not model.is_file():
                start = perf_counter()
                train(
                    self.train_set,
                    plan,
                    out=model,
                    proposer=self.proposer,
                    work=self.args.work,
                    device=self.device,
                    quiet=self.args.quiet,
                )
                seconds = perf_counter() - start
            bundle = Bundle.load(model)
            if not row.boxes:
                bundle = replace(bundle, box_weights=None, box_intercepts=None)
            write_json(scores, self._score(bundle, column, f"{name}, {_count(scales)}: test images"))
        return json.loads(scores.read_text(encoding="utf-8")), seconds

    def _score(self, bundle: Bundle, column: str, label: str) -> dict[str, Any]:
        """AP on the test set by both metrics, and the indices of unreadable images."""
        from ...eval.voc_ap import evaluate_voc
        from ..detection import gathered
        from ..evaluate import in_all

        paths = [sample.path for sample in self.test_set]
        images, failed = gathered(paths, self._results(bundle, column), label, self.args.quiet, self._named)
        self._named.update(failed)
        result = evaluate_voc(in_all(self.test_set, images), self.test_set, self.test_set.class_names)
        unreadable = [index for index, path in enumerate(paths) if str(path) in failed]
        return {"voc07": result.to_dict("voc07"), "voc": result.to_dict("voc"), "unreadable": unreadable}

    def _results(self, bundle: Bundle, column: str) -> Iterator[ImageDetections | ImageError]:
        """Detections in each test image, with proposals and maps that all rows of a column share."""
        import numpy as np

        from ...data.errors import ImageError
        from ...data.formats import ImageDetections
        from ...data.image import image_size
        from ...detector.detection.detector import SPPDetector
        from ...proposals.cache import ProposalCache

        detector, maps = SPPDetector(bundle, self.device), self._maps[column]
        stored = ProposalCache(self.args.work / "proposals", self.proposer)
        for sample, key in zip(self.test_set, self._test_keys, strict=True):
            try:
                windows = stored.get(sample.path)
                if not maps.has(key, windows):
                    maps.fill(key, sample.image, windows)
            except ImageError as error:
                yield error
                continue
            height, width = image_size(sample.path)
            found = detector.detect_on(maps.load(key, (height, width)), windows, threshold=-np.inf)
            yield ImageDetections(str(sample.path), width, height, found)

    @cached_property
    def _maps(self) -> dict[str, MapCache]:
        """Feature maps of the images, by column."""
        from ...detector.training.cache import MapCache
        from ...detector.windows.features import WindowFeatures

        folder = self.args.work / "maps"
        return {name: MapCache(folder, WindowFeatures(self.backbone, one)) for name, one in self.features.items()}


def _content(samples: SampleList) -> list[str]:
    """Content keys of the image files."""
    from ...data.store import file_key

    return [file_key(sample.path) for sample in samples]


def _labels_key(samples: SampleList, image_keys: list[str]) -> str:
    """Key of images and their labels."""
    from ...data.store import content_key

    labels = [[sample.boxes.tolist(), sample.labels.tolist(), sample.difficult.tolist()] for sample in samples]
    return content_key(image_keys, labels, samples.class_names)


def _count(scales: Sequence[int]) -> str:
    return "1 scale" if len(scales) == 1 else f"{len(scales)} scales"


def table(result: dict[str, Any]) -> str:
    """Result as the paper's table, in per cent, with the paper's figures beside ours and notes on both."""
    from ...eval.report import text_table
    from ...eval.voc_ap import METRICS as METRIC_NAMES

    columns, trained, tested = result["columns"], result["trained_on"], result["tested_on"]
    header = [""]
    for name, column in columns.items():
        header += [_count(column["scales"]), f"paper {_count(range(int(name)))}"]
    first = next(iter(columns.values()))["rows"]
    rows: list[list[Any]] = []
    for name in first:
        cells = [column["rows"][name] for column in columns.values()]
        rows.append([name, *(_percent(cell[key]) for cell in cells for key in ("map", "paper_map"))])
    scales = "; ".join(",".join(map(str, column["scales"])) for column in columns.values())
    lines = [
        f"mAP in per cent ({METRIC_NAMES[result['metric']]}), {len(result['classes'])} classes",
        f"trained on {trained['set']} ({trained['images']} images), "
        f"tested on {tested['set']} ({tested['images']} images)",
        f"backbone {result['backbone']}, weights {result['weights']}, "
        f"pyramid {','.join(map(str, result['pyramid']))}, scales {scales}",
        text_table(header, rows, decimals=1),
        "paper: VOC 2007 test, VOC07 11-point AP, ZF-5 with fc layers pretrained on ImageNet; '-': it gives none",
    ]
    if result["random_layers"]:
        of_rows = " and ".join(result["random_layers"])
        lines.append(f"no pretrained fc layers to start from: those of {of_rows} are random and stay so")
    unscored = [name for name, ap in next(iter(first.values()))["ap"].items() if ap is None]
    if unscored:
        lines.append(f"not in the means (no objects): {', '.join(unscored)}")
    if result["failed"]:
        lines.append(f"test images that could not be read, taken for empty: {', '.join(result['failed'])}")
    return "\n".join(lines)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
