"""Datasets in PASCAL VOC layout: ``JPEGImages/``, ``Annotations/`` and ``ImageSets/Main/SET.txt``.

Reading tolerates differences between annotation tools (missing fields, fractional
coordinates, other image formats, boxes beyond the edge) and counts them. It is strict where
a guess would harm the training (missing files, invalid XML, ids that point outside the
folder, invalid numbers).
"""

from __future__ import annotations

import os
import re
import reprlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from .boxes import from_voc, to_voc
from .cleaning import Tally, in_order, inside_folder, on_displayed, usable_boxes
from .errors import InputError
from .image import IMAGE_SUFFIXES
from .label_files import LARGEST, LabelledFiles, declared_size, read_label_text, read_label_xml
from .sample import Sample, SampleList, classes_of, label_map
from .store import atomic_path

_PARTS = ("JPEGImages", "Annotations", "ImageSets/Main")


@dataclass(frozen=True, eq=False)
class Annotation:
    """Content of one annotation file.

    Attributes
    ----------
    filename : str
        The image's name as written, '' if it is missing.
    size : (height, width) or None
        As written; None if it is missing or not positive.
    names : tuple of str
        The objects' classes.
    boxes : float64 array (N, 4)
        x1, y1, x2, y2, 0-based, half-open, exactly as written (not clipped to the image).
    difficult : bool array (N,)
    """

    filename: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: NDArray[Any]
    difficult: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photograph with its annotation.

    Attributes
    ----------
    id : str
    path : Path
        The image file.
    annotation : Annotation
    place : str
        Name of the annotation's file, for messages.
    """

    id: str
    path: Path
    annotation: Annotation
    place: str


class VOCDataset(SampleList):
    """The photographs of one image set in VOC layout, with their labelled objects.

    Parameters
    ----------
    root : str or Path
        The folder with ``JPEGImages/``, ``Annotations/`` and ``ImageSets/Main/``, or the folder
        above it, if it contains one such folder (``VOCdevkit`` above ``VOC2007``).
    image_set : str
        The name of a list in ``ImageSets/Main``, without ``.txt``.
    classes : sequence of str, optional
        The classes to use, in this order; objects of other classes are left out. By default
        all classes of the set's annotations, sorted.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Attributes
    ----------
    class_names : tuple of str
    root : Path
        The folder that contains the three folders.
    image_set : str
    warnings : dict of str to int
        Tolerated problems and their counts; :meth:`warning_lines` gives an example of each.

    Raises
    ------
    InputError
        When the layout, the set, an annotation or an image is missing or cannot be used.

    Notes
    -----
    Everything except the pixels is read here, so errors appear at once. Boxes refer to the
    displayed image. A box whose corners are on the same column or row of pixels (a click
    without a drag) is dropped like a box without area.

    Examples
    --------
    >>> import tempfile
    >>> from sppnet.data.scenes import make_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = VOCDataset(make_scenes(folder, {"train": 3}), "train")
    ...     data[0].image.shape[2], data[0].boxes.shape[1]
    (3, 4)
    >>> len(data), data.class_names
    (3, ('box', 'disc', 'star', 'triangle'))
    """

    layout = "VOC labels"

    def __init__(
        self,
        root: str | Path,
        image_set: str,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.root = find_voc_root(root)
        self.image_set = image_set
        tally = tally or Tally()
        files = LabelledFiles()
        images, labelled = _ImageFiles(self.root / "JPEGImages", files), []
        for id in _read_image_set(self.root, image_set, tally):
            with tally.leaving_out():
                annotation = read_annotation(files.find(self.root / "Annotations" / f"{id}.xml"), tally)
                labelled.append(Labelled(id, images.find(id, annotation.filename), annotation, f"{id}.xml"))
        super().__init__(*samples_of(labelled, classes, tally), tally)


def find_voc_root(root: str | Path) -> Path:
    """Find the folder in VOC layout: ``root`` itself, or the only one directly below it.

    Raises
    ------
    InputError
        When there is none, or more than one (they are listed).
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected a dataset in VOC layout ({', '.join(_PARTS)})")
    if _has_voc_layout(root):
        return root
    found = sorted(child for child in root.iterdir() if child.is_dir() and _has_voc_layout(child))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{root}: holds several datasets, name one of them: {', '.join(str(path) for path in found)}")
    lacking = [part for part in _PARTS if not (root / part).is_dir()]
    raise InputError(f"{root}: not in VOC layout; no {', '.join(lacking)} here nor in a folder right below")


