"""One labelled photograph, and what a dataset is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from .cleaning import Tally
from .errors import InputError
from .image import read_image

SomeList = TypeVar("SomeList", bound="SampleList")


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

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> Dataset:
        """The samples at ``indices``, in that order."""
        ...


class SampleList:
    """A dataset whose samples are all known: what the readers of labelled data return.

    Parameters
    ----------
    samples : sequence of Sample
    class_names : tuple of str
        What the samples' labels index.
    tally : Tally, optional
        What was tolerated while reading.
    """

    def __init__(self, samples: Sequence[Sample], class_names: tuple[str, ...], tally: Tally | None = None) -> None:
        self.class_names = class_names
        self._samples = list(samples)
        self._tally = tally or Tally()

    @property
    def warnings(self) -> dict[str, int]:
        """What was tolerated while reading the whole set, and how often."""
        return dict(self._tally.counts)

    def warning_lines(self) -> list[str]:
        """One line for each kind of warning, with its count and the first file it was met in."""
        return self._tally.lines()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def subset(self: SomeList, indices: Sequence[int] | NDArray[Any]) -> SomeList:
        """The samples at ``indices``, in that order, as a dataset of the same kind and classes."""
        part = copy(self)
        part._samples = [self._samples[int(index)] for index in indices]
        return part


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes a user asks for, in the order given.

    Raises
    ------
    InputError
        When there is none, one is empty or one is named twice.
    """
    if isinstance(classes, str) or not classes or not all(classes) or len(set(classes)) < len(classes):
        raise InputError(f"classes are {classes!r}; expected one or more different names")
    return tuple(classes)
