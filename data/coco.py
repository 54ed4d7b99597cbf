"""Datasets in COCO layout: one JSON file of images, categories and annotations, and a folder of images."""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from .cleaning import GROUP, LACKING, NO_AREA, Tally, inside_folder, on_displayed, usable_boxes
from .errors import InputError
from .label_files import (
    LARGEST,
    MALFORMED,
    LabelledFiles,
    declared_size,
    item_place,
    label_name,
    read_label_json,
    refused,
)
from .sample import Sample, SampleList, checked_classes

_EXPECTED = "a COCO annotation file"


class COCODataset(SampleList):
    """The photographs of a COCO annotation file, with their labelled objects.

    Parameters
    ----------
    annotations : str or Path
        The JSON file.
    images : str or Path
        The folder that the file's ``file_name`` entries are relative to.
    classes : sequence of str, optional
        The categories to use, in this order; objects of other categories are left out. The file may lack some, but
        not all. By default all categories of the file, in the order of their ids.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Attributes
    ----------
    class_names : tuple of str
    image_ids : dict of str to int
        From ``Sample.id`` to COCO's image id.
    category_ids : tuple of int
        COCO's category id of each class, as used in result files; a free one for a class that the file lacks.
    warnings : dict of str to int
        Tolerated problems and their counts; :meth:`warning_lines` gives an example of each.

    Raises
    ------
    InputError
        When the file is not a COCO annotation file, an image is missing, its name points
        outside the folder, or no requested class is among the categories.

    Notes
    -----
    Crowds (``iscrowd``) become difficult objects; segmentations are not read. The id of a
    sample is COCO's image id as text. A category without objects that only groups others, such
    as the first in Roboflow's files, is left out.

    Examples
    --------
    >>> import json, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/a.png")
    ...     content = {
    ...         "images": [{"id": 7, "file_name": "a.png"}],
    ...         "categories": [{"id": 17, "name": "cat"}],
    ...         "annotations": [{"image_id": 7, "category_id": 17, "bbox": [5, 6, 20, 10]}],
    ...     }
    ...     _ = Path(folder, "cats.json").write_text(json.dumps(content))
    ...     data = COCODataset(f"{folder}/cats.json", folder)
    >>> data.class_names, data[0].boxes
    (('cat',), array([[ 5.,  6., 25., 16.]], dtype=float32))
    """

    layout = "COCO labels"

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        path, folder = Path(annotations), Path(images)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the images of {path}")
        tally = tally or Tally()
        names, entries = _read(path, tally)
        self.category_ids, class_names = _categories(names, classes, path, tally)
        self.image_ids = {str(entry.id): entry.id for entry in entries}
        label_of = {category: label for label, category in enumerate(self.category_ids)}
        files, samples = LabelledFiles(), []
        for entry in entries:
            with tally.leaving_out():
                image = files.find(inside_folder(folder, entry.file_name, path))
                samples.append(_sample(entry, image, label_of, tally))
        super().__init__(samples, class_names, tally)

    def _image_numbers(self) -> list[int]:
        return [self.image_ids[sample.id] for sample in self]


@dataclass
class _Entry:
    """An image of the file with its annotations, unchanged."""

    id: int
    file_name: str
    size: tuple[int, int] | None
    boxes: list[list[float]] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)


