"""Write labelled photographs in VOC, YOLO or COCO layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .cleaning import Tally, readable_size
from .errors import InputError
from .progress import track
from .sample import Sample, SampleList
from .splits import SPLITS, TRAINVAL, split_of
from .store import writable_text, write_json, write_text
from .voc import write_annotation

#: Digits of a fraction in YOLO labels: enough for the same box in single precision.
DIGITS = 10

Sets = Mapping[str, SampleList]

#: The photographs of each set that was written.
Written = Mapping[str, list[Sample]]


def write_layout(sets: Sets, layout: str, folder: Path, quiet: bool = False) -> tuple[dict[str, int], Tally]:
    """Write the sets of a dataset, with copies of their photographs, to a new folder.

    Parameters
    ----------
    sets : mapping of SampleList
        By their names; all have the same classes.
    layout : str
        One of :data:`WRITERS`.
    folder : Path
        It must be empty or missing.
    quiet : bool
        No progress bar.

    Returns
    -------
    counts : dict of str to int
        The photographs of each set that was written.
    tally : Tally
        What the layout cannot say, and photographs that cannot be read.

    Raises
    ------
    InputError
        When the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; expected a new folder, or an empty one")
    tally = Tally()
    written = WRITERS[layout](_Photographs(sets, tally), folder, quiet)
    return {name: len(samples) for name, samples in written.items()}, tally


class _Photographs:
    """The photographs of some sets, each under a name of its own.

    Attributes
    ----------
    classes : tuple of str
    sets : dict of str to list of Sample
        Without photographs that cannot be read.
    names : dict of Path to str
        A file name for each photograph; no two differ in the suffix alone.
    sizes : dict of Path to (height, width)
    tally : Tally
    """

    def __init__(self, sets: Sets, tally: Tally) -> None:
        self.classes = next(iter(sets.values())).class_names
        self.names: dict[Path, str] = {}
        self.sizes: dict[Path, tuple[int, int]] = {}
        self.tally = tally
        taken: set[str] = set()
        self.sets = {
            name: [sample for sample in of_set if self._usable(sample, taken)] for name, of_set in sets.items()
        }

    def _usable(self, sample: Sample, taken: set[str]) -> bool:
        """Find a name and the size of a photograph; False if it cannot be read."""
        path = sample.path
        if path in self.names:
            return True
        size = readable_size(path, self.tally)
        if size is None:
            return False
        self.sizes[path] = size
        stem, suffix, number = writable_text(path.stem), writable_text(path.suffix), 1
        while stem.lower() in taken:
            number += 1
            stem = f"{writable_text(path.stem)}-{number}"
        self.tally.add("photograph renamed, as another has its name", path.name, int(number > 1))
        taken.add(stem.lower())
        self.names[path] = stem + suffix
        return True

    def copy(self, folder: Path, samples: list[Sample], quiet: bool) -> None:
        """Copy the photographs of some samples to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for sample in track(samples, f"photographs to {folder}", quiet=quiet):
            shutil.copyfile(sample.path, folder / self.names[sample.path])

    @property
    def all(self) -> list[Sample]:
        """Every photograph once."""
        return list({sample.path: sample for samples in self.sets.values() for sample in samples}.values())


def _write_voc(photographs: _Photographs, folder: Path, quiet: bool) -> Written:
    for name, samples in photographs.sets.items():
        lines = [Path(photographs.names[sample.path]).stem for sample in samples]
        write_text(folder / "ImageSets/Main" / f"{name}.txt", "".join(f"{line}\n" for line in lines))
    for sample in photographs.all:
        name = photographs.names[sample.path]
        objects = [photographs.classes[label] for label in sample.labels]
        path, size = folder / "Annotations" / f"{Path(name).stem}.xml", photographs.sizes[sample.path]
        write_annotation(path, name, size, sample.boxes.astype(np.float64), objects, sample.difficult)
    photographs.copy(folder / "JPEGImages", photographs.all, quiet)
    return photographs.sets


def _write_yolo(photographs: _Photographs, folder: Path, quiet: bool) -> Written:
    sets = {ours: samples for name, samples in photographs.sets.items() if (ours := split_of(name))}
    there = {sample.path for samples in sets.values() for sample in samples}
    for name, samples in photographs.sets.items():
        if split_of(name) is None and not there.issuperset(sample.path for sample in samples):
            if "train" not in sets and (name == TRAINVAL or len(photographs.sets) == 1):
                sets["train"] = samples
            else:
                photographs.tally.add("set left out, as YOLO has train, val and test", name)
    lines = [f"{name}: images/{name}\n" for name in SPLITS if name in sets]
    # JSON's strings are YAML's, too.
    names = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(photographs.classes)
    )
    write_text(folder / "data.yaml", f"path: .\n{''.join(lines)}names:\n{names}")
    for name, samples in sets.items():
        for sample in samples:
            place = Path(photographs.names[sample.path]).stem + ".txt"
            photographs.tally.add("difficult object, which YOLO labels cannot mark", place, int(sample.difficult.sum()))
            labels = _yolo_lines(sample, photographs.sizes[sample.path])
            write_text(folder / "labels" / name / place, labels, durable=False)
        photographs.copy(folder / "images" / name, samples, quiet)
    return sets


def _yolo_lines(sample: Sample, size: tuple[int, int]) -> str:
    """A line for each object: class number, centre, width and height in fractions of ``size``, (height, width)."""
    boxes = sample.boxes.astype(np.float64) / np.array([size[1], size[0], size[1], size[0]])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows = zip(sample.labels.tolist(), np.concatenate([centres, sides], axis=1).tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{value:.{DIGITS}f}' for value in row)}\n" for label, row in rows)


def _write_coco(photographs: _Photographs, folder: Path, quiet: bool) -> Written:
    categories = [{"id": number, "name": name} for number, name in enumerate(photographs.classes, start=1)]
    for name, samples in photographs.sets.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, sample in enumerate(samples, start=1):
            height, width = photographs.sizes[sample.path]
            images.append({"id": number, "file_name": photographs.names[sample.path], "width": width, "height": height})
            objects = zip(sample.boxes.tolist(), sample.labels.tolist(), sample.difficult.tolist(), strict=True)
            for (x1, y1, x2, y2), label, difficult in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": int(difficult),
                    }
                )
        write_json(folder / f"{name}.json", {"images": images, "categories": categories, "annotations": annotations})
    photographs.copy(folder / "images", photographs.all, quiet)
    return photographs.sets


#: Writers by the names of their layouts.
WRITERS: dict[str, Callable[[_Photographs, Path, bool], Written]] = {
    "voc": _write_voc,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
