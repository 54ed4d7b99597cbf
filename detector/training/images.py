"""Training images: photographs with their labels, proposals and cached maps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.boxes import flip, iou, unique
from ...data.sample import Sample
from ..windows.features import Features
from .cache import FeatureCache, mirrored

#: Images whose maps are read ahead of the one in work.
AHEAD = 2

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")


#: Called with images, the place of one among them, its number in the whole training, its maps, what the call needs for
#: all images, and what it needs for this one alone.
OfImage = Callable[["TrainingImages", int, int, Any, Any, Any], Result]


class Visit(Protocol):
    """What visits images in the place of this process: :meth:`.crew.Shared.each`."""

    def __call__(
        self,
        images: TrainingImages,
        function: OfImage[Result],
        common: Any,
        wanted: Sequence[int],
        own: Mapping[int, Any],
    ) -> Iterator[tuple[int, Result]]:
        """See :meth:`TrainingImages.each`."""


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
        self.visit: Visit | None = None

    def visited_by(self, visit: Visit | None) -> TrainingImages:
        """Return the same images, with :meth:`each` left to others, if there are some."""
        other = copy(self)
        other.visit = visit
        return other

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
        both._photographs, both.visit = len(self), self.visit
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

    def each(
        self, function: OfImage[Result], common: Any, wanted: Sequence[int], own: Mapping[int, Any] | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Yield the number of each of the wanted images and a function of it, in any order, but always in the same.

        Parameters
        ----------
        function : callable
            Of a module. What it returns must not depend on earlier calls.
        common
            What it needs for all images.
        wanted : sequence of int
        own : mapping, optional
            What it needs for single images, by their numbers.
        """
        of_each = own or {}
        if self.visit is not None:
            yield from self.visit(self, function, common, wanted, of_each)
            return
        for index, maps in self.read_ahead(wanted):
            yield index, function(self, index, index, maps, common, of_each.get(index))

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
