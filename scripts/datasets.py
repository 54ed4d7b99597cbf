"""Datasets from command-line arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..data.addresses import Photograph
    from ..data.detections import Detections
    from ..data.labelled import LabelledImages
    from ..data.sample import SampleList


def dataset_from(args: argparse.Namespace, classes: tuple[str, ...] | None = None) -> SampleList:
    """Open the dataset of the arguments; what it was taken for, and problems that were tolerated, go to stderr.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from ..data.cleaning import UNREADABLE
    from ..data.coco import COCODataset
    from ..data.open import open_dataset
    from ..data.progress import log, warn
    from ..data.voc import VOCDataset

    if getattr(args, "split", None) is None:
        dataset = open_dataset(args.dataset, args.set, images=args.images, classes=classes)
    else:
        dataset = part_of_single(args, classes)
    if not isinstance(dataset, VOCDataset | COCODataset):
        # Found out by looking; those two are what they are called.
        count = len(dataset.class_names)
        log(
            f"{dataset.layout}, {count} class{'es' * (count != 1)}, {len(dataset)} images: {set_name(args)}", args.quiet
        )
    for line in dataset.warning_lines():
        if UNREADABLE not in line:  # named when it is to be read
            warn(f"warning: {line}")
    return dataset


def part_of_single(args: argparse.Namespace, classes: tuple[str, ...] | None) -> SampleList:
    """Open a part of a dataset that is a single set, by ``--split`` and ``--set``; says so on stderr.

    The part does not depend on ``--seed``: a detector must not be scored on photographs that it learnt from because
    somebody trained it with another seed.

    Raises
    ------
    InputError
        When there are several sets, or none is called so.
    """
    from ..data.errors import InputError
    from ..data.open import open_sets
    from ..data.progress import log
    from ..data.splits import split_single

    parts = split_single(open_sets(args.dataset, args.images, classes), args.split, 0, args.dataset)
    if args.set not in parts:
        raise InputError(f"--split makes the sets {' and '.join(parts)}; there is no {args.set}")
    told = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    log(f"{args.dataset}: split at random, near duplicates together: {told} images", args.quiet)
    return parts[args.set]


def of_test_set(args: argparse.Namespace) -> argparse.Namespace:
    """Arguments with the test set instead of the training set."""
    dataset = args.test_dataset or args.dataset
    # A folder contains its images.
    images = args.test_images or (None if dataset.is_dir() else args.images)
    return argparse.Namespace(**{**vars(args), "dataset": dataset, "set": args.test_set, "images": images})


def set_name(args: argparse.Namespace) -> str:
    """Name of a set; a file with all labels is a single set."""
    return (
        str(args.dataset) if args.dataset.suffix.lower() in (".json", ".xml", ".csv") else f"{args.dataset} {args.set}"
    )


def train_and_test_sets(args: argparse.Namespace) -> tuple[SampleList, SampleList]:
    """Training set and test set, which must have no images in common.

    Raises
    ------
    InputError
        When they share images, or one of them cannot be used.
    """
    from ..data.errors import InputError
    from ..detector.training.train import check_classes

    train_set = dataset_from(args, args.classes)
    check_classes(list(train_set), train_set.class_names)
    of_test = of_test_set(args)
    test_set = dataset_from(of_test, train_set.class_names)
    learnt = {sample.path.resolve() for sample in train_set}
    shared = sum(sample.path.resolve() in learnt for sample in test_set)
    if shared:
        raise InputError(
            f"{set_name(of_test)}: {shared} of its {len(test_set)} images are in the training set, {set_name(args)}, "
            "too; --test-set (or --test-dataset) must name others"
        )
    if not any((~sample.difficult).any() for sample in test_set):
        raise InputError(f"{set_name(of_test)}: no object of {', '.join(train_set.class_names)} to find")
    return train_set, test_set


def labelled_from(args: argparse.Namespace) -> LabelledImages:
    """Open the labelled photographs of the arguments; problems that were tolerated go to stderr.

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
    """Open folders as one set, with ``--crops`` as object crops; problems that were tolerated go to stderr."""
    from ..data.labelled_sources import open_labelled
    from ..data.progress import warn

    found = open_labelled(folders, image_set, images, classes, args.crops)
    for line in found.warning_lines():
        warn(f"warning: {line}")
    return found


def labelled_objects(
    dataset: Path, photographs: Iterable[Photograph], class_names: tuple[str, ...]
) -> dict[Photograph, Detections]:
    """Labelled objects of photographs, from any set of a dataset.

    Parameters
    ----------
    dataset : Path
        In any layout; the photographs of a file with all labels lie below its folder.
    photographs : iterable of Path or Address
        Those that the dataset does not have are left out.
    class_names : tuple of str
        The first classes of the result; the dataset's others follow.

    Raises
    ------
    InputError
        When the dataset cannot be read, or has none of the photographs.
    """
    import numpy as np

    from ..data.detections import Detections
    from ..data.errors import InputError
    from ..data.open import open_sets
    from ..data.sample import label_map

    sets = open_sets(dataset, None if dataset.is_dir() else dataset.parent)
    names = next(iter(sets.values())).class_names if sets else ()
    together = (*class_names, *(name for name in names if name not in class_names))
    new = label_map(names, together)
    by_path = {sample.path.resolve(): sample for of_set in sets.values() for sample in of_set}
    files = (path for path in photographs if isinstance(path, Path))
    known = [(path, by_path[path.resolve()]) for path in files if path.resolve() in by_path]
    if not known:
        raise InputError(f"{dataset}: has labels of none of the photographs")
    return {
        path: Detections(sample.boxes, np.ones(len(sample.boxes)), new[sample.labels], together)
        for path, sample in known
    }


def listed_folders(args: argparse.Namespace) -> str:
    """Folders of the command line, for messages."""
    return ", ".join(map(str, args.folders))


def known_only(
    images: LabelledImages, source: str, class_names: Sequence[str], multi_label: bool, owner: str
) -> LabelledImages:
    """Relabel images with the classes of ``owner``, a model or a training set.

    Other classes are left out; a line on stderr counts them. ``source`` is the name of the images in
    messages.

    Raises
    ------
    InputError
        When the images have another kind of labels, or show none of the classes.
    """
    from ..data.errors import InputError
    from ..data.progress import warn

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
        warn(
            f"warning: {source}: {unknown} of {len(images.class_names)} classes are not in {owner}; their {lost} are "
            "left out"
        )
    return known.renamed(class_names)


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