def is_voc(folder: Path) -> bool:
    """Whether a folder, or one right below it, is in VOC layout, even if that is not complete."""
    return any((one / "ImageSets").is_dir() for one in (folder, *folder.iterdir())) or (folder / "JPEGImages").is_dir()


def image_sets(root: str | Path) -> list[str]:
    """Names of the image sets of a folder in VOC layout, sorted."""
    return sorted(path.stem for path in (find_voc_root(root) / "ImageSets/Main").glob("*.txt"))


def whole_sets(root: str | Path) -> list[str]:
    """:func:`image_sets` without those of single classes, such as VOC's ``cat_train`` beside ``train``."""
    names = image_sets(root)
    return [name for name in names if name.rpartition("_")[2] not in names or "_" not in name]


def read_annotation(path: str | Path, tally: Tally | None = None) -> Annotation:
    """Read one VOC annotation file; with a ``tally`` reversed corners are put right, and counted there.

    Raises
    ------
    InputError
        When the file is missing or not a VOC annotation; the message names it.
    """
    root = read_label_xml(path, "a VOC annotation")
    if root.tag != "annotation":
        raise InputError(f"{path}: root element is <{root.tag}>; expected <annotation>")
    objects = root.findall("object")
    # In order before VOC's convention is left: it is the smaller corner that begins with its pixel.
    corners = np.array([_corners(element, path) for element in objects], np.float64).reshape(-1, 4)
    if tally is not None:
        corners = in_order(corners, tally, Path(path).name, empty=1)
    return Annotation(
        filename=(root.findtext("filename") or "").strip(),
        size=_declared_size(root),
        names=tuple(_class_name(element, path) for element in objects),
        boxes=from_voc(corners, np.float64),
        difficult=np.array([_is_true(element.findtext("difficult")) for element in objects], bool),
    )


def write_annotation(
    path: str | Path,
    filename: str,
    size: tuple[int, int],
    boxes: NDArray[Any],
    names: Sequence[str],
    difficult: Sequence[bool] | NDArray[Any] | None = None,
) -> None:
    """Write one VOC annotation file; :func:`read_annotation` returns the same boxes.

    Parameters
    ----------
    path : str or Path
        The ``.xml`` file.
    filename : str
        The image's name.
    size : (height, width)
        Size of the displayed image.
    boxes : (N, 4) array
        x1, y1, x2, y2, 0-based, half-open.
    names : sequence of N str
        The objects' classes.
    difficult : sequence of N bool, optional
        By default no object is difficult.
    """
    corners = to_voc(boxes, np.float64)
    difficult = [False] * len(corners) if difficult is None else difficult
    root = ElementTree.Element("annotation")
    _add(root, "filename", filename)
    size_element = _add(root, "size")
    for tag, value in zip(("width", "height", "depth"), (size[1], size[0], 3), strict=True):
        _add(size_element, tag, str(value))
    for name, is_difficult, box in zip(names, difficult, corners.tolist(), strict=True):
        element = _add(root, "object")
        _add(element, "name", name)
        _add(element, "difficult", str(int(is_difficult)))
        box_element = _add(element, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _add(box_element, tag, str(int(value)) if value.is_integer() else repr(value))
    ElementTree.indent(root, "\t")
    with atomic_path(path, durable=False) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    return element


def _has_voc_layout(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in _PARTS)


def _read_image_set(root: Path, image_set: str, tally: Tally) -> list[str]:
    """The ids of an image set, in the file's order."""
    path = root / "ImageSets/Main" / f"{image_set}.txt"
    if not os.path.isfile(path):
        known = ", ".join(image_sets(root)) or "none"
        raise InputError(f"{root}: no image set {image_set!r}; its ImageSets/Main has: {known}")
    lines = [line.strip() for line in read_label_text(path, "one image id a line").splitlines()]
    ids = [_id_of_line(line, root, path) for line in lines if line]
    unique = list(dict.fromkeys(ids))
    tally.add("image listed more than once, taken once", str(path), len(ids) - len(unique))
    return unique


def _id_of_line(line: str, root: Path, path: Path) -> str:
    """The id in a line; sets of one class append ``1``, ``-1`` or ``0``, and some tools write the image's suffix."""
    annotations = root / "Annotations"
    flagged = re.fullmatch(r"(.*\S)\s+(?:-1|0|\+?1)", line)
    # "cup 1" may be a flagged "cup" or a name with a space: the annotation decides.
    if flagged and not os.path.isfile(annotations / f"{line}.xml"):
        line = flagged[1]
    stem, suffix = os.path.splitext(line)
    if suffix.lower() in (".xml", *IMAGE_SUFFIXES) and not os.path.isfile(annotations / f"{line}.xml"):
        line = stem
    inside_folder(root / "JPEGImages", line, path)
    return line.replace("\\", "/")


class _ImageFiles:
    """Finds the image of an id; lists each folder once instead of testing every suffix of every image."""

    def __init__(self, folder: Path, files: LabelledFiles) -> None:
        self._folder, self._files = folder, files
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, id: str, filename: str) -> Path:
        """The id's ``.jpg``, else the file named in the annotation, else the id with any image suffix."""
        folder = self._files.find((self._folder / id).parent)
        stem = PurePosixPath(id).name
        candidates = sorted(self._of_stem(folder, stem), key=_suffix_rank)
        named = re.split(r"[/\\]", filename)[-1]
        if candidates and _suffix_rank(candidates[0]) == 0:
            return folder / candidates[0]
        if named in self._of_stem(folder, os.path.splitext(named)[0]):
            return folder / named
        if candidates:
            return folder / candidates[0]
        raise InputError(f"{folder / stem}.jpg: image not found, nor with another suffix ({', '.join(IMAGE_SUFFIXES)})")

    def _of_stem(self, folder: Path, stem: str) -> list[str]:
        """Images with a stem, or else with the only one that differs in its normal form alone."""
        alike = self._listing(folder).get(normalize("NFC", stem), [])
        stems = {os.path.splitext(name)[0] for name in alike}
        wanted = stem if stem in stems or len(stems) > 1 else next(iter(stems), stem)
        return [name for name in alike if os.path.splitext(name)[0] == wanted]

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            by_stem: dict[str, list[str]] = {}
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in IMAGE_SUFFIXES:
                    by_stem.setdefault(normalize("NFC", stem), []).append(name)
            self._listings[folder] = by_stem
        return self._listings[folder]


