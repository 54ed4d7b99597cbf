"""One labelled photograph, and what a dataset is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from .image import read_image


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph with its labelled objects.

    Attributes
    ----------
    id : str
        Unique in its dataset; for VOC the name in the image set.
    path : Path
        The image file.
    boxes : float32 array (N, 4)
        x1, y1, x2, y2 in pixels of the displayed image, 0-based, half-open.
    labels : int64 array (N,)
        Indices into the dataset's ``class_names``.
    difficult : bool array (N,)
        Objects that neither count as found nor as missed.
    """

    id: str
    path: Path
    boxes: NDArray[Any]
    labels: NDArray[Any]
    difficult: NDArray[Any]

    @property
    def image(self) -> NDArray[Any]:
        """RGB uint8 (H, W, 3), read from the file at each use.

        Raises
        ------
        ImageError
            When the file cannot be read.
        """
        return read_image(self.path)


class Dataset(Protocol):
    """A sequence of samples that share a list of class names."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...
