"""Open Images' CSV of boxes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from .cleaning import Tally, readable_size
from .errors import InputError
from .folder import images_below
from .sample import SampleList
from .voc import Annotation, Labelled, samples_of

#: Columns that are read.
COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")


class OpenImagesDataset(SampleList):
    """The photographs of a folder that a CSV file of Open Images has boxes for.

    Parameters
    ----------
    path : str or Path
        Such as ``train-annotations-bbox.csv``.
    images : str or Path, optional
        The folder of the photographs ``IMAGEID.jpg``, at any depth; by default that of the file.
    classes : sequence of str, optional
        The classes to use, in this order; objects of other classes are left out. By default all that are labelled,
        sorted.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Attributes
    ----------
    class_names : tuple of str
    warnings : dict of str to int
        Tolerated problems and their counts; :meth:`warning_lines` gives an example of each.

    Raises
    ------
    InputError
        When the file has other columns, or no photograph of it is in the folder.

    Notes
    -----
    A file lists more photographs than anybody has: those of the folder count. Classes have the names of a file
    ``*class-descriptions*.csv`` beside it, and without one their codes. Groups of objects (``IsGroupOf``) are
    difficult.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/0001.jpg")
    ...     with open(f"{folder}/boxes.csv", "w") as file:
    ...         print("ImageID,LabelName,XMin,XMax,YMin,YMax", "0001,/m/01yrx,0,0.5,0.2,1", sep=chr(10), file=file)
    ...     data = OpenImagesDataset(f"{folder}/boxes.csv")
    >>> data.class_names, data[0].boxes
    (('/m/01yrx',), array([[ 0.,  6., 20., 30.]], dtype=float32))
    """

    layout = "Open Images labels"

    def __init__(
        self,
        path: str | Path,
        images: str | Path | None = None,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        path, tally = Path(path), tally or Tally()
        folder = path.parent if images is None else Path(images)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the images of {path}")
        there = {normalize("NFC", image.stem): image for image in images_below(folder)}
        rows: dict[str, list[tuple[str, list[float], bool]]] = {}
        for name, *row in _rows(path):
            image = normalize("NFC", name)
            if image in there:
                rows.setdefault(image, []).append((row[0], row[1], row[2]))
        if not rows:
            raise InputError(f"{path}: no photograph of its {COLUMNS[0]}s is in {folder} (--images)")
        described = _descriptions(path.parent)
        labelled = [_labelled(there[image], folder, rows[image], described, tally) for image in sorted(rows)]
        super().__init__(*samples_of([one for one in labelled if one is not None], classes, tally), tally)


def _labelled(
    image: Path,
    folder: Path,
    rows: Sequence[tuple[str, list[float], bool]],
    described: dict[str, str],
    tally: Tally,
) -> Labelled | None:
    """The photograph with its rows of class, x1, y1, x2, y2 in fractions, and group; None if it cannot be read."""
    size = readable_size(image, tally)
    if size is None:
        return None
    boxes = np.array([box for _, box, _ in rows]) * [size[1], size[0], size[1], size[0]]
    annotation = Annotation(
        filename=image.name,
        size=size,
        names=tuple(described.get(code, code) for code, _, _ in rows),
        boxes=boxes,
        difficult=np.array([group for _, _, group in rows], bool),
    )
    return Labelled(image.relative_to(folder).as_posix(), image, annotation, image.name)


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Image, code of the class, x1, y1, x2, y2 in fractions, and whether it is a group; for each box."""
    for number, row in enumerate(_read(path), start=2):
        missing = [name for name in COLUMNS if row.get(name) is None]
        if missing:
            raise InputError(f"{path}: line {number} has no {missing[0]}; expected Open Images' boxes")
        try:
            box = [float(row[name]) for name in ("XMin", "YMin", "XMax", "YMax")]
        except ValueError:
            box = [np.nan]
        if not np.isfinite(box).all() or min(box) < -1 or max(box) > 2:
            raise InputError(f"{path}: line {number} has no box in fractions of the photograph")
        yield row["ImageID"], row["LabelName"], box, row.get("IsGroupOf") == "1"


def _read(path: Path) -> Iterator[dict[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: not CSV ({error}); expected Open Images' boxes") from None


def _descriptions(folder: Path) -> dict[str, str]:
    """Names of classes by their codes, from a file with a code and a name in each line."""
    found = sorted(folder.glob("*class-descriptions*.csv"))
    if not found:
        return {}
    try:
        with open(found[0], encoding="utf-8-sig", newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file) if len(row) == 2}
    except (ValueError, csv.Error) as error:
        raise InputError(f"{found[0]}: not CSV ({error}); expected codes and names of classes") from None
