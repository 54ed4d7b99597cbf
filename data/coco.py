"""Datasets in COCO layout: one JSON file of images, categories and annotations, and a folder of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cleaning import Tally, inside_folder, on_displayed, usable_boxes
from .errors import InputError
from .label_files import read_label_json
from .sample import Sample, SampleList, checked_classes


class COCODataset(SampleList):
    """The photographs of a COCO annotation file, with their labelled objects.

    Parameters
    ----------
    annotations : str or Path
        The JSON file.
    images : str or Path
        The folder that the file's ``file_name`` entries are relative to.
    classes : sequence of str, optional
        The categories to use, in this order; objects of other categories are left out. By
        default all categories of the file, in the order of their ids.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Attributes
    ----------
    class_names : tuple of str
    image_ids : dict of str to int
        From ``Sample.id`` to COCO's image id.
    category_ids : tuple of int
        COCO's category id of each class, as used in result files.
    warnings : dict of str to int
        Tolerated problems and their counts; :meth:`warning_lines` gives an example of each.

    Raises
    ------
    InputError
        When the file is not a COCO annotation file, an image is missing, its name points
        outside the folder, or a requested class is not among the categories.

    Notes
    -----
    Crowds (``iscrowd``) become difficult objects; segmentations are not read. The id of a
    sample is COCO's image id as text.

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
        self.category_ids = _category_ids(names, classes, path)
        self.image_ids = {str(entry.id): entry.id for entry in entries}
        label_of = {category: label for label, category in enumerate(self.category_ids)}
        samples = []
        for entry in entries:
            with tally.leaving_out():
                image = inside_folder(folder, entry.file_name, path)
                samples.append(_sample(entry, image, label_of, tally))
        super().__init__(samples, tuple(names[category] for category in self.category_ids), tally)

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
    content = read_label_json(path, "a COCO annotation file")
    with _named(path):
        names = {int(item["id"]): str(item["name"]) for item in content["categories"]}
        entries: dict[int, _Entry] = {}
        for item in content["images"]:
            entry = _Entry(int(item["id"]), str(item["file_name"]), _declared_size(item))
            if entry.id in entries:
                raise ValueError(f"two images have the id {entry.id}")
            entries[entry.id] = entry
        for item in content["annotations"]:
            with tally.leaving_out("annotation that cannot be used, left out"), _named(path):
                _add_annotation(item, entries, names)
    return names, list(entries.values())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what is wrong in the content of a file into an :class:`InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a COCO annotation file ({problem})") from None


def _add_annotation(item: dict[str, Any], entries: dict[int, _Entry], names: dict[int, str]) -> None:
    box = [float(value) for value in item["bbox"]]
    if len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(f"bbox is {item['bbox']}; expected x, y, width, height")
    image, category = int(item["image_id"]), int(item["category_id"])
    if image not in entries:
        raise ValueError(f"an annotation is of image {image}, which is not listed")
    if category not in names:
        raise ValueError(f"an annotation is of category {category}, which is not listed")
    entries[image].boxes.append(box)
    entries[image].categories.append(category)
    entries[image].crowds.append(bool(item.get("iscrowd", 0)))


def _declared_size(item: dict[str, Any]) -> tuple[int, int] | None:
    height, width = int(item.get("height") or 0), int(item.get("width") or 0)
    return (height, width) if height > 0 and width > 0 else None


def _category_ids(names: dict[int, str], classes: Sequence[str] | None, path: Path) -> tuple[int, ...]:
    """COCO's ids of the requested classes, in their order."""
    ids = {name: id for id, name in names.items()}
    if len(ids) < len(names):
        raise InputError(f"{path}: two categories share a name; expected different names")
    if classes is None:
        return tuple(sorted(names))
    wanted = checked_classes(classes)
    unknown = [name for name in wanted if name not in ids]
    if unknown:
        raise InputError(f"{path}: no category {', '.join(unknown)}; it has: {', '.join(sorted(ids))}")
    return tuple(ids[name] for name in wanted)


def _sample(entry: _Entry, image: Path, label_of: dict[int, int], tally: Tally) -> Sample:
    if not image.is_file():
        raise InputError(f"{image}: image not found")
    corners = np.array(entry.boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners, size = on_displayed(corners, image, entry.size, tally, entry.file_name)
    labels = np.array([label_of.get(category, -1) for category in entry.categories], np.int64)
    wanted = labels >= 0
    labels = labels[wanted]
    boxes, usable = usable_boxes(corners[wanted], labels, *size, tally, entry.file_name)
    return Sample(str(entry.id), image, boxes, labels[usable], np.array(entry.crowds, bool)[wanted][usable])
