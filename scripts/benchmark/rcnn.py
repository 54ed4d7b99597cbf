"""``sppnet benchmark rcnn``: time SPP-net's single pass over the image against R-CNN's pass on every window."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...detector.options import FIVE_SCALES, Compression, DetectOptions, FeatureOptions
from ..arguments import (
    add_backbone_arguments,
    add_compress_argument,
    add_count,
    add_dataset_arguments,
    add_fc_width_argument,
    add_features_argument,
    compression,
    some_of,
)
from ..common import compile_kernels, resolve_device
from ..parser import CommandParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from ...detector.convolutions.backbone import Backbone
    from .rcnn_sides import Side

HELP = """Time SPP-net against R-CNN's warping on the same photographs, windows, weights and fc layers, in turns:
decoding, proposals, warping, convolutions, pooling, fc layers, SVMs, NMS. SPP-net runs at one scale and at
five, the fc layers whole and compressed; the paper's figures stand beside ours.

With --accuracy it also prints the mAP of trained models, pairs of one of each method, on images of a labelled set. The
SVMs are random, and so is the network unless --weights are given: the times do not depend on them."""

SCALES = {"1": FeatureOptions.scales, "5": FIVE_SCALES}

#: Names of the sides; :data:`COMPRESSED` is appended for compressed fc layers.
SPP = {"1": "SPP-net, 1 scale", "5": "SPP-net, 5 scales"}
RCNN = "R-CNN"
COMPRESSED = ", compressed fc"

#: Seconds per image on a GPU, and speed-up over R-CNN (paper, section 4.3: R-CNN with AlexNet's shape and with ZF-5,
#: SPP-net with ZF-5).
PAPER = {
    SPP["1"]: {"convolutions": 0.053, "fc": 0.089, "times faster": 64, "than with ZF-5": 102},
    SPP["5"]: {"convolutions": 0.293, "fc": 0.089, "times faster": 24, "than with ZF-5": 38},
    RCNN: {"convolutions": 8.96, "fc": 0.07, "times faster": 1, "than with ZF-5": 1},
}

LEAST_SAMPLE = 200


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark rcnn``."""
    data, windows, network, measurement = (
        parser.groups[title] for title in ("data", "windows", "network", "measurement")
    )
    data.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of photographs (default: those that come with scikit-image)"
    )
    add_dataset_arguments(parser, "test", "--accuracy", set_help="image set of --accuracy", images=False)
    add_count(data, "--accuracy-images", 100, "images of --accuracy to score on")
    add_count(windows, "--windows", DetectOptions.max_windows, "windows of a photograph")
    add_backbone_arguments(parser, "alexnet", "none")
    network.add_argument(
        "--scales", type=some_of(SCALES), default=tuple(SCALES), metavar="1|5", help="SPP-net at 1 scale, at 5 scales"
    )
    add_features_argument(parser, "fc7")
    add_fc_width_argument(parser, 4096)
    add_compress_argument(
        parser,
        "compression of the fc layers for a second table, or none: svd keeps a share E of the energy or R ranks, ",
        type=_compression_or_none,
        default="svd=256,bfloat16",
        metavar="svd[=E|R],bfloat16|none",
    )
    network.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the convolutions and of uncompressed fc layers, on both sides",
    )
    network.add_argument(
        "--models",
        type=Path,
        nargs=2,
        action="append",
        metavar=("SPP", "WARP"),
        help="models to score on --accuracy, from 'sppnet train' and 'sppnet train --method warp'; may be repeated, "
        "and models with the same convolutions share their maps",
    )
    add_count(measurement, "--count", 5, "photographs at most")
    add_count(measurement, "--rounds", 3, "timed rounds of a photograph")
    add_count(
        measurement, "--sample", 500, "windows that R-CNN is timed on; the times are scaled to all", least=LEAST_SAMPLE
    )
    parser.groups["output"].add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the stages as bars, on a log axis, SVG or PNG"
    )


def _compression_or_none(text: str) -> Compression | None:
    return None if text == "none" else compression(text)


