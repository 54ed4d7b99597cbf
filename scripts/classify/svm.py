"""``sppnet classify svm``: linear SVMs on features of whole photographs, by the protocols of VOC07 and Caltech101."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...detector.options import BACKBONE, STRIDE, WEIGHTS, FeatureOptions
from ..arguments import (
    CLASSIFIER_HELP,
    add_held_out_argument,
    add_json_argument,
    add_labelled_arguments,
    add_map_arguments,
    integers,
    positive_numbers,
    some_of,
)
from ..common import protect_inputs, resolve_device
from ..datasets import labelled_from, listed_folders
from ..parser import CommandParser, as_typed

if TYPE_CHECKING:
    from ...data.labelled import LabelledImages
    from ...detector.convolutions.backbone import Backbone
    from ...detector.head.head import Head

HELP = """Describe whole photographs by a network's features, and learn a linear SVM for each class on them.

The scale and the SVMs' C are those that score best on a held-out part of FOLDER; the photographs of --test are scored
afterwards, once. With --splits the photographs of both are joined and split at random, N times, with the same scale and
C."""

VIEWS = ("full", "crop", "warp")


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet classify svm``."""
    data, network, learning = (parser.groups[title] for title in ("data", "network", "learning"))
    add_labelled_arguments(parser, "trainval")
    add_held_out_argument(parser, 0.2, "part of FOLDER on which the scale and C are chosen")
    data.add_argument(
        "--test", type=Path, metavar="FOLDER", help="photographs to score on (default: FOLDER, where it is a VOC set)"
    )
    data.add_argument("--test-set", default="test", metavar="SET", help="image set of --test")
    data.add_argument("--test-images", type=Path, metavar="DIR", help="folder with the images of a COCO --test")
    data.add_argument(
        "--splits", type=int, default=0, metavar="N", help="random splits, 2 or more (Caltech101: 10), or 0 for none"
    )
    data.add_argument(
        "--per-class",
        type=integers,
        default=(30, 50),
        metavar="N,N",
        help="photographs of a class in such a split: to train on, and at most to test on",
    )
    network.add_argument("--model", type=Path, metavar="M", help=f"take the features of {CLASSIFIER_HELP}")
    network.add_argument(
        "--backbone", metavar="NAME", help=f"or of this network, as in 'sppnet train' (default: {BACKBONE})"
    )
    network.add_argument(
        "--weights",
        metavar="imagenet|none|FILE",
        help=f"its weights: torchvision's, random weights, or a state dict (default: {WEIGHTS})",
    )
    add_map_arguments(parser, None, f" (default: {STRIDE})")
    network.add_argument(
        "--pyramid",
        type=integers,
        metavar="N,N",
        help=f"pyramid levels (default: the model's, or {as_typed(FeatureOptions.levels)})",
    )
    network.add_argument(
        "--features",
        choices=("spp", "fc6", "fc7"),
        default="spp",
        help="the pooled pyramid, or trained fc layers behind it: those of --model, AlexNet or VGG",
    )
    network.add_argument(
        "--views",
        type=some_of(VIEWS),
        default=VIEWS,
        metavar="V,V",
        help="any of full (the whole photograph), crop (the square in its centre), warp (the whole, warped to a "
        "square)",
    )
    network.add_argument(
        "--scales",
        type=integers,
        metavar="N,N",
        help="candidates for the photograph's shorter side and the squares' side (default: the network's size)",
    )
    learning.add_argument(
        "--C", type=positive_numbers, default=(0.1, 1.0, 10.0), metavar="X,X", help="candidates for C"
    )
    parser.groups["output"].add_argument(
        "--protocol",
        choices=("auto", "caltech101", "voc07"),
        default="auto",
        help="score: mean class accuracy (caltech101) or VOC07's mAP (voc07); auto takes the former where photographs "
        "have one label",
    )
    add_json_argument(parser, "JSON file for the figures of all candidates and splits")


