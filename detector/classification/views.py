"""Many views of an image, pooled from maps of the whole image (paper, section 3.1.4).

A view is a square of the training size, somewhere in the image at some scale, or the whole image. The result is the
mean of the probabilities of all views. :func:`from_crops` runs the network on each view, as networks without SPP must.
:func:`from_maps` runs the convolutions once for each scale and mirror image, and pools each view from its cells of the
map, as a detector pools its windows.

The results differ for two reasons. A crop is padded with zeros at its edges, while in a map the image continues. And
pooling from the nearest cells shifts a view by up to half a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...data.arrays import Array
from ...data.boxes import flip
from ...data.errors import InputError
from ..convolutions.backbone import Backbone
from ..descent.options import Fit
from ..pooling.spp import pool_whole_maps, spp_pool
from ..windows.scales import resize
from .places import Views, named_views, view_cells, view_windows

__all__ = ["Views", "from_crops", "from_maps", "named_views", "predict_views", "rows_from_crops", "rows_from_maps"]

_cells_of_squares: WeakKeyDictionary[nn.Module, dict[int, tuple[int, int]]] = WeakKeyDictionary()


class Classifier(Protocol):
    """Interface of a network for views; the attributes are those of :class:`.network.SPPClassifier`."""

    @property
    def backbone(self) -> Backbone: ...

    @property
    def input_fit(self) -> Fit: ...

    @property
    def size(self) -> int: ...

    @property
    def levels(self) -> tuple[int, ...]: ...

    def logits(self, rows: Tensor) -> Tensor: ...

    def probabilities(self, logits: Tensor) -> Tensor: ...


def predict_views(classifier: Classifier, image: Array, views: Sequence[Views]) -> Array:
    """Mean probabilities of the views by :func:`from_maps`, or by :func:`from_crops` if the network has no SPP.

    Parameters, result and errors are those of the two functions.
    """
    return (from_maps if classifier.input_fit == "any" else from_crops)(classifier, image, views)


def from_maps(classifier: Classifier, image: Array, views: Sequence[Views]) -> Array:
    """Mean probabilities of the views, pooled from maps of the whole image.

    Parameters
    ----------
    classifier : SPPClassifier
        A network that takes images of any size.
    image : uint8 array (H, W, 3)
        RGB.
    views : sequence of Views
        At least one.

    Returns
    -------
    float32 array (classes,)

    Raises
    ------
    ValueError
        When there are no views, the image has another shape or dtype, or the classifier takes only one size.
    """
    return _mean(classifier, rows_from_maps(classifier, image, views))


def rows_from_maps(classifier: Classifier, image: Array, views: Sequence[Views]) -> Tensor:
    """Pooled rows (V, channels * bins) that are the fc input in :func:`from_maps`.

    They are sorted by scale in the order of first appearance in ``views``, then in the order of ``views``, then the
    image before its mirror image, then by place.
    """
    if classifier.input_fit != "any":
        raise ValueError(f"maps of whole images need a classifier that fits any size, not {classifier.input_fit!r}")
    backbone = classifier.backbone
    square = _square_cells(backbone, classifier.size)
    rows = []
    with torch.inference_mode():
        for scale, group in _by_scale(views):
            scaled = resize(image, scale)[0]
            size = scaled.shape[:2]
            pixels = backbone.preprocess(scaled)
            # One at a time: a batch of two took 1.05 to 1.6 times as long on a CPU (three networks).
            sides = [pixels, pixels.flip(3)] if any(one.mirror for one in group) else [pixels]
            maps = [backbone(side)[0] for side in sides]
            for one in group:
                windows = view_windows(size, classifier.size, one.places)
                # Views without mirror images need only the first map, even if others need both.
                for level, there in zip(maps, _mirrored(windows, size[1], one.mirror), strict=False):
                    cells = view_cells(there, size, (level.shape[1], level.shape[2]), backbone.stride, square)
                    rows.append(spp_pool(level, cells, classifier.levels))
    return torch.cat(rows)


def from_crops(classifier: Classifier, image: Array, views: Sequence[Views], batch: int = 32) -> Array:
    """Mean probabilities of the views; each is cut out of the scaled image and run through the whole network.

    For a network that takes only one size ("crop", "warp"), views that are smaller at the edge of the image are
    stretched to its square; for "warp" the whole image is too.

    Parameters
    ----------
    classifier, image, views
        As in :func:`from_maps`, of any ``input_fit``.
    batch : int
        Views per batch of the convolutions.

    Returns
    -------
    float32 array (classes,)

    Raises
    ------
    InputError
        When a view is the whole image and the classifier takes only crops.
    ValueError
        When there are no views, or the image has another shape or dtype.
    """
    return _mean(classifier, rows_from_crops(classifier, image, views, batch))


def rows_from_crops(classifier: Classifier, image: Array, views: Sequence[Views], batch: int = 32) -> Tensor:
    """Pooled rows (V, channels * bins) that are the fc input in :func:`from_crops`.

    The order is that of :func:`rows_from_maps`.
    """
    if classifier.input_fit == "crop" and any(one.places == "full" for one in views):
        raise InputError(
            f"this classifier takes crops of {classifier.size} x {classifier.size} pixels only; "
            f"expected other views than 'full', or a network that fits any size"
        )
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    backbone = classifier.backbone
    crops = list(_crops(classifier, backbone, image, views))
    rows: list[Tensor] = [torch.empty(0)] * len(crops)
    with torch.inference_mode():
        for shape in dict.fromkeys(crop.shape for crop in crops):
            same = [number for number, crop in enumerate(crops) if crop.shape == shape]
            for start in range(0, len(same), batch):
                part = same[start : start + batch]
                maps = backbone(torch.cat([crops[number] for number in part]))
                for number, row in zip(part, pool_whole_maps(maps, classifier.levels), strict=True):
                    rows[number] = row
    return torch.stack(rows)


def _crops(classifier: Classifier, backbone: Backbone, image: Array, views: Sequence[Views]) -> Iterator[Tensor]:
    """Yield the normalised views (1, 3, h, w) of an image."""
    for scale, group in _by_scale(views):
        scaled = resize(image, scale)[0]
        pixels = backbone.preprocess(scaled)
        for one in group:
            windows = view_windows(scaled.shape[:2], classifier.size, one.places)
            for x1, y1, x2, y2 in windows:
                yield _fitted(pixels[:, :, y1:y2, x1:x2], classifier)
            if one.mirror:
                for x1, y1, x2, y2 in windows:
                    yield _fitted(pixels[:, :, y1:y2, x1:x2].flip(3), classifier)


def _fitted(crop: Tensor, classifier: Classifier) -> Tensor:
    """Stretch a view (1, 3, h, w) to the classifier's size, unless it takes any size."""
    size = classifier.size
    height, width = crop.shape[2:]
    if classifier.input_fit == "any" or (height, width) == (size, size):
        return crop
    smooth = cv2.INTER_AREA if size < 0.5 * min(height, width) else cv2.INTER_LINEAR
    pixels = np.ascontiguousarray(crop[0].permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.resize(pixels, (size, size), interpolation=smooth)).permute(2, 0, 1)[None]


