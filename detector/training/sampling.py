"""The selection of training windows in training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.boxes import encode, iou
from ...data.errors import InputError
from ..options import FineTuneOptions
from ..windows.features import Cells
from .images import TrainingImages

#: The largest number of positives of a class, unless it has more objects. For 2,804 blood cells (205 photographs), all
#: with five extra positives, there would be 12,000 of the red ones, and the SVMs would take minutes.
MOST_POSITIVES = 5000


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
    wanted = _Regression(label, min_iou, max(1, most // max(1, len(shown))), seed)
    width = images.features.pooled_width
    rows, deltas, owner = [np.zeros((0, width), np.float16)], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for index, (of_image, targets) in sorted(images.each(_regression_windows_of, wanted, shown), key=itemgetter(0)):
        rows.append(of_image)
        deltas.append(targets)
        owner.append(np.full(len(of_image), index, np.int64))
    return np.concatenate(rows), np.concatenate(deltas), np.concatenate(owner)


@dataclass(frozen=True)
class _Regression:
    """Windows that are wanted of each image: at most ``quota`` of an IoU above ``min_iou`` with objects of a class."""

    label: int
    min_iou: float
    quota: int
    seed: int


def _regression_windows_of(
    images: TrainingImages, place: int, index: int, maps: Any, wanted: _Regression, own: None
) -> tuple[Array, Array]:
    """Pooled features (N, width) and targets (N, 4) of one image."""
    boxes, labels = images.positives(place)
    objects = boxes[labels == wanted.label]
    windows = images.windows(place)
    overlaps = iou(windows, objects)
    near = np.flatnonzero(overlaps.max(axis=1) > wanted.min_iou)
    # Each image has its own seed, so that the choice does not depend on the images before it.
    chosen = np.sort(np.random.default_rng([wanted.seed, wanted.label, index]).permutation(near)[: wanted.quota])
    cells = images.features.locate(maps, windows[chosen])
    pooled = images.features.pool(maps, cells).half().cpu().numpy()
    return pooled[cells.inverse], encode(windows[chosen], objects[overlaps[chosen].argmax(axis=1)])


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
