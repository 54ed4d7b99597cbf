"""Which photographs belong to training, validation and test: by the names of folders, or at random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from .errors import InputError
from .near_duplicates import duplicate_groups
from .sample import SampleList

#: What the sets are called; the first name is ours.
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}

#: The set of all photographs but those of the test set; all of them if there are no sets.
TRAINVAL = "trainval"

Item = TypeVar("Item")


def split_of(name: str) -> str | None:
    """Our name of a set that somebody calls ``name``, or None."""
    return next((ours for ours, names in SPLITS.items() if name.lower() in names), None)


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders for training, validation and test in a folder, by our names of the sets."""
    found = {split_of(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return {name: found[name] for name in SPLITS if name in found}


def choose_set(sets: Mapping[str, list[Item]], image_set: str | None, source: Path) -> list[Item]:
    """The photographs of a set.

    Parameters
    ----------
    sets : mapping
        Photographs by the names of :data:`SPLITS`; under :data:`TRAINVAL` those of a folder without sets.
    image_set : str, optional
        A name of :data:`SPLITS`, ours or another; :data:`TRAINVAL` has train and val together. By default the only set.
    source : Path
        For messages.

    Raises
    ------
    InputError
        When there is no such set; it names those that there are.
    """
    known = dict(sets)
    both = [one for name in ("train", "val") for one in sets.get(name, [])]
    if TRAINVAL not in known and both:
        known[TRAINVAL] = both
    name = image_set or (next(iter(sets)) if len(sets) == 1 else None)
    name = name if name is None or name in known else split_of(name)
    if name not in known:
        asked = f"no image set {image_set!r}" if image_set else "name an image set"
        hint = "; all its photographs are one set" if list(sets) == [TRAINVAL] else ""
        raise InputError(f"{source}: {asked}; it has: {', '.join(known) or 'none'}{hint}")
    return known[name]


def split_single(sets: Mapping[str, SampleList], share: float, seed: int, source: str | Path) -> dict[str, SampleList]:
    """Split a single set at random into ``trainval`` and ``test``; near duplicates stay together.

    Parameters
    ----------
    sets : mapping of str to SampleList
        All sets of a dataset.
    share : float
        Of the photographs, for ``trainval``: more than 0 and less than 1.
    seed : int
    source : str or Path
        For messages.

    Raises
    ------
    InputError
        When the share is none, or there are several sets.
    """
    if not 0 < share < 1:
        raise InputError(f"--split is a part of the photographs, such as 0.8, not {share:g}")
    if len(sets) != 1:
        raise InputError(f"{source}: --split is for a single set, and it has {', '.join(sets) or 'none'}")
    (dataset,) = sets.values()
    groups = duplicate_groups([sample.path for sample in dataset])
    names, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    # Whole groups, as long as no more than the share are in them; the rest is tested on.
    kept = names[order][np.cumsum(sizes[order]) <= round(share * len(groups))]
    inside = np.isin(groups, kept)
    return {TRAINVAL: dataset.subset(np.flatnonzero(inside)), "test": dataset.subset(np.flatnonzero(~inside))}