def _mean(classifier: Classifier, rows: Tensor) -> Array:
    """Mean probabilities (classes,) of rows (V, channels * bins)."""
    with torch.inference_mode():
        return classifier.probabilities(classifier.logits(rows)).float().mean(dim=0).cpu().numpy()


def _by_scale(views: Sequence[Views]) -> list[tuple[int, list[Views]]]:
    """Scales in the order of first appearance, each with its views, which share one map."""
    if not views:
        raise ValueError("there must be at least one view, got none")
    groups: dict[int, list[Views]] = {}
    for one in views:
        for scale in one.scales:
            groups.setdefault(scale, []).append(one)
    return list(groups.items())


def _mirrored(windows: Array, width: int, mirror: bool) -> list[Array]:
    """Windows (V, 4) and, with ``mirror``, the same windows on the mirror image."""
    return [windows, flip(windows, width)] if mirror else [windows]


def _square_cells(backbone: nn.Module, side: int) -> tuple[int, int]:
    """Cells (h, w) of the map of a square of ``side`` pixels; cached for each network and side."""
    known = _cells_of_squares.setdefault(backbone, {})
    if side not in known:
        like = next(backbone.parameters())
        with torch.inference_mode():
            maps = backbone(torch.zeros(1, 3, side, side, device=like.device))
        known[side] = maps.shape[2], maps.shape[3]
    return known[side]
