"""Exports of labelling tools with one file for all photographs: CVAT's XML and Label Studio's JSON."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import numpy as np

from .cleaning import CONTROL, Tally
from .errors import InputError
from .folder import images_below
from .image import IMAGE_SUFFIXES
from .label_files import (
    LARGEST,
    MALFORMED,
    declared_size,
    item_place,
    label_name,
    read_label_json,
    read_label_xml,
    refused,
)
from .sample import SampleList
from .splits import TRAINVAL, choose_set
from .voc import Annotation, Labelled, samples_of

#: Name of CVAT's file in its export.
CVAT = "annotations.xml"

_EXPECTED = "an export of CVAT or Label Studio"


@dataclass
class _Labels:
    """A photograph of the export.

    Attributes
    ----------
    name : str
        As written: a path or an address.
    size : (height, width) or None
        Pixels, as written.
    names : list of str
        The objects' classes.
    boxes : list of [x1, y1, x2, y2]
        Pixels, half-open; as written, not clipped to the photograph.
    """

    name: str
    size: tuple[int, int] | None
    names: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if CONTROL.search(self.name):
            raise ValueError(f"a photograph is called {reprlib.repr(self.name)}")

    def add(self, name: str, points: Any) -> None:
        """Add the box around points (P, 2) of x and y in pixels, two or more."""
        points = np.array(points, np.float64).reshape(-1, 2)
        if len(points) < 2 or not (np.abs(points) < LARGEST).all():
            raise ValueError(f"an object of {self.name} has the points {reprlib.repr(points.tolist())}")
        if not name:
            raise ValueError(f"an object of {self.name} has no label")
        self.names.append(name)
        self.boxes.append([*points.min(axis=0).tolist(), *points.max(axis=0).tolist()])

    def annotation(self) -> Annotation:
        """The same as an annotation of VOC."""
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        return Annotation(self.name, self.size, tuple(self.names), boxes, np.zeros(len(boxes), bool))


class ExportedDataset(SampleList):
    """The photographs of an export of CVAT ("CVAT for images", XML) or Label Studio (JSON or JSON-MIN).

    Parameters
    ----------
    path : str or Path
        The file.
    images : str or Path, optional
        The folder of the photographs, at any depth; by default that of the file.
    image_set : str, optional
        An export is a single set, "trainval".
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
        When the file is none of these, or a photograph is not in the folder.

    Notes
    -----
    Photographs are found by the end of their path. The eight letters and digits that Label Studio puts before the name
    of an uploaded file may be missing. Polygons, ellipses and turned boxes become the boxes around them; points and
    lines are left out. A photograph that nobody has labelled is left out of Label Studio's exports; in CVAT's it shows
    no object.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/a.png")
    ...     _ = Path(folder, "annotations.xml").write_text(
    ...         '<annotations><image name="a.png" width="40" height="30">'
    ...         '<box label="cat" xtl="5" ytl="6" xbr="25" ybr="16"/></image></annotations>'
    ...     )
    ...     data = ExportedDataset(f"{folder}/annotations.xml")
    >>> data.class_names, data[0].boxes
    (('cat',), array([[ 5.,  6., 25., 16.]], dtype=float32))
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path | None = None,
        image_set: str | None = None,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        path, tally = Path(path), tally or Tally()
        folder = path.parent if images is None else Path(images)
        from_cvat = path.suffix.lower() == ".xml"
        self.layout = "CVAT labels" if from_cvat else "Label Studio labels"
        try:
            # What is too large is found in the end, in the corners.
            with np.errstate(all="ignore"):
                found = list(_cvat(path, tally) if from_cvat else _label_studio(path, tally))
        except MALFORMED as error:
            raise refused(path, _EXPECTED, error) from None
        files, labelled = _Photographs(folder, path), []
        for one in choose_set({TRAINVAL: found}, image_set, path):
            with tally.leaving_out():
                file = files.find(one.name)
                labelled.append(Labelled(file.relative_to(folder).as_posix(), file, one.annotation(), one.name))
        super().__init__(*samples_of(labelled, classes, tally), tally)


def is_cvat(folder: Path) -> bool:
    """Whether a folder holds an export of CVAT."""
    return (folder / CVAT).is_file() and b"<annotations" in _start(folder / CVAT)


