"""Checks of annotations: tolerated problems are counted and reported with an example, never ignored silently."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from .arrays import Array
from .boxes import clip
from .errors import ImageError, InputError
from .image import image_size


class Tally:
    """Counts of problems tolerated while reading, with the first place of each kind.

    Attributes
    ----------
    counts : dict of str to int
        How often each kind occurred; a kind is a phrase such as "box without area, dropped".
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, place: str, number: int = 1) -> None:
        """Count ``number`` more of ``kind``, found at ``place`` (a file name)."""
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number
            self._first.setdefault(kind, place)

    def lines(self) -> list[str]:
        """One line for each kind: the count, the kind and the first example."""
        return [f"{count} x {kind} (first in {self._first[kind]})" for kind, count in self.counts.items()]


def usable_boxes(
    boxes: Array, height: int, width: int, tally: Tally, place: str, smallest: float = 0.0
) -> tuple[Array, Array]:
    """Clip annotated boxes to their image and drop those that cannot be used.

    Parameters
    ----------
    boxes : (N, 4) array
        x1, y1, x2, y2, half-open.
    height, width : int
        Size of the displayed image.
    tally : Tally
        Counts dropped and clipped boxes.
    place : str
        The annotation's name, for the tally.
    smallest : float
        A box with a side of at most this many pixels has no area.

    Returns
    -------
    boxes : float32 (M, 4)
        The usable boxes, inside the image.
    usable : bool (N,)
        Which of the given boxes these are.
    """
    has_area = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) > smallest
    inside = clip(boxes, height, width)
    meets_image = (inside[:, 2:] - inside[:, :2]).min(axis=1) > 0
    usable = has_area & meets_image
    cut = usable & (inside != boxes).any(axis=1)
    tally.add("box without area, dropped", place, int((~has_area).sum()))
    tally.add("box outside the image, dropped", place, int((has_area & ~meets_image).sum()))
    tally.add("box partly outside the image, cut to it", place, int(cut.sum()))
    return inside[usable].astype(np.float32), usable


def true_size(image: Path, declared: tuple[int, int] | None, tally: Tally, place: str) -> tuple[int, int]:
    """Height and width of the displayed image; the declared size if the image cannot be read.

    Raises
    ------
    ImageError
        When the image cannot be read and no size is declared.
    """
    try:
        size = image_size(image)
    except ImageError:
        # A batch skips damaged images, so one of them is no reason to refuse the whole set.
        if declared is None:
            raise
        tally.add("image that cannot be read", image.name)
        return declared
    if declared not in (None, size):
        tally.add("annotated size that is not the image's", place)
    return size


def readable_size(image: Path, tally: Tally) -> tuple[int, int] | None:
    """Height and width of the displayed photograph in pixels; None, counted, if it cannot be read.

    A damaged photograph is no reason to refuse all others.
    """
    try:
        return image_size(image)
    except ImageError:
        tally.add("photograph that cannot be read, left out", image.name)
        return None


def inside_folder(folder: Path, name: str, source: Path) -> Path:
    """Return ``folder / name`` for a name read from a file.

    Raises
    ------
    InputError
        When the name points outside the folder; the message names ``source``.
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise InputError(f"{source}: {name!r} leaves the folder {folder}; expected the name of an image in it")
    return folder / pure
