"""Read boxes that other tools made, from their files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data.arrays import Array
from ..data.boxes import as_boxes, clip, from_voc
from ..data.errors import InputError
from ..data.store import content_key, file_key
from .matlab import read_matlab

CONVENTIONS: dict[str, Callable[[Array], Array]] = {
    "half-open": lambda corners: corners,
    "inclusive": lambda corners: corners + np.array([0, 0, 1, 1]),
    "voc": lambda corners: from_voc(corners, np.float64),
    "rcnn": lambda corners: from_voc(corners[:, [1, 0, 3, 2]], np.float64),
    "xywh": lambda corners: np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1),
}
"""What the four numbers of a box in a file mean, and how they become our boxes.

``half-open``: ours. ``inclusive``: x1 y1 x2 y2, 0-based, the last pixel included (Fast R-CNN's demo).
``voc``: x1 y1 x2 y2, 1-based, inclusive. ``rcnn``: y1 x1 y2 x2, 1-based, inclusive (the selective search files of
R-CNN and Fast R-CNN). ``xywh``: x y width height, 0-based (COCO, OpenCV).
"""


class PrecomputedBoxes:
    """A :class:`.backends.Proposer` that looks up the boxes of an image by its id.

    Parameters
    ----------
    source : str or Path
        One file for all images:

        - ``.npz`` with an array (N, 4) for each image id;
        - ``.json``: ``{"image id": [[x1, y1, x2, y2], ...], ...}``;
        - ``.mat`` with the cell arrays ``boxes`` and ``images`` (the ids), as R-CNN's.

        Or a folder with a file for each image, named ``ID`` or ``ID_boxes`` before the suffix: ``.npz`` or
        ``.mat`` with ``boxes``, ``.json`` with a list of boxes, ``.txt`` or ``.csv`` with one box in each
        line (numbers separated by spaces or commas; numbers after the fourth and lines that start with ``#`` are
        ignored).
    convention : str
        Coordinate convention, one of :data:`CONVENTIONS`. It is never guessed.
    max_boxes : int or None
        The largest number of boxes of an image; the first ones are used.

    Raises
    ------
    InputError
        When the source is missing, damaged or of an unknown kind, or the convention is unknown; in a call, when
        the source has no boxes for the image.
    """

    name: ClassVar[str] = "precomputed"

    def __init__(self, source: str | Path, convention: str = "half-open", max_boxes: int | None = None) -> None:
        if convention not in CONVENTIONS:
            raise InputError(f"convention must be one of {', '.join(CONVENTIONS)}, not {convention!r}")
        if max_boxes is not None and max_boxes < 1:
            raise InputError(f"max_boxes must be at least 1, or None for all, not {max_boxes}")
        self.source = Path(source)
        self.convention = convention
        self.max_boxes = max_boxes
        self._archive: Mapping[str, Array] | None = None
        if self.source.is_dir():
            self._files = _files_by_id(self.source)
        elif self.source.is_file():
            self._archive = _read_archive(self.source)
        else:
            raise InputError(f"{self.source}: no such file or folder of boxes")

    def options(self) -> dict[str, Any]:
        """See :meth:`.backends.Proposer.options`; includes the files' contents."""
        files = [self.source] if self._archive is not None else sorted(self._files.values())
        contents = content_key([[file.name, file_key(file)] for file in files])
        return {"convention": self.convention, "max_boxes": self.max_boxes, "contents": contents}

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """See :meth:`.backends.Proposer.__call__`; boxes are clipped to the image, and boxes outside it dropped."""
        if image_id is None:
            raise InputError(f"{self.source}: boxes are looked up by image id, but none was given")
        boxes = CONVENTIONS[self.convention](self._corners(image_id))
        boxes = clip(boxes, *image.shape[:2])
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[kept][: self.max_boxes].astype(np.float32)

    def _corners(self, image_id: str) -> Array:
        """The numbers of the file, float64 (N, 4)."""
        if self._archive is not None:
            if image_id not in self._archive:
                raise InputError(f"{self.source}: no boxes for image {image_id!r} among {len(self._archive)} images")
            return self._archive[image_id]
        if image_id not in self._files:
            kinds = ", ".join(READERS)
            raise InputError(f"{self.source}: no boxes for image {image_id!r}; expected {image_id} with one of {kinds}")
        return _read_boxes(self._files[image_id])


def _files_by_id(folder: Path) -> dict[str, Path]:
    """Box files of a folder by image id; a name without ``_boxes`` takes precedence."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in READERS and file.is_file()]
    if not files:
        raise InputError(f"{folder}: no boxes in this folder; expected files with {', '.join(READERS)}")
    shortened = {file.stem.removesuffix("_boxes"): file for file in files}
    return {**shortened, **{file.stem: file for file in files}}


def _read_npz(file: Path) -> Any:
    with np.load(file, allow_pickle=False) as archive:
        return archive["boxes"]


def _read_mat(file: Path) -> Any:
    return read_matlab(file)["boxes"]


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text())


def _read_text(file: Path) -> Any:
    lines = [line.replace(",", " ").split() for line in file.read_text().splitlines()]
    return [[float(number) for number in line[:4]] for line in lines if line and not line[0].startswith("#")]


READERS: dict[str, Callable[[Path], Any]] = {
    ".npz": _read_npz,
    ".mat": _read_mat,
    ".json": _read_json,
    ".txt": _read_text,
    ".csv": _read_text,
}
"""Functions that read the boxes of one image, by suffix."""

_DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile)


def _read_boxes(file: Path) -> Array:
    """The boxes of one image."""
    try:
        return _as_finite(READERS[file.suffix.lower()](file))
    except _DAMAGED as error:
        raise InputError(f"{file}: cannot be read as the boxes of one image ({error})") from error


def _read_archive(file: Path) -> Mapping[str, Array]:
    """The boxes of all images by id."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return {image_id: _as_finite(archive[image_id]) for image_id in archive.files}
        if suffix == ".json":
            return {image_id: _as_finite(boxes) for image_id, boxes in json.loads(file.read_text()).items()}
        if suffix == ".mat":
            content = read_matlab(file)
            ids = [str(np.ravel(image_id)[0]) for image_id in content["images"]]
            return dict(zip(ids, map(_as_finite, content["boxes"]), strict=True))
    except (*_DAMAGED, AttributeError, IndexError) as error:
        raise InputError(f"{file}: cannot be read as boxes by image id ({error})") from error
    raise InputError(f"{file}: boxes of many images come as .npz, .json or .mat, not as {suffix or 'this'}")


def _as_finite(boxes: Any) -> Array:
    corners = as_boxes(boxes, np.float64)
    if not np.isfinite(corners).all():
        raise ValueError("a coordinate is not a number")
    return corners