def check(args: argparse.Namespace) -> None:
    """Check the options before measuring.

    Raises
    ------
    InputError
        When options do not make sense; the message names them.
    """
    from ...data.errors import InputError
    from ...eval.figures import check_figure_path

    if (args.accuracy is None) != (args.models is None):
        raise InputError("--accuracy and --models go together: a data set and pairs of models to score on it")
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds by side and stage, ratios, the paper's figures, and scores if requested."""
    import torch

    from ...data.example_photographs import sample_photographs
    from ...data.folder import find_images
    from ...data.progress import log
    from ...detector.convolutions.backbone import Backbone
    from ...detector.windows.warping import WarpFeatures
    from ...eval.figures import save_figure
    from ...proposals.backends import make_proposer
    from .rcnn_accuracy import Accuracy
    from .rcnn_sides import best_batch, time_sides

    check(args)
    device = resolve_device(args)
    # Load these first, so that errors in the models or their set appear before the long part.
    accuracy = None if args.accuracy is None else Accuracy(args, device)
    paths = (sample_photographs() if args.images is None else find_images([args.images]))[: args.count]
    compile_kernels(args.quiet)
    backbone = Backbone(args.backbone, args.weights, args.layer, args.seed, args.stride)
    backbone = backbone.to(device=device, dtype=getattr(torch, args.dtype))
    log("measuring batch sizes", args.quiet)
    batch = best_batch(WarpFeatures(backbone, FeatureOptions(levels=args.pyramid, method="warp")))
    sides = make_sides(args, backbone, batch, device)
    propose = make_proposer("fast", args.windows, seed=0)
    log(f"{len(paths)} photographs, {args.rounds} rounds", args.quiet)
    seconds = time_sides(sides, paths, lambda image: propose(image)[: args.windows], args.rounds, device)
    result = {
        "backbone": args.backbone,
        "layer": backbone.layer,
        "stride": backbone.stride,
        "weights": str(args.weights),
        "features": args.features,
        "dtype": args.dtype,
        "threads": torch.get_num_threads(),
        "device": device,
        "windows": args.windows,
        "sample": min(args.sample, args.windows),
        "crop": backbone.input_size,
        "batch": batch,
        "photographs": [path.name for path in paths],
        "rounds": args.rounds,
        **summary(seconds),
        "paper": PAPER,
    }
    if args.plot is not None:
        save_figure(args.plot, chart(result))
    if accuracy is not None:
        result["accuracy"] = accuracy.measure()
        result["failed"] = result["accuracy"]["failed"]
    return result


def make_sides(args: argparse.Namespace, backbone: Backbone, batch: int, device: str) -> list[Side]:
    """SPP-net at each number of scales and R-CNN, with fc layers whole and, if there are any, compressed."""
    from dataclasses import replace

    import torch

    from ...data.progress import log
    from ...detector.head.compression import compress, for_device
    from ...detector.head.head import Head
    from ...detector.head.pretrained import start_from_classifier
    from ...detector.windows.features import WindowFeatures
    from ...detector.windows.warping import WarpFeatures
    from .rcnn_sides import CLASSES, RCNNSide, SPPSide, random_planes

    plain = FeatureOptions(levels=args.pyramid, kind=args.features)
    warped = FeatureOptions(levels=args.pyramid, kind=args.features, method="warp", crop=backbone.input_size)
    heads: dict[str, Head | None] = {"": None}
    if args.features != "pool5":
        width = WindowFeatures(backbone, FeatureOptions(levels=args.pyramid)).pooled_width
        head = start_from_classifier(backbone, args.weights, args.pyramid, CLASSES, seed=args.seed)
        head = (head or Head(width, args.fc_width, CLASSES, seed=args.seed)).eval()
        heads = {"": compress(head, Compression(bfloat16=True)) if args.dtype == "bfloat16" else head}
        if args.compress is not None:
            log("compressing the fc layers", args.quiet)
            heads[COMPRESSED] = compress(head, args.compress)
    sides: list[Side] = []
    for label, head in heads.items():
        placed = None if head is None else for_device(head, torch.device(device))
        for count in args.scales:
            features = WindowFeatures(backbone, replace(plain, scales=SCALES[count]), placed)
            sides.append(SPPSide(SPP[count] + label, features, random_planes(features.width, args.seed, device)))
        of_windows = WarpFeatures(backbone, warped, placed, batch)
        planes = random_planes(of_windows.width, args.seed, device)
        sides.append(RCNNSide(RCNN + label, of_windows, planes, args.sample))
    return sides


