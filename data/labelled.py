"""Photographs labelled as a whole: the training and test data of classifiers.

A set is single-label (every image shows exactly one class, as in Caltech101) or
multi-label (any number of classes, as in PASCAL VOC's classification task).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .errors import InputError
from .image import read_image
from .sample import checked_classes, label_map

if TYPE_CHECKING:
    from .torch_data import TorchClassification, Transforms

Box = tuple[float, float, float, float]


def no_labels() -> Array:
    """Empty labels, int64 (0,): the image shows none of the classes."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A photograph, or a region of one, with the classes it shows.

    Attributes
    ----------
    path : Path
        The image file.
    labels : int64 array (K,)
        The classes shown, as indices into the set's ``class_names``.
    ignored : int64 array (L,)
        Classes of which the image shows only difficult objects: it is neither a positive nor a negative example.
    box : (x1, y1, x2, y2), optional
        The region to use, in pixels of the displayed image, half-open; it may extend beyond the edge. By default the
        whole photograph.
    """

    path: Path
    labels: Array
    ignored: Array = field(default_factory=no_labels)
    box: Box | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        """RGB uint8 (H, W, 3), read from the file at each use.

        A region is rounded outwards to whole pixels and clipped to the photograph; at least one pixel remains.

        Raises
        ------
        ImageError
            When the file cannot be read.
        """
        image = read_image(self.path)
        if self.box is None:
            return image
        height, width = image.shape[:2]
        left, right = _inside(self.box[0], self.box[2], width)
        top, bottom = _inside(self.box[1], self.box[3], height)
        # A copy: a view would keep the whole photograph in memory.
        return image[top:bottom, left:right].copy()

    @property
    def name(self) -> str:
        """The path, and the region if there is one; used in messages."""
        return str(self.path) if self.box is None else f"{self.path} [{' '.join(f'{side:g}' for side in self.box)}]"


def _inside(first: float, last: float, length: int) -> tuple[int, int]:
    """Round an interval outwards and clip it to 0..``length``; its length is at least 1."""
    start = min(max(math.floor(first), 0), length - 1)
    return start, min(max(math.ceil(last), start + 1), length)


class LabelledImages:
    """A sequence of labelled images that share a list of class names.

    Parameters
    ----------
    images : sequence of LabelledImage
    class_names : sequence of str
        The names that labels index.
    multi_label : bool
        Whether an image may show any number of the classes, rather than exactly one.
    warnings : sequence of str
        Problems tolerated while reading, one line for each kind.

    Raises
    ------
    ValueError
        When class names repeat, a label is not a valid index, or an image of a single-label set has not exactly one
        label.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        class_names: Sequence[str],
        multi_label: bool,
        warnings: Sequence[str] = (),
    ) -> None:
        self.class_names = tuple(class_names)
        self.multi_label = multi_label
        self._images = list(images)
        self._warnings = tuple(warnings)
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names must differ, got {self.class_names}")
        used = np.concatenate(
            [no_labels(), *(part for image in self._images for part in (image.labels, image.ignored))]
        )
        if used.size and not 0 <= used.min() <= used.max() < len(self.class_names):
            raise ValueError(f"labels must be 0 to {len(self.class_names) - 1}, got {used.min()} to {used.max()}")
        if not multi_label:
            for image in self._images:
                if len(image.labels) != 1 or len(image.ignored):
                    raise ValueError(
                        "an image of a single-label set must have one label and none ignored, "
                        f"got {image.labels.tolist()} and {image.ignored.tolist()}: {image.name}"
                    )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledImage:
        return self._images[index]

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self._images)

    def warning_lines(self) -> list[str]:
        """Problems tolerated while reading the set, one line for each kind."""
        return list(self._warnings)

    @property
    def labels(self) -> Array:
        """The class of each image, int64 (N,).

        Raises
        ------
        ValueError
            When the set is multi-label.
        """
        if self.multi_label:
            raise ValueError("only a single-label set has labels, and this one is multi-label; use targets")
        return np.concatenate([no_labels(), *(image.labels for image in self._images)])

    @property
    def targets(self) -> NDArray[np.int8]:
        """Targets of each image and class, int8 (N, C): 1 shown, 0 not shown, -1 only difficult objects.

        As in PASCAL VOC's classification task, -1 is left out of the training and the scores of that class.
        """
        targets = np.zeros((len(self), len(self.class_names)), np.int8)
        for row, image in zip(targets, self._images, strict=True):
            row[image.ignored] = -1
            row[image.labels] = 1
        return targets

    def to_torch(self, transforms: Transforms | None = None) -> TorchClassification:
        """Convert to a torch dataset of images and classes.

        Parameters
        ----------
        transforms : callable, optional
            Maps image and target to both, such as a pipeline of :mod:`torchvision.transforms.v2`, which leaves the
            target unchanged. The image is a uint8 ``tv_tensors.Image`` (3, H, W).

        Returns
        -------
        torch.utils.data.Dataset
            Item i is ``(image, target)``. Without transforms the image is a float32 tensor (3, H, W), RGB from 0 to 1.
            The target of a single-label image is its class, an int. The target of a multi-label image is a float32
            tensor (C,) with the values of ``targets``: leave classes of -1 out of the loss. Photographs of different
            sizes need a transform to one size, or the dataset's ``collate`` as the loader's ``collate_fn``.

        Examples
        --------
        >>> import sppnet, tempfile
        >>> from sppnet.data.scenes import make_scenes
        >>> from torch.utils.data import DataLoader
        >>> from torchvision.transforms import v2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     photographs = sppnet.open_labelled([make_scenes(folder, {"train": 4})], "train")
        ...     loader = DataLoader(photographs.to_torch(v2.RandomResizedCrop(64)), batch_size=4)
        ...     images, targets = next(iter(loader))
        >>> images.shape, targets.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 4]))
        """
        from .torch_data import TorchClassification

        targets = self.targets.astype(np.float32) if self.multi_label else self.labels
        return TorchClassification(self._images, targets, transforms)

    def subset(self, indices: Sequence[int] | Array) -> LabelledImages:
        """The images at ``indices``, in that order."""
        return self._with([self._images[int(index)] for index in indices], self.class_names)

    def split(self, part: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
        """Split the images at random into the rest and a held-out part.

        Parameters
        ----------
        part : float
            The fraction to hold out, 0 to less than 1.
        seed : int

        Returns
        -------
        rest, held_out : LabelledImages
            Each in the original order. Regions of one photograph stay together.

        Notes
        -----
        A single-label set is split class by class: the number held out is ``part`` of the whole set, rounded; each
        class's share is rounded up or down, and at least one image of every class stays in the rest. If photographs
        with several regions do not fit, fewer are held out. At least one image of a multi-label set stays.
        (scikit-learn's StratifiedGroupKFold guarantees none of this.)
        """
        if not 0 <= part < 1:
            raise ValueError(f"part must be at least 0 and less than 1, got {part}")
        rng = np.random.default_rng(seed)
        strata = np.zeros(len(self), np.int64) if self.multi_label else self.labels
        wanted = _shares(np.bincount(strata), part, rng)
        by_photograph: dict[Path, list[int]] = {}
        for index, image in enumerate(self._images):
            by_photograph.setdefault(image.path, []).append(index)
        photographs = list(by_photograph.values())
        held = np.zeros(len(self), bool)
        for which in rng.permutation(len(photographs)):
            of_it = photographs[which]
            counts = np.bincount(strata[of_it], minlength=len(wanted))
            if (counts <= wanted).all():
                held[of_it] = True
                wanted = wanted - counts
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))

    def renamed(self, class_names: Sequence[str]) -> LabelledImages:
        """The same images, with labels that index another list of classes.

        Raises
        ------
        InputError
            When that list lacks one of this set's classes (the message names it), or names one twice.
        """
        wanted = checked_classes(class_names)
        for name in self.class_names:
            _check_known(name, wanted)
        return self._relabelled(wanted)

    def only(self, class_names: Sequence[str]) -> LabelledImages:
        """Reduce the set to some of its classes, in the given order.

        A single-label set loses the images of other classes. An image of a multi-label set stays and loses its other
        labels; it may have none left.

        Raises
        ------
        InputError
            When a class does not exist or is given twice, or none is given.
        """
        wanted = checked_classes(class_names)
        for name in wanted:
            _check_known(name, self.class_names)
        return self._relabelled(wanted)

    def _relabelled(self, class_names: tuple[str, ...]) -> LabelledImages:
        """Map labels to another list of classes; drop labels that are not in it."""
        new = label_map(self.class_names, class_names)
        images = []
        for image in self._images:
            labels, ignored = new[image.labels], new[image.ignored]
            labels, ignored = labels[labels >= 0], ignored[ignored >= 0]
            if self.multi_label or len(labels):
                images.append(LabelledImage(image.path, labels, ignored, image.box))
        return self._with(images, class_names)

    def _with(self, images: list[LabelledImage], class_names: tuple[str, ...]) -> LabelledImages:
        """A set of the same kind with other images, which are not checked again."""
        part = copy(self)
        part._images, part.class_names = images, class_names
        return part


