"""Labelled photographs and datasets of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from .cleaning import Tally
from .errors import InputError
from .image import read_image

if TYPE_CHECKING:
    from .torch_data import TorchDetection, Transforms

SomeList = TypeVar("SomeList", bound="SampleList")


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph with its labelled objects.

    Attributes
    ----------
    id : str
        Unique in its dataset; for VOC, the name in the image set.
    path : Path
        The image file.
    boxes : float32 array (N, 4)
        x1, y1, x2, y2 in pixels of the displayed image, 0-based, half-open.
    labels : int64 array (N,)
        Indices into the dataset's ``class_names``.
    difficult : bool array (N,)
        Objects that count neither as found nor as missed.
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
    """A dataset with a list of samples; the readers of labelled data return it.

    Parameters
    ----------
    samples : sequence of Sample
    class_names : tuple of str
        The names that labels index.
    tally : Tally, optional
        Problems tolerated while reading.

    Attributes
    ----------
    layout : str
        What the labels are, for people.
    """

    layout: str = "labels"

    def __init__(self, samples: Sequence[Sample], class_names: tuple[str, ...], tally: Tally | None = None) -> None:
        self.class_names = class_names
        self._samples = list(samples)
        self._tally = tally or Tally()

    @property
    def warnings(self) -> dict[str, int]:
        """Problems tolerated while reading the whole set, and their counts."""
        return dict(self._tally.counts)

    @property
    def problems(self) -> dict[str, dict[str, int]]:
        """For each kind of warning, how often it occurred in which file."""
        return {kind: dict(places) for kind, places in self._tally.places.items()}

    def warning_lines(self) -> list[str]:
        """One line for each kind of warning, with its count and the first file."""
        return self._tally.lines()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def to_torch(
        self, transforms: Transforms | None = None, first_label: int = 1, difficult: bool = True
    ) -> TorchDetection:
        """Convert to a torch dataset in the format of torchvision's detectors and its detection references.

        Parameters
        ----------
        transforms : callable, optional
            Maps image and target to both, such as a pipeline of :mod:`torchvision.transforms.v2`. The image is a
            uint8 ``tv_tensors.Image`` (3, H, W) and the boxes are ``tv_tensors.BoundingBoxes``, so that v2's
            transforms move the boxes with the image. The loader gets its result.
        first_label : int
            The label of the first class: 1 for torchvision's detectors, where 0 is the background, or 0 for models
            without a background class.
        difficult : bool
            Whether to include difficult objects (COCO's crowds). Most losses ignore ``iscrowd``: leave these objects
            out for training.

        Returns
        -------
        torch.utils.data.Dataset
            Item i is ``(image, target)``. Without transforms the image is a float32 tensor (3, H, W), RGB from 0 to 1.
            The target is a dict: ``boxes`` float32 (N, 4), x1 y1 x2 y2 in pixels, half-open; ``labels`` int64 (N,);
            ``image_id`` int, COCO's or else i; ``area`` float32 (N,) of the boxes before any transforms; ``iscrowd``
            int64 (N,), 1 for difficult objects. An image without objects has shapes (0, 4) and (0,). Workers of a
            loader can use the dataset if ``transforms`` can be pickled. Pass its ``collate`` as ``collate_fn``.

        Examples
        --------
        >>> import sppnet, tempfile
        >>> from sppnet.data.scenes import make_scenes
        >>> from torch.utils.data import DataLoader
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = sppnet.VOCDataset(make_scenes(folder, {"train": 3}), "train").to_torch(difficult=False)
        ...     images, targets = next(iter(DataLoader(data, batch_size=3, collate_fn=data.collate)))
        >>> len(images), sorted(targets[0])
        (3, ['area', 'boxes', 'image_id', 'iscrowd', 'labels'])

        Transforms that drop boxes must be told what goes with them:

        >>> from torchvision.transforms import v2
        >>> def beside_boxes(pair):
        ...     return [pair[1][name] for name in ("labels", "area", "iscrowd")]
        >>> transforms = v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(labels_getter=beside_boxes)])
        """
        from .torch_data import TorchDetection

        return TorchDetection(self._samples, self._image_numbers(), transforms, first_label, difficult)

    def _image_numbers(self) -> list[int]:
        """``image_id`` of each image in targets."""
        return list(range(len(self)))

    def subset(self: SomeList, indices: Sequence[int] | NDArray[Any]) -> SomeList:
        """The samples at ``indices``, in that order, as a dataset of the same type and classes."""
        part = copy(self)
        part._samples = [self._samples[int(index)] for index in indices]
        return part

    def with_classes(self: SomeList, class_names: tuple[str, ...]) -> SomeList:
        """The same photographs and objects, with labels that index other names, which hold all of this dataset's."""
        new, part = label_map(self.class_names, class_names), copy(self)
        part.class_names = class_names
        part._samples = [replace(sample, labels=new[sample.labels]) for sample in self._samples]
        return part


def classes_of(names: Iterable[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes that a user requests (:func:`checked_classes`), or all names of objects, sorted.

    Names that differ in Unicode's normal form alone are one.
    """
    if classes is not None:
        return checked_classes(classes)
    return tuple(sorted({normalize("NFC", name) for name in set(names)}))


def label_map(names: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64]:
    """For each of some names its index among other names, -1 if it is not there; int64 (len(names),).

    The normal form of Unicode does not count, as :func:`classes_of` has it.
    """
    position = {normalize("NFC", name): label for label, name in enumerate(class_names)}
    return np.array([position.get(normalize("NFC", name), -1) for name in names], np.int64)


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Check the classes that a user requests; keeps their order.

    Raises
    ------
    InputError
        When there is none, or one is empty or repeated.
    """
    if isinstance(classes, str) or not classes or not all(classes) or len(set(classes)) < len(classes):
        raise InputError(f"classes are {classes!r}; expected one or more different names")
    return tuple(classes)
