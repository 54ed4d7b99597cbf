"""``sppnet convert``: write labelled photographs in another layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import add_classes_argument, add_pixels_argument, add_split_argument
from .parser import CommandParser

HELP = """Write labelled photographs in another layout: all their sets, with copies of the photographs, in a new folder.

What the layout cannot say is counted and named."""

#: Layouts that can be written.
LAYOUTS = ("voc", "coco", "yolo")


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet convert``."""
    data, output = parser.groups["data"], parser.groups["output"]
    data.add_argument(
        "dataset", type=Path, metavar="DATASET", help="labelled photographs in any layout that 'sppnet train' reads"
    )
    data.add_argument("--images", type=Path, metavar="DIR", help="folder with the images of a COCO file or an export")
    add_pixels_argument(parser)
    add_classes_argument(parser)
    add_split_argument(parser, "--seed makes another choice")
    output.add_argument("--to", required=True, choices=LAYOUTS, help="layout to write")
    output.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="new folder to write")


def run(args: argparse.Namespace) -> int:
    """Write the layout; return 0."""
    from ..data.errors import InputError
    from ..data.open import open_sets
    from ..data.outputs import check_writable
    from ..data.progress import log, warn
    from ..data.splits import split_single
    from ..data.writers import write_layout

    check_writable([], [args.out])
    sets = open_sets(args.dataset, args.images, args.classes)
    first = next(iter(sets.values()), None)
    if first is None:
        raise InputError(f"{args.dataset}: has no image sets; expected a list in its ImageSets/Main")
    for name, of_set in sets.items():
        for line in of_set.warning_lines():
            warn(f"warning: {name}: {line}")
    if args.split is not None:
        sets = split_single(sets, args.split, args.seed, args.dataset)
    written, tally = write_layout(sets, args.to, args.out, args.quiet)
    for line in tally.lines():
        warn(f"warning: {line}")
    counts = ", ".join(f"{name} {count}" for name, count in written.items())
    log(f"{first.layout} to {args.out}: {len(first.class_names)} classes; images: {counts}", args.quiet)
    return 0