def merged(parts: Sequence[LabelledImages]) -> LabelledImages:
    """Join single-label sets; classes of the same name are merged, in the order of their first appearance.

    Raises
    ------
    ValueError
        When there is no set, or one is multi-label: its images may show classes of the other sets, without a label.
    """
    if not parts or any(part.multi_label for part in parts):
        kinds = ", ".join("multi-label" if part.multi_label else "single-label" for part in parts)
        raise ValueError(f"expected one or more single-label sets, got {kinds or 'none'}")
    class_names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    renamed = [part.renamed(class_names) for part in parts]
    images = [image for part in renamed for image in part]
    return LabelledImages(images, class_names, False, [line for part in parts for line in part.warning_lines()])


def _shares(counts: Array, part: float, rng: np.random.Generator) -> Array:
    """How many of each stratum to hold out, int64, by largest remainders; ties in random order."""
    # Rounded: 0.7 x 10 must be 7, not a little more.
    exact = np.round(part * counts, 9)
    limit = np.maximum(counts - 1, 0)
    shares = np.minimum(np.floor(exact).astype(np.int64), limit)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-(exact - shares)[order], kind="stable")]
    open_to_more = order[((shares < exact) & (shares < limit))[order]]
    shares[open_to_more[: max(0, round(part * int(counts.sum())) - int(shares.sum()))]] += 1
    return shares


def _check_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {_some(known)}"
        raise InputError(f"unknown class '{name}'; {hint}")


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join([*names[:most], "..."] if len(names) > most else names)


def described(images: LabelledImages) -> list[Any]:
    """Identify the set for resuming: labels, and each file's name, size and time."""
    found = []
    for image in images:
        stat = image.path.stat() if image.path.is_file() else None
        labels = [image.labels.tolist(), image.ignored.tolist()]
        found.append([image.name, stat and [stat.st_size, stat.st_mtime_ns], labels])
    return found
