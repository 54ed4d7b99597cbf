"""What SVMs learn from in one image: objects, random negatives, and hard negatives (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.boxes import iou
from ...data.nms import nms
from ..options import SVMOptions
from ..windows.features import Cells
from .images import TrainingImages


@dataclass(frozen=True, eq=False)
class Collected:
    """Some distinct windows of an image, and whose examples they are.

    Attributes
    ----------
    scale : int64 array (U,)
    cells : int32 array (U, 4 * grids)
        As in :class:`.windows.features.Cells`.
    rows : float16 array (U, width)
        Their features.
    examples : tuple of (int64 array, int, int)
        Numbers of windows, the class whose SVM learns from them, and the sign that they have for it.
    """

    scale: Array
    cells: Array
    rows: Array
    examples: tuple[tuple[Array, int, int], ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Collector:
    """Collects the windows of images.

    Attributes
    ----------
    classes : int
    options : SVMOptions
    seed : int
    extra_positives : int array (classes,)
        Proposals for each object that are positives, too.
    random_windows : int
        Random negatives of each image.
    """

    classes: int
    options: SVMOptions
    seed: int
    extra_positives: Array
    random_windows: int

    def first(self, images: TrainingImages, place: int, index: int, maps: Any) -> Collected:
        """Collect the objects of an image as positives, the proposals that fit them well, and random negatives.

        Parameters
        ----------
        images : TrainingImages
        place : int
            Number of the image among them.
        index : int
            Its number in the whole training, which seeds the random choice.
        maps
            Its maps.
        """
        rng = np.random.default_rng([self.seed, index])
        boxes, labels = self._positives(images, place)
        others = images.proposals[place]
        others = others[rng.permutation(len(others))[: self.random_windows]]
        groups = [(boxes[labels == label], label, 1) for label in range(self.classes)]
        for label in range(self.classes):
            groups.append((others[self._far(images, place, others, label)], label, -1))
        cells = images.features.locate(maps, np.concatenate([windows for windows, _, _ in groups]))
        parts = np.split(cells.inverse, np.cumsum([len(windows) for windows, _, _ in groups])[:-1])
        wanted = [(part, label, sign) for part, (_, label, sign) in zip(parts, groups, strict=True)]
        return _collected(images, maps, cells, wanted)

    def _positives(self, images: TrainingImages, place: int) -> tuple[Array, Array]:
        """Positives of an image, boxes (N, 4) and labels (N,): its objects and the proposals that fit them well."""
        objects = images.positives(place)
        near = images.near_positives(place, self.extra_positives, self.options.positive_iou)
        return np.concatenate([objects[0], near[0]]), np.concatenate([objects[1], near[1]])

    def _far(self, images: TrainingImages, place: int, windows: Array, label: int) -> Array:
        """Which windows are far from all objects of the class, bool (N,)."""
        return images.overlap(place, windows, label) < self.options.negative_iou

    def hard(
        self, images: TrainingImages, place: int, maps: Any, planes: tuple[Array, Array], known: Array | None = None
    ) -> Collected:
        """Collect the hard negatives of an image for all classes.

        Parameters
        ----------
        images, place, maps
            As for :meth:`first`.
        planes : (float32 array (classes, width), float32 array (classes,))
            Weights and intercepts of the SVMs.
        known : int array (K, 2 + 4 * grids), optional
            Negatives of this image that the SVMs have: class, scale and cells. They are not collected again, nor is a
            near duplicate of one that is still hard.
        """
        options, classes = self.options, range(self.classes)
        windows = images.windows(place)
        far = np.stack([self._far(images, place, windows, label) for label in classes], axis=1)
        # Windows that are negatives of no class are not computed.
        windows, far = windows[far.any(axis=1)], far[far.any(axis=1)]
        cells = images.features.locate(maps, windows)
        rows, of_cells = scored(images, maps, cells, planes)
        scores, had = of_cells[cells.inverse], _had(cells, known, self.classes)
        wanted = []
        for label in classes:
            hard = np.flatnonzero((scores[:, label] > options.hard_above) & far[:, label])
            old, new = hard[had[hard, label]], hard[~had[hard, label]]
            if len(old):
                new = new[iou(windows[new], windows[old]).max(axis=1, initial=0) <= options.duplicate_iou]
            kept = new[nms(windows[new], scores[new, label], options.duplicate_iou)]
            wanted.append((cells.inverse[kept], label, -1))
        return _collected(images, maps, cells, wanted, rows)


def keeps_rows(images: TrainingImages) -> bool:
    """Whether rows are fc outputs. These are kept: their last bits depend on how many are computed at a time."""
    return images.features.options.kind != "pool5"


def scored(images: TrainingImages, maps: Any, cells: Cells, planes: tuple[Array, Array]) -> tuple[Tensor | None, Array]:
    """Scores (U, classes) of distinct windows, and their rows if they are short enough to keep."""
    features = images.features
    # Planes from another process cannot be written to, of which torch warns.
    writable = (np.require(part, requirements="W") for part in planes)
    weights, intercepts = (torch.from_numpy(part).to(features.device) for part in writable)
    if not keeps_rows(images):
        return None, features.scores(maps, cells, weights, intercepts).cpu().numpy()
    rows = features.rows(maps, cells)
    return rows, torch.addmm(intercepts, rows, weights.T).cpu().numpy()


def _had(cells: Cells, known: Array | None, classes: int) -> Array:
    """Which windows the SVM of each class has, bool (N, classes)."""
    distinct = np.zeros((len(cells), classes), bool)
    if known is not None and len(known):
        places = np.column_stack([cells.scale, cells.cells]).astype(np.int32)
        number = {place.tobytes(): row for row, place in enumerate(places)}
        rows = [number[place.tobytes()] for place in known[:, 1:].astype(np.int32)]
        distinct[rows, known[:, 0]] = True
    return distinct[cells.inverse]


def _collected(
    images: TrainingImages,
    maps: Any,
    cells: Cells,
    wanted: Sequence[tuple[Array, int, int]],
    rows: Tensor | None = None,
) -> Collected:
    """Some of the distinct windows of an image, given as (numbers, label, sign).

    Each window is pooled once, or not at all if ``rows`` (U, width) are given.
    """
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _, _ in wanted)]))
    examples = tuple((np.searchsorted(used, np.unique(numbers)), label, sign) for numbers, label, sign in wanted)
    values = images.features.rows(maps, cells[used]) if rows is None else rows[torch.from_numpy(used)]
    return Collected(cells.scale[used], cells.cells[used], values.half().cpu().numpy(), examples)
