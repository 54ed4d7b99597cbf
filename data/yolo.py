"""Datasets in YOLO layout: a text file of boxes for each photograph, in fractions of its width and height.

The layouts of Ultralytics and Roboflow (``data.yaml``), of Label Studio (``images/``, ``labels/``, ``classes.txt``), of
labelImg (photographs, text files and ``classes.txt`` in one folder) and of Darknet (lists of photographs) are read.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array
from .cleaning import Tally, readable_size, usable_boxes
from .errors import InputError
from .folder import images_below
from .label_files import MALFORMED, LabelledFiles, label_name, read_label_text, refused
from .sample import Sample, SampleList, checked_classes, label_map
from .splits import SPLITS, TRAINVAL, choose_set, split_folders

#: Files with the names of the classes, one a line.
NAMES = ("classes.txt", "obj.names", "_darknet.labels")

#: Files that say where the sets are and what the classes are called.
CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")

#: Boxes may reach beyond the photograph by so many pixels without a word: labels have few digits.
ROUNDING = 0.51

#: No label in fractions is larger than this; one in pixels is.
LARGEST = 2.0

#: Class numbers are smaller than this; a larger one is a damaged file.
MOST_CLASSES = 100_000

_TEXT = "YOLO labels or names of classes"

_DATA = "a YOLO data set"

_EXPECTED = "expected a class number and x y width height, or a polygon, as fractions of the photograph"


class YOLODataset(SampleList):
    """The photographs of a dataset in YOLO layout, with their labelled objects.

    Parameters
    ----------
    path : str or Path
        The folder, or its ``data.yaml``.
    image_set : str, optional
        "train", "val" (also "valid") or "test"; "trainval" for train and val together, or for all photographs of a
        folder without sets.
    classes : sequence of str, optional
        The classes to use, in this order; objects of other classes are left out. By default all of the dataset.
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
        When the set is missing, a file cannot be read, a label is malformed, or a class unknown.

    Notes
    -----
    The labels of a photograph lie in a folder ``labels`` in the place of the last folder ``images`` of its path, or
    beside it. A photograph without a file of labels shows no object, as in Ultralytics' package. Polygons and the four
    corners of turned boxes become the boxes around them; keypoints (``kpt_shape`` in ``data.yaml``) are left out. The
    id of a sample is its path below the folder.

    ``data.yaml`` says where the photographs are: its ``path`` and its sets may lie anywhere. The lists of photographs
    name only some in its folder, in ``path`` or in the folder of the list.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/a.png")
    ...     _ = Path(folder, "a.txt").write_text("0 0.5 0.5 0.25 0.4")
    ...     _ = Path(folder, "classes.txt").write_text("cat")
    ...     data = YOLODataset(folder)
    >>> data.class_names, data[0].boxes
    (('cat',), array([[15.,  9., 25., 21.]], dtype=float32))
    """

    layout = "YOLO labels"

    def __init__(
        self,
        path: str | Path,
        image_set: str | None = None,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        path, tally = Path(path), tally or Tally()
        folder, config, sets = _contents(path)
        try:
            names = _names(config, folder)
        except MALFORMED as error:
            raise refused(path, _DATA, error) from None
        files, labelled = LabelledFiles(), []
        for image in dict.fromkeys(choose_set(sets, image_set, path)):
            with tally.leaving_out():
                labels = files.find(label_file(image))
                labelled.append((image, _read_labels(labels, "kpt_shape" in config, names, tally)))
        numbers = (int(rows[:, 0].max()) for _, rows in labelled if len(rows))
        names = names or [str(number) for number in range(1 + max(numbers, default=-1))]
        class_names = tuple(names) if classes is None else checked_classes(classes)
        new = label_map(names, class_names)
        samples = []
        for image, rows in labelled:
            size = readable_size(image, tally)
            samples += [] if size is None else [_sample(image, folder, rows, size, new, tally)]
        super().__init__(samples, class_names, tally)


def yolo_sets(path: Path) -> list[str]:
    """Names of the sets of a folder in YOLO layout, or of its ``data.yaml``."""
    return list(_contents(path)[2])


def _contents(path: Path) -> tuple[Path, dict[str, Any], dict[str, list[Path]]]:
    """The folder, what ``data.yaml`` says, and the photographs of each set."""
    folder, config = (path, _config(path)) if path.is_dir() else (path.parent, path)
    if config is None:
        return folder, {}, _sets_of_folder(folder)
    content = _read_config(config)
    try:
        return folder, content, _sets_of_config(content, folder, config) or _sets_of_folder(folder)
    except MALFORMED as error:
        raise refused(config, _DATA, error) from None


def is_yolo(folder: Path) -> bool:
    """Whether a folder is in YOLO layout: it has ``data.yaml``, the names of its classes, or a folder of labels."""
    if _config(folder) is not None or any((folder / name).is_file() for name in NAMES):
        return True
    places = [folder, *split_folders(folder).values()]
    return any(next((place / "labels").rglob("*.txt"), None) for place in places if (place / "labels").is_dir())


def label_file(image: Path) -> Path:
    """The file with a photograph's labels, which need not exist."""
    parts, beside = image.parts, image.with_suffix(".txt")
    if "images" in parts[:-1] and not os.path.isfile(beside):
        place = len(parts) - 2 - parts[-2::-1].index("images")
        if Path(*parts[:place], "labels").is_dir():
            return Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
    return beside


