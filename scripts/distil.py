"""``sppnet distil``: train a backbone on photographs without labels."""

from __future__ import annotations

import argparse

from ..detector.descent.options import DISTIL_AUGMENTATION, DISTIL_LEARN, STUDENT, TEACHER
from ..detector.options import WEIGHTS, FeatureOptions
from .arguments import (
    add_channels_argument,
    add_count,
    add_file_output,
    add_held_out_argument,
    add_images_argument,
    comma_list,
    integers,
)
from .common import protect_inputs, resolve_device
from .parser import CommandParser, as_typed

HELP = """Train a small network from random weights to compute the feature map of a pretrained teacher network.

IMAGES need no labels. The result is a file for --weights of 'sppnet train', with the same --backbone. The folder --work
keeps the state after each epoch, and curves: a stopped run goes on where it was. A photograph that cannot be read is
named and skipped; the exit status is then 1."""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet distil``."""
    network, learning = parser.groups["network"], parser.groups["learning"]
    add_images_argument(parser, "+")
    add_held_out_argument(parser, DISTIL_LEARN.held_out)
    network.add_argument(
        "--backbone",
        default=STUDENT,
        metavar="NAME",
        help="student network; its map must have the stride and the channels of the teacher's, after --channels",
    )
    network.add_argument("--teacher", default=TEACHER, metavar="NAME", help="teacher network")
    network.add_argument(
        "--layer",
        metavar="NAME",
        help="the teacher's layers whose maps are learnt, with commas between them (default: those of 'sppnet train')",
    )
    add_channels_argument(parser)
    network.add_argument(
        "--weights",
        default=WEIGHTS,
        metavar="imagenet|FILE",
        help="the teacher's weights: those of an installed package or torchvision's (downloaded once), or a file",
    )
    learning.add_argument(
        "--sizes",
        type=integers,
        default=DISTIL_LEARN.sizes,
        metavar="N,N",
        help="sides of the crops in pixels, one each epoch in turn, the largest first",
    )
    learning.add_argument(
        "--area",
        type=comma_list(float, "two parts of a photograph, like 0.08,0.8", lambda parts: len(parts) == 2),
        default=DISTIL_AUGMENTATION.area,
        metavar="A,B",
        help="a crop shows from a part A to a part B of a photograph: objects should look as large as to the detector "
        f"(the default is for --scales {as_typed(FeatureOptions.scales)})",
    )
    add_count(learning, "--epochs", DISTIL_LEARN.epochs, "passes over the photographs")
    add_count(learning, "--batch", DISTIL_LEARN.batch, "crops in a mini-batch")
    learning.add_argument("--rate", type=float, default=DISTIL_LEARN.rate, metavar="R", help="AdamW's learning rate")
    add_file_output(parser, "file of weights to write")


def run(args: argparse.Namespace) -> int:
    """Train and save; return 1 if a photograph could not be read."""
    from dataclasses import replace

    from ..data.folder import find_images
    from ..data.progress import log
    from ..detector.distillation import distil
    from ..detector.modelfile import read_header

    protect_inputs(args, [args.out])
    learn = replace(
        DISTIL_LEARN,
        epochs=args.epochs,
        batch=args.batch,
        rate=args.rate,
        sizes=args.sizes,
        held_out=args.held_out,
        seed=args.seed,
    )
    distil(
        find_images(args.images),
        args.out,
        args.backbone,
        args.teacher,
        args.weights,
        learn,
        replace(DISTIL_AUGMENTATION, area=args.area),
        work=args.work,
        device=resolve_device(args),
        quiet=args.quiet,
        teacher_layer=args.layer,
        channels=args.channels,
    )
    log(f"wrote {args.out}; 'sppnet train --backbone {args.backbone} --weights {args.out}' builds on it", args.quiet)
    return 1 if read_header(args.out)["card"]["failed"] else 0