def _read(path: Path, tally: Tally) -> tuple[dict[int, str], list[_Entry]]:
    """Category names by id, and the images."""
    content = read_label_json(path, _EXPECTED)
    place = str(path)
    names: dict[int, str] = {}
    parents: dict[int, str] = {}
    entries: dict[int, _Entry] = {}
    try:
        for number, item in enumerate(content["categories"]):
            place = item_place(path, "categories", number, item)
            category = _id(item)
            names[category] = label_name(item["name"])
            parents[category] = str(item.get("supercategory"))
            if not names[category]:
                raise ValueError(f"name is {reprlib.repr(item['name'])}; expected the name of a class")
        place = str(path)
        for number, item in enumerate(content["images"]):
            place = item_place(path, "images", number, item)
            entry = _Entry(_id(item), str(item["file_name"]), declared_size(item.get("height"), item.get("width")))
            if entry.id in entries:
                raise ValueError(f"two images have the id {entry.id}")
            entries[entry.id] = entry
        place, annotations = str(path), content["annotations"]
        if not isinstance(annotations, list):
            raise TypeError(f"annotations are {reprlib.repr(annotations)}; expected a list")
    except MALFORMED as error:
        raise refused(place, _EXPECTED, error) from None
    for number, item in enumerate(annotations):
        try:
            _add_annotation(item, entries, names, tally)
        except MALFORMED as error:
            with tally.leaving_out("annotation that cannot be used, left out"):
                raise refused(item_place(path, "annotations", number, item), _EXPECTED, error) from None
    return _without_groups(names, parents, entries.values(), tally), list(entries.values())


def _id(item: dict[str, Any]) -> int:
    number = int(item["id"])
    if abs(number) >= 2**63:
        raise ValueError("the id has more than 64 bits")
    return number


def _add_annotation(item: dict[str, Any], entries: dict[int, _Entry], names: dict[int, str], tally: Tally) -> None:
    box = [float(value) for value in item["bbox"]]
    image, category = int(item["image_id"]), int(item["category_id"])
    if image not in entries:
        raise ValueError(f"an annotation is of image {reprlib.repr(image)}, which is not listed")
    if category not in names:
        raise ValueError(f"an annotation is of category {reprlib.repr(category)}, which is not listed")
    entry = entries[image]
    if not box:
        tally.add(NO_AREA, entry.file_name)
        return
    if len(box) != 4 or not sum(map(abs, box)) < LARGEST:
        raise ValueError(f"bbox is {reprlib.repr(item['bbox'])}; expected x, y, width, height")
    entry.boxes.append(box)
    entry.categories.append(category)
    entry.crowds.append(bool(item.get("iscrowd", 0)))


def _without_groups(
    names: dict[int, str], parents: dict[int, str], entries: Iterable[_Entry], tally: Tally
) -> dict[int, str]:
    """Categories that have objects, or whose name no other category has or belongs to."""
    used = {category for entry in entries for category in entry.categories}
    mentions = Counter(names.values()) + Counter(parents.values())
    left = dict(names)
    for category, name in names.items():
        if category not in used and mentions[name] > 1 + (parents[category] == name):
            del left[category]
            mentions.subtract([name, parents[category]])
            tally.add(GROUP, name)
    return left


def _categories(
    names: dict[int, str], classes: Sequence[str] | None, path: Path, tally: Tally
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """COCO's ids of the requested classes, in their order, and their names."""
    ids = {normalize("NFC", name): category for category, name in names.items()}
    if len(ids) < len(names):
        raise InputError(f"{path}: two categories share a name; expected different names")
    if classes is None:
        return tuple(sorted(names)), tuple(names[category] for category in sorted(names))
    wanted = checked_classes(classes)
    unknown = [name for name in wanted if normalize("NFC", name) not in ids]
    if len(unknown) == len(wanted):
        raise InputError(f"{path}: no category {', '.join(unknown)}; it has: {', '.join(sorted(ids))}")
    for number, name in enumerate(unknown, start=1 + max(names)):
        ids[normalize("NFC", name)] = number
        tally.add(LACKING, name)
    return tuple(ids[normalize("NFC", name)] for name in wanted), wanted


def _sample(entry: _Entry, image: Path, label_of: dict[int, int], tally: Tally) -> Sample:
    if not os.path.isfile(image):
        raise InputError(f"{image}: image not found")
    corners = np.array(entry.boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners, size = on_displayed(corners, image, entry.size, tally, entry.file_name)
    labels = np.array([label_of.get(category, -1) for category in entry.categories], np.int64)
    wanted = labels >= 0
    labels = labels[wanted]
    boxes, usable = usable_boxes(corners[wanted], labels, *size, tally, entry.file_name)
    return Sample(str(entry.id), image, boxes, labels[usable], np.array(entry.crowds, bool)[wanted][usable])