def is_label_studio(path: Path) -> bool:
    """Whether a JSON file is an export of Label Studio: a list of tasks instead of COCO's object."""
    return _start(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _start(path: Path, count: int = 4096) -> bytes:
    """The first bytes of a file: COCO's may have hundreds of megabytes, too many to read them twice."""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _cvat(path: Path, tally: Tally) -> Iterator[_Labels]:
    root = read_label_xml(path, "an export of CVAT")
    if root.tag != "annotations":
        raise ValueError(f"its root element is <{root.tag}>, not <annotations>")
    if root.find("track") is not None:
        raise ValueError("it has the tracks of a video; export it as 'CVAT for images'")
    for number, image in enumerate(root.findall("image")):
        with tally.leaving_out():
            try:
                labels = _cvat_image(image, tally)
            except MALFORMED as error:
                raise refused(item_place(path, "image", number, dict(image.attrib)), _EXPECTED, error) from None
            yield labels


def _cvat_image(image: Element, tally: Tally) -> _Labels:
    labels = _Labels(image.attrib["name"], declared_size(image.attrib["height"], image.attrib["width"]))
    for shape in image:
        points = _cvat_points(shape)
        if points is not None:
            labels.add(shape.attrib["label"].strip(), points)
        elif shape.tag in ("points", "polyline", "skeleton", "cuboid"):
            tally.add(f"{shape.tag} without an inside, left out", labels.name)
    return labels


def _cvat_points(shape: Element) -> Any:
    """Points of a shape of CVAT in pixels; None if it has no inside."""

    def numbers(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    turned = float(shape.get("rotation") or 0)
    if shape.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return _turned(corners, corners.mean(axis=0), turned)
    if shape.tag == "polygon":
        return [[float(value) for value in point.split(",")] for point in shape.attrib["points"].split(";")]
    if shape.tag == "ellipse":
        x, y, across, down = numbers("cx", "cy", "rx", "ry")
        return _ellipse(x, y, across, down, turned)
    if shape.tag == "mask":
        left, top, width, height = numbers("left", "top", "width", "height")
        return [[left, top], [left + width, top + height]]
    return None


def _label_studio(path: Path, tally: Tally) -> Iterator[_Labels]:
    tasks = read_label_json(path, "an export of Label Studio")
    if not isinstance(tasks, list):
        raise ValueError("it is no list of tasks")
    for number, task in enumerate(tasks):
        with tally.leaving_out():
            try:
                labels = _task(task, tally)
            except MALFORMED as error:
                raise refused(item_place(path, "tasks", number, task), _EXPECTED, error) from None
            if labels is not None:
                yield labels


def _task(task: dict[str, Any], tally: Tally) -> _Labels | None:
    """The photograph of a task of Label Studio; None, counted, if nobody has labelled it."""
    data = task.get("data", task)
    names = [value for value in data.values() if isinstance(value, str) and _suffix(value) in IMAGE_SUFFIXES]
    if not names:
        raise ValueError(f"a task has no photograph: {json.dumps(data)[:60]}")
    if "data" in task:
        done = [one for one in task.get("annotations") or task.get("completions") or [] if not one.get("was_cancelled")]
        if not done:
            tally.add("photograph that nobody has labelled, left out", names[0])
            return None
        results = [(one["value"], one) for one in done[-1]["result"] if "value" in one]
    else:
        lists = [value for value in data.values() if isinstance(value, list)]
        results = [(one, one) for value in lists for one in value if isinstance(one, dict)]
    labels = _Labels(names[0], None)
    for value, outer in results:
        _add_result(labels, value, outer, tally)
    return labels


def _add_result(labels: _Labels, value: dict[str, Any], outer: dict[str, Any], tally: Tally) -> None:
    """Add an object of Label Studio, whose numbers are in per cent of the photograph."""
    kind = next((key for key in value if key.endswith("labels") and value[key]), None)
    if kind is None:
        return
    width, height = outer["original_width"], outer["original_height"]
    labels.size = declared_size(height, width)
    if labels.size is None:
        raise ValueError(f"an object of {labels.name} has no size of the photograph")
    scale = np.array(labels.size[::-1]) / 100
    turned = float(value.get("rotation") or 0)
    if kind == "rectanglelabels":
        corner = np.array([value["x"], value["y"]]) * scale
        side = np.array([value["width"], value["height"]]) * scale
        corners = corner + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side
        points = _turned(corners, corner, turned)
    elif kind == "polygonlabels":
        points = np.array(value["points"], np.float64) * scale
    elif kind == "ellipselabels":
        (x, y), (across, down) = (
            np.array([value[name] for name in pair]) * scale for pair in (("x", "y"), ("radiusX", "radiusY"))
        )
        points = _ellipse(x, y, across, down, turned)
    else:
        tally.add(f"{kind} without an inside, left out", labels.name)
        return
    tally.add("object with several labels, of which the first counts", labels.name, int(len(value[kind]) > 1))
    labels.add(label_name(value[kind][0]).strip(), points)


def _turned(points: Any, centre: Any, degrees: float) -> Any:
    """Points turned clockwise, as y points down."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre


def _ellipse(x: float, y: float, across: float, down: float, degrees: float) -> Any:
    """Two corners of the box around an ellipse."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    reach = np.array([np.hypot(across * cosine, down * sine), np.hypot(across * sine, down * cosine)])
    return np.stack([np.array([x, y]) - reach, np.array([x, y]) + reach])


def _suffix(name: str) -> str:
    return PurePosixPath(_clean(name)).suffix.lower()


def _clean(name: str) -> str:
    """The path in an address: ``/data/local-files/?d=folder/a%20b.jpg`` names ``folder/a b.jpg``."""
    return unquote(name.partition("?d=")[2] or name.partition("?")[0]).replace("\\", "/")


class _Photographs:
    """Finds photographs of a folder by what an export calls them: by the longest common end of the path."""

    def __init__(self, folder: Path, source: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the images of {source}")
        self._folder, self._source = folder, source
        self._by_name: dict[str, list[Path]] = {}
        for image in images_below(folder):
            self._by_name.setdefault(normalize("NFC", image.name), []).append(image)

    def find(self, name: str) -> Path:
        """The photograph whose path ends like a name, or like its file name."""
        path = PurePosixPath(normalize("NFC", _clean(name)))
        others = self._by_name.get(path.name) or self._by_name.get(re.sub(r"^[0-9a-f]{8}-", "", path.name)) or []
        best = max(others, key=lambda image: _common(_parts(image), path.parts), default=None)
        if best is None:
            raise InputError(
                f"{self._source}: names the photograph {path.name}, which is not in {self._folder} (--images)"
            )
        return best


def _parts(path: Path) -> tuple[str, ...]:
    return tuple(normalize("NFC", part) for part in path.parts)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Number of equal parts at the end of two paths."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
