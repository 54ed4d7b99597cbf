"""Training images and the selection of their training windows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.boxes import encode, flip, iou, unique
from ...data.errors import InputError
from ...data.sample import Sample
from ..options import FineTuneOptions
from ..windows.features import Cells, Features
from .cache import FeatureCache, mirrored

#: The largest number of positives of a class, unless it has more objects. For 2,804 blood cells (205 photographs), all
#: with five extra positives, there would be 12,000 of the red ones, and the SVMs would take minutes.
MOST_POSITIVES = 5000

#: Images whose maps are read ahead of the one in work.
AHEAD = 2

Item = TypeVar("Item")
Read = TypeVar("Read")


class TrainingImages:
    """Samples with their proposals and cached maps.

    Parameters
    ----------
    samples : sequence of Sample
    image_keys : sequence of str
        Content keys of the image files.
    sizes : sequence of (height, width)
    proposals : sequence of float32 arrays (N, 4)
    cache : FeatureCache
        Cached maps or rows of every image.
    features : Features, optional
        Features to train on; by default the cache's own. Both have the same backbone and scales.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        image_keys: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        proposals: Sequence[Array],
        cache: FeatureCache,
        features: Features[Any] | None = None,
    ):
        self.samples, self.image_keys, self.sizes, self.proposals = samples, image_keys, sizes, proposals
        self.cache, self.features = cache, features or cache.features
        self._photographs = len(samples)

    def seen_through(self, features: Features[Any]) -> TrainingImages:
        """Return the same images with another kind of features of the same network."""
        other = copy(self)
        other.features = features
        return other

    def with_mirrors(self) -> TrainingImages:
        """Return these images, followed by their mirror images in the same order, whose maps must be cached."""
        widths = [width for _, width in self.sizes]
        samples = [replace(one, boxes=flip(one.boxes, width)) for one, width in zip(self.samples, widths, strict=True)]
        proposals = [flip(boxes, width) for boxes, width in zip(self.proposals, widths, strict=True)]
        both = TrainingImages(
            [*self.samples, *samples],
            [*self.image_keys, *map(mirrored, self.image_keys)],
            [*self.sizes, *self.sizes],
            [*self.proposals, *proposals],
            self.cache,
            self.features,
        )
        both._photographs = len(self)
        return both

    def show(self, indices: Array, photographs: Iterable[int]) -> Array:
        """Whether each image of ``indices`` (N,) is one of some photographs or a mirror image of one, bool (N,)."""
        return np.isin(indices % self._photographs, np.fromiter(photographs, np.int64))

    def __len__(self) -> int:
        return len(self.samples)

    def maps(self, index: int, mirror: bool = False, dtype: torch.dtype = torch.float32) -> Any:
        """Maps of image ``index``, or the cached maps of its mirror image."""
        key = self.image_keys[index]
        return self.cache.load(mirrored(key) if mirror else key, self.sizes[index], dtype)

    def read_ahead(self, indices: Iterable[int]) -> Generator[tuple[int, Any], None, None]:
        """Each index with its :meth:`maps`, which are read ahead for a GPU (see :func:`read_for`)."""
        return read_for(self.features.device, lambda index: (index, self.maps(index)), indices)

    def windows(self, index: int) -> Array:
        """Objects and proposals of image ``index``, float32 (N, 4), without duplicates, objects first."""
        return training_windows(self.samples[index], self.proposals[index])

    def overlap(self, index: int, windows: Array, label: int) -> Array:
        """Best IoU (N,) of each window with an object of the class, difficult ones included."""
        sample = self.samples[index]
        return iou(windows, sample.boxes[sample.labels == label]).max(axis=1, initial=0)

    def positives(self, index: int) -> tuple[Array, Array]:
        """Boxes (N, 4) and labels (N,) of the positive objects: all that are not difficult."""
        sample = self.samples[index]
        return sample.boxes[~sample.difficult], sample.labels[~sample.difficult]

    def near_positives(self, index: int, most: Array, min_iou: float) -> tuple[Array, Array]:
        """Proposals that fit each positive best, and fit no other object better.

        Parameters
        ----------
        index : int
        most : int array (classes,)
            Most proposals per object of each class.
        min_iou : float

        Returns
        -------
        boxes : float32 array (N, 4)
        labels : int64 array (N,)
        """
        boxes, labels = self.positives(index)
        proposals = self.proposals[index]
        overlap = iou(proposals, boxes)
        chosen, of_label = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
        for column, label in enumerate(labels):
            own = overlap[:, column]
            near = np.flatnonzero((own >= min_iou) & (own >= overlap.max(axis=1)))
            best = near[np.argsort(-own[near], kind="stable")][: most[label]]
            chosen.append(proposals[best])
            of_label.append(np.full(len(best), label, np.int64))
        return np.concatenate(chosen), np.concatenate(of_label)


def read_for(device: torch.device, read: Callable[[Item], Read], items: Iterable[Item]) -> Generator[Read, None, None]:
    """``map(read, items)``; for a GPU the next ones are read while the caller computes.

    A processor has no cores to spare for that: mining took 1.08 times as long.
    """
    if device.type == "cpu":
        yield from map(read, items)
        return
    with closing(ahead(read, items, AHEAD)) as read_ahead:
        yield from read_ahead


def training_windows(sample: Sample, proposals: Array) -> Array:
    """Objects and proposals of an image, float32 (N, 4), without duplicates, objects first."""
    return unique(np.concatenate([sample.boxes, proposals]))


