"""``sppnet scenes``: a labelled data set of generated scenes, to try everything else on."""

from __future__ import annotations

import argparse
import sys

HELP = "write a labelled data set of generated scenes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sppnet scenes``."""
    parser.add_argument("folder", metavar="DIR", help="folder to write, in VOC layout")
    parser.add_argument(
        "--train", type=_count, default=60, metavar="N", help="scenes to train on (default %(default)s)"
    )
    parser.add_argument("--val", type=_count, default=30, metavar="N", help="scenes to score on (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the scenes; 0 when all is written."""
    from ..data.scenes import CLASSES, make_scenes

    make_scenes(args.folder, {"train": args.train, "val": args.val}, seed=args.seed)
    if not args.quiet:
        classes = ", ".join(CLASSES)
        print(f"{args.folder}: {args.train} train and {args.val} val scenes of {classes}", file=sys.stderr)
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative; expected 0 or more scenes")
    return number