def run(args: argparse.Namespace) -> int:
    """Choose, train, score; print the table to stdout. Return 1 if some photographs could not be read."""
    from ...data.errors import InputError
    from ...data.progress import warn
    from ...data.store import write_json
    from ...detector.classification.representation import Representation
    from ...detector.classification.transfer import PROTOCOLS, Protocol, Transfer
    from ...eval.machine import describe_machine
    from ...eval.report import text_table

    if not 0 < args.held_out < 1:
        raise InputError(f"--held-out must be more than 0 and less than 1, not {args.held_out}")
    if args.splits < 0 or args.splits == 1 or len(args.per_class) != 2:
        counts = ",".join(map(str, args.per_class))
        raise InputError(f"--splits must be 2 or more and --per-class two numbers, not {args.splits} and {counts}")
    protect_inputs(args, [] if args.json is None else [args.json])
    train = labelled_from(args)
    if train.multi_label and (args.protocol == "caltech101" or args.splits):
        raise InputError(
            f"{listed_folders(args)}: its photographs have several labels each; --protocol caltech101 and "
            "--splits are for those with one"
        )
    test = _test_images(args, train)
    network = _network(args)
    options = {
        view: [Representation(args.features, network.levels, view, scale) for scale in args.scales or (network.size,)]
        for view in args.views
    }
    automatic: Protocol = "voc07" if train.multi_label else "caltech101"
    protocol: Protocol = automatic if args.protocol == "auto" else args.protocol
    transfer = Transfer(network.backbone, network.head, train, protocol, args.held_out, args.seed, args.quiet)
    results = {view: transfer.run(options[view], args.C, test, args.splits, args.per_class) for view in args.views}
    header = ["view", "scale", "C", "held out", "test"]
    header += [f"mean of {args.splits} splits", "deviation"] if args.splits else []
    rows = []
    for view, found in results.items():
        if found.inexact:
            warn(f"warning: {view}: {found.inexact} SVMs did not converge")
        row = [view, found.chosen.scale, f"{found.chosen.C:g}", found.chosen.held_out, found.test]
        rows.append([*row, found.mean, found.deviation] if args.splits else row)
    if args.json is not None:
        report = {
            "command": args.command_line,
            "machine": describe_machine(),
            "protocol": protocol,
            "classes": len(train.class_names),
            "learnt_from": len(train),
            "tested_on": None if test is None else len(test),
            "failed": sorted(transfer.failed),
            "views": {view: found.to_dict() for view, found in results.items()},
        }
        write_json(args.json, report)
    print(f"{PROTOCOLS[protocol]}, linear SVMs on {args.features} features of {network.name}\n")
    print(text_table(header, rows))
    return 1 if transfer.failed else 0


def _test_images(args: argparse.Namespace, train: LabelledImages) -> LabelledImages | None:
    """Test photographs, none of them a training photograph, with the classes of the training set."""
    from ...data.errors import InputError
    from ...data.labelled_sources import open_labelled

    path = args.test
    if path is None:
        if not (train.multi_label or args.crops) or not args.folders[0].is_dir():
            return None
        path = args.folders[0]
    test = open_labelled([path], args.test_set, args.test_images, args.classes, args.crops)
    if test.multi_label != train.multi_label:
        kind = "several labels" if test.multi_label else "one label"
        raise InputError(f"{path}: its photographs have {kind} each, unlike those of {listed_folders(args)}")
    learnt = {image.path.resolve() for image in train}
    shared = sum(image.path.resolve() in learnt for image in test)
    if shared:
        raise InputError(
            f"{path}: {shared} of its {len(test)} examples are from photographs of {listed_folders(args)}, the "
            "training set; --test or --test-set must name others"
        )
    return test.renamed(train.class_names)


@dataclass(frozen=True, eq=False)
class _Network:
    """Parts that compute features: convolutions, fc layers if any, the pyramid, and the default size."""

    backbone: Backbone
    head: Head | None
    levels: tuple[int, ...]
    size: int
    name: str


def _network(args: argparse.Namespace) -> _Network:
    """Load the network of ``--model`` or ``--backbone`` on the chosen device."""
    from ...data.errors import InputError
    from ...detector.classification.network import SPPClassifier
    from ...detector.convolutions.backbone import Backbone
    from ...detector.head.pretrained import start_from_classifier

    device = resolve_device(args)
    if args.model is not None:
        if any(option is not None for option in (args.backbone, args.weights, args.layer, args.stride)):
            raise InputError(
                "--model contains its network; do not combine it with --backbone, --weights, --layer or --stride"
            )
        classifier = SPPClassifier.load(args.model, device)
        levels = args.pyramid or classifier.levels
        if args.features != "spp" and levels != classifier.levels:
            own = ",".join(map(str, classifier.levels))
            raise InputError(f"{args.model}: its fc layers take the pyramid {own}; leave out --pyramid, or set it so")
        return _Network(classifier.backbone, classifier.head, levels, classifier.size, str(args.model))
    name, weights = args.backbone or BACKBONE, args.weights or WEIGHTS
    levels = args.pyramid or FeatureOptions.levels
    backbone = Backbone(name, weights, args.layer, args.seed, args.stride or STRIDE)
    head = None
    if args.features != "spp":
        head = start_from_classifier(backbone, weights, levels, classes=1)
        if head is None:
            raise InputError(
                f"--features {args.features}: {name} with the weights '{weights}' and the map of {backbone.layer} has "
                "no trained fc layers; alexnet and the vgg networks have, with trained weights and the default map, "
                "and so has a --model"
            )
        head = head.eval().requires_grad_(False).to(device)
    return _Network(backbone.to(device), head, levels, backbone.input_size, name)
