"""DATASET on the command line, and the lists that options take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data.labelled import LabelledImages
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


def add_labelled_arguments(parser: argparse.ArgumentParser, default_set: str) -> None:
    """FOLDERs of photographs that are labelled as a whole, ``--set``, ``--images``, ``--classes`` and ``--crops``."""
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="a folder with one folder of photographs for each class, a folder in VOC layout, or a COCO annotation "
        "file; several, with one label for each photograph, become one set",
    )
    parser.add_argument(
        "--set", default=default_set, metavar="SET", help=f"VOC's list ImageSets/Main/SET.txt (default: {default_set})"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the images of a COCO annotation file")
    parser.add_argument("--classes", type=names, metavar="A,B", help="these only (default: all)")
    parser.add_argument(
        "--crops", action="store_true", help="take VOC's or COCO's objects, cut out, rather than whole photographs"
    )


def labelled_from(args: argparse.Namespace) -> LabelledImages:
    """The labelled photographs that the arguments name; what was tolerated in reading them is said on stderr.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    return open_and_warn(args.folders, args.set, args.images, args, args.classes)


def open_and_warn(
    folders: Sequence[Path],
    image_set: str,
    images: Path | None,
    args: argparse.Namespace,
    classes: Sequence[str] | None = None,
) -> LabelledImages:
    """Folders as one set, whole or cut as ``--crops`` says; what was tolerated is said on stderr."""
    from ..data.labelled_sources import open_labelled
    from ..data.progress import log

    found = open_labelled(folders, image_set, images, classes, args.crops)
    for line in found.warning_lines():
        log(f"warning: {line}", args.quiet)
    return found


def listed_folders(args: argparse.Namespace) -> str:
    """The folders of the command line, for messages."""
    return ", ".join(map(str, args.folders))


def known_only(
    images: LabelledImages, source: str, class_names: Sequence[str], multi_label: bool, owner: str, quiet: bool
) -> LabelledImages:
    """The images with labels that index the classes of ``owner``, a model or the photographs that it learns from.

    Other classes are left out, with a line on stderr that counts them, unless ``quiet``. ``source`` is what messages
    call the images.

    Raises
    ------
    InputError
        When the images have another kind of labels, or show none of the classes.
    """
    from ..data.errors import InputError
    from ..data.progress import log

    if images.multi_label != multi_label:
        kinds = {True: "any number of labels", False: "one label"}
        hint = "; --crops takes its objects, with one label each" if images.multi_label else ""
        raise InputError(
            f"{source}: its photographs have {kinds[images.multi_label]} each; expected {kinds[multi_label]}, as "
            f"{owner} has it{hint}"
        )
    shared = [name for name in class_names if name in images.class_names]
    known = images.only(shared) if shared else images.subset([])
    if not (known.targets == 1).any():
        raise InputError(
            f"{source}: shows none of the classes of {owner}; it has {_some(images.class_names)}, expected some of "
            f"{_some(class_names)}"
        )
    unknown = len(images.class_names) - len(shared)
    if unknown:
        lost = "labels" if multi_label else f"{len(images) - len(known)} photographs"
        log(
            f"warning: {source}: {unknown} of {len(images.class_names)} classes are none of {owner}'s, their {lost} "
            "are left out",
            quiet,
        )
    return known.renamed(class_names)


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
