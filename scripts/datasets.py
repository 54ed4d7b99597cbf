"""DATASET on the command line, and the lists that options take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.sample import SampleList


def add_dataset_arguments(parser: argparse.ArgumentParser, default_set: str) -> None:
    """DATASET, ``--set`` and ``--images``."""
    parser.add_argument(
        "dataset",
        type=Path,
        metavar="DATASET",
        help="a folder in VOC layout (JPEGImages, Annotations, ImageSets/Main), its parent, or a COCO annotation file",
    )
    parser.add_argument(
        "--set", default=default_set, metavar="SET", help=f"the list ImageSets/Main/SET.txt (default: {default_set})"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the images of a COCO annotation file")


def dataset_from(args: argparse.Namespace, classes: tuple[str, ...] | None = None) -> SampleList:
    """The dataset that the arguments name; what was tolerated in reading it is said on stderr.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from ..data.open import open_dataset
    from ..data.progress import log

    dataset = open_dataset(args.dataset, args.set, images=args.images, classes=classes)
    for line in dataset.warning_lines():
        log(f"warning: {line}", args.quiet)
    return dataset


def names(text: str) -> tuple[str, ...]:
    """A list of names from ``cat,dog``."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"expected different names with commas between them, got '{text}'")
    return parts


def integers(text: str) -> tuple[int, ...]:
    """A list of positive integers from ``1,2,3``."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected positive whole numbers with commas between them, got '{text}'")
    return numbers