def summary(seconds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Times by side, stage and total, and the speed-up of each SPP-net over R-CNN with the same fc layers."""
    from ...eval.timing import Times, ratios
    from .rcnn_sides import TOTALS

    stages = {
        side: {name: Times(tuple(taken[name] for taken in rows)) for name in rows[0]} for side, rows in seconds.items()
    }
    totals = {
        side: {
            name: Times(tuple(sum(taken.get(part, 0.0) for part in parts) for taken in rows))
            for name, parts in TOTALS.items()
        }
        for side, rows in seconds.items()
    }
    faster = {
        side: {name: ratios(totals[rival_of(side)][name], times) for name, times in of_side.items()}
        for side, of_side in totals.items()
        if rival_of(side) != side
    }
    return {
        kind: {side: {name: times.to_dict() for name, times in row.items()} for side, row in rows.items()}
        for kind, rows in (("stages", stages), ("totals", totals), ("times_faster", faster))
    }


def rival_of(side: str) -> str:
    """Name of R-CNN with the same fc layers."""
    return RCNN + (COMPRESSED if side.endswith(COMPRESSED) else "")


def table(result: dict[str, Any]) -> str:
    """Result as text."""
    from .rcnn_accuracy import accuracy_table

    accuracy = [accuracy_table(result["accuracy"])] if "accuracy" in result else []
    return "\n\n".join([times_table(result), *accuracy])


def times_table(result: dict[str, Any]) -> str:
    """Table of times by side and stage, speed-ups, and the paper's figures."""
    sampled = result["sample"] < result["windows"]
    lines = [
        f"{result['backbone']}, weights {result['weights']}, features {result['features']}, {result['dtype']}, "
        f"{result['device']}, {result['threads']} threads",
        f"{len(result['photographs'])} photographs, up to {result['windows']} windows each, {result['rounds']} rounds; "
        "milliseconds: median (quartiles)",
        f"R-CNN: windows warped to {result['crop']} x {result['crop']}, {result['batch']} at a time, the quickest of "
        "the batches tried"
        + (
            f"; measured on {result['sample']} windows of a photograph and scaled to all, but for NMS"
            if sampled
            else ""
        ),
    ]
    whole = [side for side in result["stages"] if not side.endswith(COMPRESSED)]
    compressed = [side for side in result["stages"] if side.endswith(COMPRESSED)]
    lines += ["", _table_of(result, whole)]
    if compressed:
        lines += ["", _table_of(result, compressed)]
    return "\n".join([*lines, "", _paper_table(result["paper"])])


def _table_of(result: dict[str, Any], sides: Sequence[str]) -> str:
    """Table with some sides as columns and stages, totals and ratios as rows."""
    from ...eval.report import text_table
    from .rcnn_sides import AFTER, BEFORE, FEATURES, TOTALS

    def cells(kind: str, name: str, factor: float) -> list[str]:
        return [_cell(result[kind].get(side, {}).get(name), factor) for side in sides]

    rows = [[name, *cells("stages", name, 1e3)] for name in (*BEFORE, *FEATURES, *AFTER)]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    rows += [[f"sum: {name}", *cells("totals", name, 1e3)] for name in TOTALS]
    rows += [[f"times faster: {name}", *cells("times_faster", name, 1)] for name in TOTALS]
    return text_table(["", *sides], rows)


def _cell(times: dict[str, Any] | None, factor: float) -> str:
    if times is None:
        return "-"
    low, high = times["quartiles"]
    return f"{factor * times['median']:.1f} ({factor * low:.1f} to {factor * high:.1f})"


def _paper_table(paper: dict[str, dict[str, float]]) -> str:
    from ...eval.report import text_table

    rows = [[name, *figures.values()] for name, figures in paper.items()]
    title = "The paper, ZF-5 against R-CNN's AlexNet, GPU, seconds an image, proposals left out"
    return f"{title}\n{text_table(['', *paper[RCNN]], rows)}"


def chart(result: dict[str, Any]) -> Figure:
    """Chart of the stages as bars on a logarithmic axis."""
    from ...eval.figures import Axis
    from ...eval.plots import Bar, Group, bar_chart
    from ...eval.timing import duration
    from .rcnn_sides import AFTER, BEFORE, FEATURES

    kinds = [("stages", name, name) for name in (*BEFORE, *FEATURES, *AFTER)]
    kinds += [("totals", "all", "all")]
    groups = []
    for kind, name, label in kinds:
        of_sides = {side: times[name]["median"] for side, times in result[kind].items() if name in times}
        groups.append(Group(label, [Bar(side, median) for side, median in of_sides.items()]))
    title = f"{result['backbone']}, {result['windows']} windows, {result['device']}: time of a photograph"
    shown = [group for group in groups if group.bars]
    return bar_chart(title, shown, Axis("time (logarithmic)", log=True, write=duration))
