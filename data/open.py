"""Open a detection dataset: DATASET on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .coco import COCODataset
from .errors import InputError
from .voc import VOCDataset, image_sets


def open_dataset(
    dataset: str | Path,
    image_set: str | None = None,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> VOCDataset | COCODataset:
    """Open a folder in VOC layout or a COCO annotation file as a dataset.

    Parameters
    ----------
    dataset : str or Path
        The folder (or the one above it), or the ``.json`` file.
    image_set : str, optional
        The folder's image set; a COCO file is a single set and takes none.
    images : str or Path, optional
        The image folder of a COCO file.
    classes : sequence of str, optional
        The classes to use, in this order.

    Raises
    ------
    InputError
        When there is no such dataset, or the image set or image folder is missing or does not apply.
    """
    path = Path(dataset)
    if not path.exists():
        raise InputError(f"{path}: no such dataset; expected a folder in VOC layout or a COCO annotation file (.json)")
    if path.is_dir():
        if images is not None:
            raise InputError(
                f"{path}: an image folder ({images}) goes with a COCO annotation file, not with a VOC folder"
            )
        if not image_set:
            raise InputError(
                f"{path}: name an image set; its ImageSets/Main has: {', '.join(image_sets(path)) or 'none'}"
            )
        return VOCDataset(path, image_set, classes)
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: expected a folder in VOC layout or a COCO annotation file (.json)")
    if images is None:
        raise InputError(f"{path}: a COCO annotation file needs the folder of its images (--images)")
    return COCODataset(path, images, classes)
