"""Read images labelled as a whole: from a folder for each class, or from a detection dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cleaning import Tally
from .errors import InputError
from .folder import images_below
from .image import IMAGE_SUFFIXES
from .labelled import LabelledImage, LabelledImages, merged
from .open import layout_of, open_dataset
from .sample import SampleList

_EXPECTED = "expected one folder for each class, with its images in it"


def open_labelled(
    paths: Sequence[str | Path],
    image_set: str | None = None,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    crops: bool = False,
) -> LabelledImages:
    """Open folders and annotation files as one set of labelled images.

    Parameters
    ----------
    paths : sequence of str or Path
        Each is a folder with a folder for each class (:func:`class_folders`), or labelled objects as for
        :func:`.open.open_dataset`. Several are joined to one single-label set.
    image_set : str, optional
        The image set of folders with labelled objects.
    images : str or Path, optional
        The image folder of the COCO files.
    classes : sequence of str, optional
        The classes to use, in this order (:meth:`LabelledImages.only`).
    crops : bool
        Use the labelled objects as single-label images (:func:`object_crops`) instead of whole photographs with all
        their labels (:func:`whole_images`).

    Raises
    ------
    InputError
        When a path is none of these, one of several sets is multi-label, an option applies to none of them, a class
        is unknown, or no image is left.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("RGB", (40, 30)).save(f"{folder}/{name}/a.png")
    ...     photographs = open_labelled([folder])
    >>> photographs.class_names, photographs.labels.tolist()
    (('cat', 'dog'), [0, 1])
    """
    found = [Path(path) for path in paths]
    if not found:
        raise InputError(f"no dataset given; {_EXPECTED}, or labelled objects in VOC, YOLO or COCO layout")
    for path in found:
        if not os.path.exists(path):
            raise InputError(f"{path}: no such dataset; {_EXPECTED}, or labelled objects in VOC, YOLO or COCO layout")
    if images is not None and all(path.is_dir() for path in found):
        raise InputError(f"{_listed(found)}: an image folder ({images}) goes with a COCO annotation file, not a folder")
    if crops and not any(_holds_boxes(path) for path in found):
        raise InputError(f"{_listed(found)}: no labelled objects to crop; expected boxes in VOC, YOLO or COCO layout")
    parts = [_open(path, image_set, images, crops) for path in found]
    for path, part in zip(found, parts, strict=True):
        if part.multi_label and len(parts) > 1:
            raise InputError(f"{path}: a multi-label set cannot be joined with others; use object crops")
    whole = parts[0] if len(parts) == 1 else merged(parts)
    if classes is not None:
        whole = whole.only(classes)
    if not len(whole):
        of_classes = f" of {', '.join(classes)}" if classes is not None else ""
        raise InputError(f"{_listed(found)}: no {'object' if crops else 'image'}{of_classes} in it")
    return whole


def class_folders(folder: str | Path) -> LabelledImages:
    """Read a folder with a folder for each class, as single-label images.

    Parameters
    ----------
    folder : str or Path
        The sorted names of its folders are the classes; images may be at any depth below them. Hidden files and
        folders are skipped; class folders without an image are left out with a warning.

    Raises
    ------
    InputError
        When there is no such folder, or it holds fewer than two classes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {_EXPECTED}")
    tally = Tally()
    by_class: dict[str, list[Path]] = {}
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_dir():
            by_class[name] = list(images_below(path))
            tally.add("class folder without an image, left out", str(path), int(not by_class[name]))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            tally.add("image beside the class folders, left out", str(path))
    names = [name for name, paths in by_class.items() if paths]
    if len(names) < 2:
        found = f"only one class folder has images ({names[0]})" if names else "no folder in it has images"
        raise InputError(f"{folder}: {found}; {_EXPECTED}, and two classes or more")
    examples = [
        LabelledImage(path, np.array([label], np.int64)) for label, name in enumerate(names) for path in by_class[name]
    ]
    return LabelledImages(examples, names, multi_label=False, warnings=tally.lines())


def whole_images(dataset: SampleList) -> LabelledImages:
    """Convert the photographs of a detection dataset to multi-label images.

    As in PASCAL VOC's classification task, an image shows a class if one of its objects is not difficult, and the
    class is ignored if all of them are. Boxes are not used.
    """
    examples = []
    for sample in dataset:
        shown = np.unique(sample.labels[~sample.difficult])
        ignored = np.setdiff1d(sample.labels[sample.difficult], shown)
        examples.append(LabelledImage(sample.path, shown, ignored))
    return LabelledImages(examples, dataset.class_names, multi_label=True, warnings=dataset.warning_lines())


def object_crops(dataset: SampleList, context: float = 0.1, min_side: float = 16) -> LabelledImages:
    """Convert the objects of a detection dataset to single-label images, in order; difficult ones are left out.

    Parameters
    ----------
    dataset : SampleList
    context : float
        Fraction of its width and height added to a box on each side. The region is clipped to the photograph when
        the image is read.
    min_side : float
        Boxes with a shorter side (in pixels, without the context) are left out with a warning.

    Raises
    ------
    ValueError
        When ``context`` or ``min_side`` is negative.
    """
    if context < 0 or min_side < 0:
        raise ValueError(f"context and min_side must not be negative, got {context} and {min_side}")
    tally = Tally()
    examples = []
    for sample in dataset:
        easy = ~sample.difficult
        boxes, labels = sample.boxes[easy].astype(np.float64), sample.labels[easy]
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= min_side
        tally.add(f"object under {min_side:g} px, left out", str(sample.path), int((~large).sum()))
        for box, label in zip(_grown(boxes[large], context).tolist(), labels[large], strict=True):
            examples.append(LabelledImage(sample.path, np.array([label], np.int64), box=tuple(box)))
    warnings = [*dataset.warning_lines(), *tally.lines()]
    return LabelledImages(examples, dataset.class_names, multi_label=False, warnings=warnings)


def _grown(boxes: NDArray[Any], context: float) -> NDArray[Any]:
    margin = context * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def _open(path: Path, image_set: str | None, images: str | Path | None, crops: bool) -> LabelledImages:
    if not _holds_boxes(path):
        return class_folders(path)
    dataset = open_dataset(path, image_set, None if path.is_dir() else images)
    return object_crops(dataset) if crops else whole_images(dataset)


def _holds_boxes(path: Path) -> bool:
    """Whether this is a file, or a folder with labelled objects, even if it is not complete; not class folders."""
    return not path.is_dir() or layout_of(path) is not None


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