def mean_norm(images: TrainingImages, seed: int, most_images: int = 200, most_windows: int = 200) -> float:
    """Mean L2 norm of pooled features over some windows of some images (reference: 200 windows of 200 images)."""
    norms = [np.zeros(0, np.float32)]
    for maps, cells in _some_windows(images, range(len(images)), seed, most_images, most_windows):
        for _, rows in images.features.chunks(maps, cells):
            norms.append(rows.norm(dim=1).cpu().numpy())
    values = np.concatenate(norms)
    return float(values.mean(dtype=np.float64)) if values.size else 1.0


def sample_rows(
    images: TrainingImages, indices: Sequence[int], seed: int, most_images: int = 250, most_windows: int = 16
) -> Tensor:
    """Pooled features (N, pooled_width) of some windows of some of the images ``indices``."""
    chosen = _some_windows(images, indices, seed, most_images, most_windows)
    return torch.cat([images.features.pool(maps, cells) for maps, cells in chosen])


def _some_windows(
    images: TrainingImages, indices: Sequence[int], seed: int, most_images: int, most_windows: int
) -> Iterator[tuple[Any, Cells]]:
    """Maps of some images and some windows on them."""
    rng = np.random.default_rng(seed)
    for place in np.sort(rng.permutation(len(indices))[:most_images]):
        index = indices[int(place)]
        windows = images.windows(index)
        chosen = windows[np.sort(rng.permutation(len(windows))[:most_windows])]
        maps = images.maps(index)
        yield maps, images.features.locate(maps, chosen)


def regression_windows(
    images: TrainingImages, label: int, min_iou: float, most: int, seed: int
) -> tuple[Array, Array, Array]:
    """Training windows for the box regressor of one class, spread evenly over the images that show it.

    Returns
    -------
    rows : float16 array (N, width)
        Pooled features.
    deltas : float32 array (N, 4)
        Targets of :func:`sppnet.data.boxes.encode`.
    owner : int64 array (N,)
        Image index of each window, ascending.
    """
    shown = [i for i in range(len(images)) if np.any(images.positives(i)[1] == label)]
    quota = max(1, most // max(1, len(shown)))
    width = images.features.pooled_width
    rows, deltas, owner = [np.zeros((0, width), np.float16)], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for index, maps in images.read_ahead(shown):
        boxes, labels = images.positives(index)
        objects = boxes[labels == label]
        windows = images.windows(index)
        overlaps = iou(windows, objects)
        near = np.flatnonzero(overlaps.max(axis=1) > min_iou)
        # Each image has its own seed, so that the choice does not depend on the images before it.
        chosen = np.sort(np.random.default_rng([seed, label, index]).permutation(near)[:quota])
        cells = images.features.locate(maps, windows[chosen])
        pooled = images.features.pool(maps, cells).half().cpu().numpy()
        rows.append(pooled[cells.inverse])
        deltas.append(encode(windows[chosen], objects[overlaps[chosen].argmax(axis=1)]))
        owner.append(np.full(len(chosen), index, np.int64))
    return np.concatenate(rows), np.concatenate(deltas), np.concatenate(owner)


def labelled_windows(
    images: TrainingImages, index: int, options: FineTuneOptions, background: int
) -> tuple[Array, Array]:
    """Windows of an image with their labels for fine-tuning (paper, section 4.2).

    Returns
    -------
    windows : float32 array (N, 4)
        Objects and proposals.
    labels : int64 array (N,)
        Class of the object that the window overlaps most, if the IoU is at least ``positive_iou``; ``background`` if it
        is less but at least ``negative_iou``; -1 (ignored) for windows too far from every object or on a difficult one.
    """
    sample = images.samples[index]
    windows = images.windows(index)
    labels = np.full(len(windows), -1, np.int64)
    if len(sample.boxes) == 0:
        return windows, labels
    overlaps = iou(windows, sample.boxes)
    best, nearest = overlaps.max(axis=1), overlaps.argmax(axis=1)
    labels[(best >= options.negative_iou) & (best < options.positive_iou)] = background
    positive = (best >= options.positive_iou) & ~sample.difficult[nearest]
    labels[positive] = sample.labels[nearest[positive]]
    return windows, labels


def extra_positives(objects: Array, wanted: int, rows: int) -> Array:
    """Most extra positives per object of each class, int64 (classes,), when ``rows`` fit in memory.

    A class has no more than :data:`MOST_POSITIVES` positives, but for its objects. The classes with the most objects
    need extra positives least, so they are limited first when memory is short.

    Parameters
    ----------
    objects : int array (classes,)
        Objects of each class.
    wanted : int
        Extra positives per object if memory allows.
    rows : int
        Positives that fit, objects included.

    Raises
    ------
    InputError
        When not even the objects fit.
    """
    if objects.sum() > rows:
        raise InputError(
            f"{objects.sum()} objects are too many for the memory of hard-negative mining, which holds {rows}: "
            "train on fewer photographs, a smaller pyramid, or raise SVMOptions.max_gigabytes"
        )
    extra = np.minimum(wanted, np.maximum(MOST_POSITIVES // np.maximum(objects, 1) - 1, 0))
    while (objects * (1 + extra)).sum() > rows:
        largest = np.argmax(objects * (1 + extra) * (extra > 0))
        extra[largest] -= 1
    return extra
