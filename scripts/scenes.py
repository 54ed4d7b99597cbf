"""``sppnet scenes``: write a labelled data set of generated scenes, to try the other commands on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .arguments import add_count
from .parser import CommandParser

HELP = "Write a labelled data set of generated scenes."


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet scenes``."""
    parser.groups["output"].add_argument("folder", type=Path, metavar="DIR", help="folder to write, in VOC layout")
    data = parser.groups["data"]
    add_count(data, "--train", 60, "scenes to train on", least=0)
    add_count(data, "--val", 30, "scenes to score on", least=0)


def run(args: argparse.Namespace) -> int:
    """Write the scenes; return 0."""
    from ..data.outputs import check_writable
    from ..data.scenes import CLASSES, make_scenes

    check_writable([], [args.folder])
    make_scenes(args.folder, {"train": args.train, "val": args.val}, seed=args.seed)
    if not args.quiet:
        classes = ", ".join(CLASSES)
        print(f"{args.folder}: {args.train} train and {args.val} val scenes of {classes}", file=sys.stderr)
    return 0