def _suffix_rank(name: str) -> int:
    return IMAGE_SUFFIXES.index(Path(name).suffix.lower())


def samples_of(
    labelled: Sequence[Labelled], classes: Sequence[str] | None, tally: Tally
) -> tuple[list[Sample], tuple[str, ...]]:
    """Photographs with their objects, and the names that the labels index: ``classes``, or all, sorted.

    Raises
    ------
    ImageError
        When a photograph cannot be read and its annotation does not say its size, unless the tally is lenient.
    """
    class_names = classes_of((name for one in labelled for name in one.annotation.names), classes)
    samples = []
    for one in labelled:
        with tally.leaving_out():
            samples.append(_sample(one, class_names, tally))
    return samples, class_names


def _sample(one: Labelled, class_names: tuple[str, ...], tally: Tally) -> Sample:
    annotation = one.annotation
    boxes, size = on_displayed(annotation.boxes, one.path, annotation.size, tally, one.place)
    labels = label_map(annotation.names, class_names)
    wanted = labels >= 0
    labels = labels[wanted]
    boxes, usable = usable_boxes(boxes[wanted], labels, *size, tally, one.place, smallest=1.0)
    return Sample(one.id, one.path, boxes, labels[usable], annotation.difficult[wanted][usable])


def _declared_size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return declared_size(*(float(root.findtext(f"size/{side}") or 0) for side in ("height", "width")))
    except (ValueError, OverflowError):
        return None


def _is_true(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes")


def _class_name(element: ElementTree.Element, path: str | Path) -> str:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{path}: an <object> has no <name>")
    return name


def _corners(element: ElementTree.Element, path: str | Path) -> list[float]:
    """xmin, ymin, xmax, ymax as written."""
    box = element.find("bndbox")
    if box is None:
        raise InputError(f"{path}: an <object> has no <bndbox>")
    corners = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = box.findtext(tag)
        try:
            value = float(text or "")
        except ValueError:
            value = np.nan
        if not abs(value) < LARGEST:
            raise InputError(f"{path}: <{tag}> is {reprlib.repr(text)}; expected a number")
        corners.append(value)
    return corners