def _config(folder: Path) -> Path | None:
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), None)


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(read_label_text(path, _DATA))
    except InputError:
        raise
    except Exception as error:  # on odd values PyYAML raises anything: ValueError, IndexError, AttributeError
        problem = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not YAML ({problem}); expected {_DATA}") from None
    if not isinstance(content, dict) or "names" not in content:
        raise InputError(f"{path}: has no names of classes ('names:'); expected {_DATA}")
    return content


def _names(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Names of the classes in the order of their numbers; empty if none are given."""
    named = config.get("names")
    if isinstance(named, dict):
        try:
            numbers = {int(number): name for number, name in named.items()}
        except (OverflowError, TypeError, ValueError):
            numbers = {-1: ""}
        if not all(0 <= number < MOST_CLASSES for number in numbers):
            keys = reprlib.repr(list(named))
            raise InputError(f"{folder}: the names of its classes have the keys {keys}; expected numbers from 0")
        # Numbers that are left out have a name all the same, so that the others keep their places.
        named = [numbers.get(number, number) for number in range(1 + max(numbers, default=-1))]
    if isinstance(named, list):
        return [_name(name, folder) for name in named]
    for place in (folder, folder / "labels"):
        for name in NAMES:
            if (place / name).is_file():
                lines = [line.strip() for line in read_label_text(place / name, _TEXT).splitlines()]
                return [line for line in lines if line]
    return []


def _name(value: Any, folder: Path) -> str:
    """A class's name; a list cannot be one, and may be short as YAML and gigabytes long as text."""
    name = "" if isinstance(value, list | dict) else str(value)
    if not name:
        raise InputError(f"{folder}: a class is called {reprlib.repr(value)}; expected its name")
    name.encode()  # raises on half a sign
    return name


def _sets_of_config(config: Mapping[str, Any], folder: Path, source: Path) -> dict[str, list[Path]]:
    """Photographs of the sets that ``data.yaml`` names."""
    sets: dict[str, list[Path]] = {}
    for name, others in SPLITS.items():
        entries = [config[key] for key in others if config.get(key)]
        places = [place for entry in entries for place in (entry if isinstance(entry, list) else [entry])]
        if places:
            sets[name] = [image for place in places for image in _images_of(place, config, folder, source)]
    return sets


def _images_of(entry: Any, config: Mapping[str, Any], folder: Path, source: Path) -> Iterator[Path]:
    """Photographs of a folder or a list of photographs, by its path in ``data.yaml``."""
    bases, files = [folder / label_name(config.get("path")), folder], LabelledFiles()
    name = label_name(entry)
    place = _found(name, bases, files) if name else None
    if place is None:
        named = reprlib.repr(entry)
        raise InputError(f"{source}: names the photographs {named}, which are not there; expected a folder in {folder}")
    if place.is_dir():
        yield from images_below(place)
        return
    for line in read_label_text(place, _TEXT).splitlines():
        name = line.strip()
        if name:
            image = _found(name, [place.parent, *bases], files, inside=True)
            if image is None or not os.path.isfile(image):
                raise InputError(f"{place}: lists the photograph {reprlib.repr(name)}, which is not there")
            yield image


def _found(name: str, bases: Sequence[Path], files: LabelledFiles, inside: bool = False) -> Path | None:
    """The file or folder that a dataset names; one below its folders ``bases``, if it must lie ``inside`` them.

    Roboflow's ``../train/images`` lies beside ``data.yaml``, and the paths of another machine end like those of this
    one: so the first folders of the path are left out until there is something.
    """
    # No path is so deep; each of its ends is tried.
    parts = Path(name.replace("\\", "/")).parts[-100:]
    for start in range(max(1, len(parts))):
        part = Path(*parts[start:])
        leads_out = part.is_absolute() or ".." in part.parts
        for base in bases:
            path = base / part
            if inside and leads_out and not any(_is_below(path, one) for one in bases):
                continue
            if os.path.exists(path := files.find(path)):
                return path
    return None


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _sets_of_folder(folder: Path) -> dict[str, list[Path]]:
    """Photographs of a folder by set: its own folders train, val and test, or those of its folder ``images``."""
    for place in (folder, folder / "images"):
        splits = split_folders(place) if place.is_dir() else {}
        if splits:
            return {name: list(images_below(split)) for name, split in splits.items()}
    images = folder / "images"
    return {TRAINVAL: list(images_below(images if images.is_dir() else folder))}


def _read_labels(path: Path, keypoints: bool, names: Sequence[str], tally: Tally) -> Array:
    """Rows float64 (N, 5) of class, x1, y1, x2, y2 in fractions; classes are checked if there are names."""
    if not path.is_file():
        tally.add("photograph without a file of labels, taken to show no object", path.name)
        return np.zeros((0, 5))
    rows = []
    for number, line in enumerate(read_label_text(path, _TEXT).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = np.array(fields, np.float64)
        except ValueError:
            values = np.full(1, np.nan)
        label, values = values[0], values[1:5] if keypoints else values[1:]
        if len(values) == 5:
            tally.add("label with a confidence, which is left out", path.name)
            values = values[:4]
        whole = np.isfinite(values).all() and 0 <= label < MOST_CLASSES and label == np.floor(label)
        if not whole or len(values) < 4 or len(values) % 2:
            raise InputError(f"{path}: line {number} is {reprlib.repr(line.strip())}; {_EXPECTED}")
        if np.abs(values).max() > LARGEST:
            raise InputError(
                f"{path}: line {number} has the number {np.abs(values).max():g}; {_EXPECTED}, not in pixels"
            )
        if names and label >= len(names):
            raise InputError(f"{path}: has the class number {label:g}; there are {len(names)} names of classes")
        rows.append([label, *_box(values)])
    return np.array(rows, np.float64).reshape(-1, 5)


def _box(values: Array) -> list[float]:
    """x1, y1, x2, y2 of x, y, width, height, or of a polygon."""
    if len(values) == 4:
        x, y, width, height = values.tolist()
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    points = values.reshape(-1, 2)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def _sample(image: Path, folder: Path, rows: Array, size: tuple[int, int], new: Array, tally: Tally) -> Sample:
    """A photograph of ``size`` (height, width) with its rows of :func:`_read_labels`; ``new`` maps class numbers."""
    labels = rows[:, 0].astype(np.int64)
    wanted = new[labels] >= 0
    labels = new[labels][wanted]
    limits = np.array([size[1], size[0], size[1], size[0]])
    boxes = rows[wanted, 1:] * limits
    inside = np.clip(boxes, 0, limits)
    boxes = np.where(np.abs(inside - boxes) < ROUNDING, inside, boxes)
    boxes, usable = usable_boxes(boxes, labels, *size, tally, label_file(image).name)
    name = image.relative_to(folder) if image.is_relative_to(folder) else image
    return Sample(name.as_posix(), image, boxes, labels[usable], np.zeros(int(usable.sum()), bool))
