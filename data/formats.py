"""Write the detections of many images in formats that other tools read.

``detections.json`` is our own format and complete; CSV, VOC's comp4 lists and COCO's results
are written from the same :class:`Results`. VOC and COCO rank by score, so theirs have scores only.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from .. import __version__
from .boxes import to_voc
from .detections import Detections, decimal, record_cells, record_columns
from .errors import InputError
from .progress import warn
from .store import atomic_path, writable_text

#: Files of VOC's lists that are open at a time.
_OPEN_FILES = 200


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """Detections of one image.

    Attributes
    ----------
    file : str
        The image file as named in results.
    width, height : int
        Size of the displayed image, in pixels.
    detections : Detections
    id : str
        Name of the image in VOC's lists and COCO's results (``Sample.id``); by default the file name without suffix.
    """

    file: str
    width: int
    height: int
    detections: Detections
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", PurePath(self.file).stem)

    def to_record(self) -> dict[str, Any]:
        """The results as ``detections.json`` has them, JSON-like."""
        return {
            "file": self.file,
            "width": self.width,
            "height": self.height,
            "detections": self.detections.to_records(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], class_names: Sequence[str]) -> ImageDetections:
        """The inverse of :meth:`to_record`, for results of these classes.

        Raises
        ------
        KeyError, TypeError, ValueError
            When it is no such record.
        """
        found = Detections.from_records(record["detections"], class_names)
        return cls(record["file"], record["width"], record["height"], found)


@dataclass(frozen=True, eq=False)
class Results:
    """Detections of a model in many images.

    Attributes
    ----------
    model : str
        The model's name or file.
    class_names : tuple of str
        The model's classes; the detections of every image must have the same.
    images : sequence of ImageDetections
    failed : mapping of str to str
        Files that could not be read or drawn, each with its error.
    version : str
        The version of sppnet that made the results.
    """

    model: str
    class_names: tuple[str, ...]
    images: Sequence[ImageDetections]
    failed: Mapping[str, str]
    version: str = __version__

    def __post_init__(self) -> None:
        for image in self.images:
            if image.detections.class_names != self.class_names:
                raise ValueError(
                    f"{image.file}: its classes must be the results' {self.class_names}, "
                    f"not {image.detections.class_names}"
                )


def write_detections_json(path: str | Path, results: Results) -> None:
    """Write ``detections.json``: model, version, classes, images with their detections, failed files."""
    whole = {
        "model": results.model,
        "version": results.version,
        "classes": list(results.class_names),
        "images": [],
        "failed": [{"file": file, "error": error} for file, error in results.failed.items()],
    }
    # Image by image: there may be millions of them. No text inside JSON has quotation marks without a backslash.
    before, empty, after = json.dumps(whole, indent=2).partition('"images": []')
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(before + empty[:-1])
        separator = "\n    "
        for image in results.images:
            file.write(separator + json.dumps(image.to_record(), indent=2).replace("\n", "\n    "))
            separator = ",\n    "
        file.write(("\n  ]" if len(results.images) else "]") + after + "\n")


def read_detections_json(path: str | Path) -> Results:
    """Read a ``detections.json`` back.

    Raises
    ------
    InputError
        When the file cannot be read or is not a ``detections.json``.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    try:
        names = tuple(value["classes"])
        images = [ImageDetections.from_record(item, names) for item in value["images"]]
        failed = {item["file"]: item["error"] for item in value["failed"]}
        return Results(value["model"], names, alike(images), failed, value["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a detections.json of sppnet ({type(error).__name__}: {error})") from None


def alike(images: Sequence[ImageDetections]) -> list[ImageDetections]:
    """The images that were read, all with probabilities if some have: an empty list does not show it, the others do."""
    if not any(image.detections.calibrated for image in images):
        return list(images)
    return [
        image if len(image.detections) else replace(image, detections=image.detections.replace(probabilities=[]))
        for image in images
    ]


def write_csv(path: str | Path, results: Results) -> None:
    """Write one line for each detection: file, label, score, x1, y1, x2, y2.

    A column "probability" follows the scores if the detections of some image have probabilities.
    """
    with_probabilities = any(image.detections.calibrated for image in results.images)
    columns = record_columns(with_probabilities)
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *columns])
        for image in results.images:
            for record in image.detections.to_records():
                writer.writerow([writable_text(image.file), *record_cells(record, columns)])


def write_voc(folder: str | Path, results: Results, image_set: str = "test") -> list[Path]:
    """Write VOC's competition 4 lists, ``comp4_det_SET_CLASS.txt``, one for each class, even if it is empty.

    Each line is ``id score xmin ymin xmax ymax``, with VOC's 1-based inclusive corners. Ids that such lines cannot tell
    apart, equal ones and those with blanks, are reported to the logger ``sppnet``.

    Returns
    -------
    list of Path
        The files written, in the order of the classes.

    Raises
    ------
    InputError
        When a class name cannot be part of a file name.
    """
    for name in results.class_names:
        if re.search(r"[/\\\0]", name):
            raise InputError(f"class {name!r} cannot be part of a file name, as VOC's results need")
    paths = [Path(folder) / f"comp4_det_{image_set}_{name}.txt" for name in results.class_names]
    for first in range(0, len(paths), _OPEN_FILES):
        part = range(first, min(first + _OPEN_FILES, len(paths)))
        with ExitStack() as stack:
            written = [stack.enter_context(atomic_path(paths[label])) for label in part]
            files = [stack.enter_context(open(temporary, "w", encoding="utf-8")) for temporary in written]
            for image in results.images:
                found = image.detections
                for label in sorted({*found.labels.tolist()} & {*part}):
                    files[label - first].write(writable_text(_voc_lines(image.id, found[found.labels == label])))
    _report_unclear(Counter(image.id for image in results.images))
    return paths


def _voc_lines(id: str, found: Detections) -> str:
    """A line for each detection."""
    rows = zip(found.scores, to_voc(found.boxes), strict=True)
    return "".join(
        " ".join([id, *(str(decimal(value)) for value in (score, *corners))]) + "\n" for score, corners in rows
    )


def _report_unclear(ids: Counter[str]) -> None:
    """Report ids that VOC's readers, which split lines at blanks, cannot tell apart."""
    unclear = {
        "stand for several images": [id for id, count in ids.items() if count > 1],
        "contain blanks": [id for id in ids if re.search(r"\s", id)],
    }
    for what, names in unclear.items():
        if names:
            warn(
                f"warning: names in VOC's results that {what}: {len(names)}, such as {names[0]!r}; they have no folder "
                "and no suffix, unlike those in detections.json and CSV"
            )


def write_coco(
    path: str | Path,
    results: Results,
    image_ids: Mapping[str, int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write COCO's results: a list of ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) and ``score``.

    Parameters
    ----------
    path : str or Path
    results : Results
    image_ids : mapping of str to int, optional
        From ``ImageDetections.id`` to COCO's id (``COCODataset.image_ids``); by default images are
        numbered from 1 in their order.
    category_ids : sequence of int, optional
        COCO's id of each class (``COCODataset.category_ids``); by default 1, 2, ... in the order of the classes.

    Raises
    ------
    ValueError
        When an image has no id, or the numbers of classes and category ids differ.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("[")
        separator = ""
        for number, image in enumerate(results.images, 1):
            if image_ids is not None and image.id not in image_ids:
                raise ValueError(f"image_ids has no number for image {image.id!r}")
            image_id = number if image_ids is None else image_ids[image.id]
            for row in image.detections.to_coco(image_id, category_ids):
                file.write(separator + json.dumps(row))
                separator = ", "
        file.write("]\n")
