"""Checks of annotations: tolerated problems are counted and reported with an example, never ignored silently."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from .arrays import Array
from .boxes import clip
from .errors import ImageError, InputError
from .image import TRANSPOSING, displayed_boxes, image_size, orientation_of

#: Characters that no name of a photograph has.
CONTROL = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")

#: Kinds of tolerated problems of boxes, for people.
NO_AREA = "box without area, dropped"
OUTSIDE = "box outside the image, dropped"
CUT = "box partly outside the image, cut to it"
EDGE = "box over the image's edge by a pixel at most, cut to it"
REVERSED = "box with its corners reversed, put right"
REPEATED = "object labelled twice with the same box, taken once"

#: Kinds of tolerated problems of photographs.
UNREADABLE = "image that cannot be read"
OTHER_SIZE = "annotated size that is not the image's"
TURNED = "image turned by its EXIF data and labelled unturned, its boxes turned with it"
TURNED_UNKNOWN = "image turned by its EXIF data, its labels taken for those of the turned one"
UNUSABLE = "image whose labels or file cannot be used, left out"

#: Kinds of tolerated problems of lists of classes.
GROUP = "category without objects that only groups others, left out"
LACKING = "class without a category in the file, taken to have no object"


class Tally:
    """Counts of problems tolerated while reading, with the places of each kind.

    Parameters
    ----------
    lenient : bool
        Whether to tolerate files that cannot be used, too: for :func:`.check.check`, which names them all.

    Attributes
    ----------
    counts : dict of str to int
        How often each kind occurred; a kind is a phrase such as "box without area, dropped".
    places : dict of str to dict of str to int
        For each kind, how often it occurred in which file.
    """

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        self.counts: dict[str, int] = {}
        self.places: dict[str, dict[str, int]] = {}

    def add(self, kind: str, place: str, number: int = 1) -> None:
        """Count ``number`` more of ``kind``, found at ``place`` (a file name)."""
        if number:
            self.counts[kind] = self.counts.get(kind, 0) + number
            place, places = CONTROL.sub(" ", place), self.places.setdefault(kind, {})
            places[place] = places.get(place, 0) + number

    @contextmanager
    def leaving_out(self, kind: str = UNUSABLE) -> Iterator[None]:
        """If the tally is lenient, count an :class:`InputError` of the block and go on after the block."""
        try:
            yield
        except InputError as error:
            if not self.lenient:
                raise
            self.add(kind, str(error))

    def lines(self) -> list[str]:
        """One line for each kind: the count, the kind and the first example."""
        return [f"{count} x {kind} (first in {next(iter(self.places[kind]))})" for kind, count in self.counts.items()]


def usable_boxes(
    boxes: Array, labels: Array, height: int, width: int, tally: Tally, place: str, smallest: float = 0.0
) -> tuple[Array, Array]:
    """Clip annotated boxes to their image and drop those that cannot be used.

    Parameters
    ----------
    boxes : (N, 4) array
        x1, y1, x2, y2, half-open.
    labels : (N,) array
        The classes: a second object of the same class with the same box is dropped, since a detector can only find one.
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
    ordered = in_order(boxes, tally, place)
    has_area = (ordered[:, 2:] - ordered[:, :2]).min(axis=1) > smallest
    inside = clip(ordered, height, width)
    meets_image = (inside[:, 2:] - inside[:, :2]).min(axis=1) > 0
    rows = np.column_stack([labels, inside])
    first = np.zeros(len(rows), bool)
    first[np.unique(rows, axis=0, return_index=True)[1]] = True
    over = np.abs(inside - ordered).max(axis=1, initial=0)
    usable = has_area & meets_image & first
    tally.add(NO_AREA, place, int((~has_area).sum()))
    tally.add(OUTSIDE, place, int((has_area & ~meets_image).sum()))
    tally.add(REPEATED, place, int((has_area & meets_image & ~first).sum()))
    tally.add(CUT, place, int((usable & (over > 1)).sum()))
    tally.add(EDGE, place, int((usable & (over > 0) & (over <= 1)).sum()))
    return inside[usable].astype(np.float32), usable


def in_order(boxes: Array, tally: Tally, place: str, empty: float = 0.0) -> Array:
    """Boxes (N, 4) with x1 <= x2 and y1 <= y2; some tools write the corner where the drawing began first.

    A box whose corners differ by no more than ``empty`` is not reversed but empty, and stays as it is.
    """
    first, second = boxes[:, :2], boxes[:, 2:]
    reverse = first > second + empty
    tally.add(REVERSED, place, int(reverse.any(axis=1).sum()))
    return np.concatenate([np.where(reverse, second, first), np.where(reverse, first, second)], axis=1)


def on_displayed(
    boxes: Array, image: Path, declared: tuple[int, int] | None, tally: Tally, place: str
) -> tuple[Array, tuple[int, int]]:
    """Annotated boxes on the displayed image, and its size.

    Tools that ignore EXIF data (labelImg) show a photograph as it is stored. The size that they declare tells.

    Parameters
    ----------
    boxes : (N, 4) array
        x1, y1, x2, y2, half-open.
    image : Path
    declared : (height, width) or None
        As annotated.
    tally : Tally
    place : str
        The annotation's name, for the tally.

    Returns
    -------
    boxes : (N, 4) array
    size : (height, width)
        Of the displayed image; the declared size if it cannot be read.

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
        tally.add(UNREADABLE, image.name)
        return boxes, declared
    if declared not in (None, size):
        if declared == size[::-1] and (orientation := orientation_of(image)) in TRANSPOSING:
            tally.add(TURNED, place)
            return displayed_boxes(boxes, orientation, size), size
        tally.add(OTHER_SIZE, place)
    return boxes, size


def readable_size(image: Path, tally: Tally) -> tuple[int, int] | None:
    """Height and width of the displayed photograph in pixels; None, counted, if it cannot be read.

    A damaged photograph is no reason to refuse all others. For labels that do not say what size they are of.
    """
    try:
        size = image_size(image)
    except ImageError:
        tally.add("photograph that cannot be read, left out", image.name)
        return None
    if orientation_of(image) != 1:
        tally.add(TURNED_UNKNOWN, image.name)
    return size


def inside_folder(folder: Path, name: str, source: Path) -> Path:
    """Return ``folder / name`` for a name read from a file; Windows' back-slashes count as slashes.

    Raises
    ------
    InputError
        When the name points outside the folder or has control characters; the message names ``source``.
    """
    pure = PurePosixPath(name.replace("\\", "/"))
    if not pure.name or pure.is_absolute() or ".." in pure.parts or re.match("[A-Za-z]:", name):
        problem = f"leaves the folder {folder}"
    elif CONTROL.search(name):
        problem = "has control characters"
    else:
        return folder / pure
    raise InputError(f"{source}: {reprlib.repr(name)} {problem}; expected the name of an image in {folder}")
