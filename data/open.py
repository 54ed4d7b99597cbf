"""Open a detection dataset: DATASET on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .beside import AnnotatedFolder, annotated_sets, is_annotated
from .cleaning import Tally
from .coco import COCODataset
from .errors import InputError
from .exports import CVAT, ExportedDataset, is_cvat, is_label_studio
from .open_images import OpenImagesDataset
from .sample import SampleList, classes_of
from .splits import TRAINVAL
from .supervision_data import SupervisionDataset, from_supervision
from .voc import VOCDataset, image_sets, is_voc, whole_sets
from .yolo import YOLODataset, is_yolo, yolo_sets

_EXPECTED = (
    "expected a folder in VOC or YOLO layout, photographs with XML or LabelMe files beside them, YOLO's data.yaml, a "
    "COCO annotation file (.json), an export of CVAT (.xml) or Label Studio (.json), or Open Images' boxes (.csv)"
)


def open_dataset(
    dataset: str | Path | SupervisionDataset,
    image_set: str | None = None,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    tally: Tally | None = None,
) -> SampleList:
    """Open labelled photographs in one of the layouts that are known.

    Parameters
    ----------
    dataset : str or Path
        A folder in VOC layout (or the one above it), a folder in YOLO layout or its ``data.yaml``, a folder of
        photographs with VOC annotations or LabelMe's files beside them, a COCO annotation file, an export of CVAT or
        Label Studio, a CSV file of Open Images, or a ``supervision.DetectionDataset``.
    image_set : str, optional
        The folder's image set; a file is a single set and takes none.
    images : str or Path, optional
        The image folder of a file; by default the folder of the file, but for COCO.
    classes : sequence of str, optional
        The classes to use, in this order.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Returns
    -------
    SampleList
        Such as a VOCDataset.

    Raises
    ------
    InputError
        When there is no such dataset, or the image set or image folder is missing or does not apply.
    """
    if not isinstance(dataset, str | Path):
        return from_supervision(dataset, classes)
    path = Path(dataset)
    if not os.path.exists(path):
        raise InputError(f"{path}: no such dataset; {_EXPECTED}")
    suffix = path.suffix.lower()
    if not path.is_dir() and (suffix == ".xml" or (suffix == ".json" and is_label_studio(path))):
        return ExportedDataset(path, images, None, classes, tally)
    if not path.is_dir() and suffix == ".csv":
        return OpenImagesDataset(path, images, classes, tally)
    if path.is_dir() or suffix in (".yaml", ".yml"):
        if images is not None:
            raise InputError(f"{path}: an image folder ({images}) goes with a COCO annotation file, not with a folder")
        return _open_folder(path, image_set, classes, tally)
    if suffix != ".json":
        raise InputError(f"{path}: {_EXPECTED}")
    if images is None:
        raise InputError(f"{path}: a COCO annotation file needs the folder of its images (--images)")
    return COCODataset(path, images, classes, tally)


def layout_of(folder: Path) -> type[SampleList] | None:
    """The class that reads a folder's labelled objects, by what lies there; None for no known layout."""
    if is_voc(folder):
        return VOCDataset
    if is_yolo(folder):
        return YOLODataset
    if is_cvat(folder):
        return ExportedDataset
    return AnnotatedFolder if is_annotated(folder) else None


def open_sets(
    dataset: str | Path,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    lenient: bool = False,
) -> dict[str, SampleList]:
    """Open all sets of a dataset, by their names, with the same classes (see :func:`open_dataset`).

    A file with all labels is one set, called as the file. ``lenient`` leaves out, and counts, what cannot be used.
    """
    path = Path(dataset)
    if not path.is_dir() and path.suffix.lower() not in (".yaml", ".yml"):
        return {path.stem: open_dataset(path, None, images, classes, Tally(lenient))}
    names_of: dict[type[SampleList], Callable[[Path], list[str]]]
    names_of = {VOCDataset: whole_sets, YOLODataset: yolo_sets, AnnotatedFolder: annotated_sets}
    names = names_of[layout](path) if (layout := _layout(path)) in names_of else [TRAINVAL]
    found = {name: open_dataset(path, name, images, classes, Tally(lenient)) for name in names}
    if len({one.class_names for one in found.values()}) > 1:
        # Where the labels alone name the classes, one set may lack some.
        together = classes_of((name for one in found.values() for name in one.class_names), None)
        return {name: one.with_classes(together) for name, one in found.items()}
    return found


def _layout(path: Path) -> type[SampleList]:
    """:func:`layout_of` a folder, or of ``data.yaml``."""
    layout = layout_of(path) if path.is_dir() else YOLODataset
    if layout is None:
        raise InputError(f"{path}: no labelled objects there; {_EXPECTED}")
    return layout


def _open_folder(path: Path, image_set: str | None, classes: Sequence[str] | None, tally: Tally | None) -> SampleList:
    """Open a folder, or ``data.yaml``, in the layout that it has."""
    layout = _layout(path)
    if layout is YOLODataset:
        return YOLODataset(path, image_set, classes, tally)
    if layout is AnnotatedFolder:
        return AnnotatedFolder(path, image_set, classes, tally)
    if layout is ExportedDataset:
        return ExportedDataset(path / CVAT, None, image_set, classes, tally)
    if not image_set:
        raise InputError(f"{path}: name an image set; its ImageSets/Main has: {', '.join(image_sets(path)) or 'none'}")
    return VOCDataset(path, image_set, classes, tally)
