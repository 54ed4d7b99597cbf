"""Features of many windows from one pass over the image (paper, section 4.1): pooled, optionally after fc layers.

:class:`Features` is the interface for detection and training. :class:`WindowFeatures` implements the paper's method,
:class:`.warping.WarpFeatures` R-CNN's for comparison.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.memory import after_image
from ...data.sample import Sample
from ..convolutions.backbone import Backbone
from ..head.head import Head
from ..options import FeatureOptions
from ..pooling.kernel import unique_windows
from ..pooling.spp import Poolable, bins, gpu_kernels, spp_pool_into
from .projection import project
from .scales import choose_scale, resize, scale_boxes, scaled_size

if TYPE_CHECKING:
    from ..pooling.gpu import KeyMaps

#: Most windows pooled at a time.
CHUNK = {"cpu": 256, "cuda": 4096}

#: Windows in the smallest chunk where memory is short.
LEAST_CHUNK = 64

#: Most bytes, and fewest windows, of a part of a chunk on the CPU without fc layers.
PART_BYTES, PART_LEAST = 8e6, 16

#: Minimum chunk with fc layers, whose weights are read once for each chunk.
FC_CHUNK = 512


class Seen(Protocol):
    """The data computed once for an image, from which features of its windows are computed."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""

    @property
    def device(self) -> torch.device:
        """Device on which features of windows are computed."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of pooled features."""

    def to(self: Maps, dtype: torch.dtype) -> Maps:
        """Convert pooled features to another precision."""


Maps = TypeVar("Maps", bound=Seen)


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The convolutional maps of one image.

    Attributes
    ----------
    image_size : (height, width) of the image, pixels.
    maps : tuple of tensors (C, h, w)
        For each scale one for each of the backbone's grids; channels last in memory.
    """

    image_size: tuple[int, int]
    maps: tuple[Tensor, ...]

    @property
    def device(self) -> torch.device:
        """Of the maps."""
        return self.maps[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the maps."""
        return self.maps[0].dtype

    def to(self, dtype: torch.dtype) -> FeatureMaps:
        """Convert the maps to another precision."""
        return self if dtype == self.dtype else FeatureMaps(self.image_size, tuple(one.to(dtype) for one in self.maps))

    @cached_property
    def poolable(self) -> tuple[Poolable, ...]:
        """The maps, prepared for pooling: once for all chunks of windows."""
        return tuple(Poolable.of(level) for level in self.maps)

    def key_maps(self, grids: int) -> tuple[KeyMaps, ...]:
        """The maps of all scales for each of that number of grids, as a GPU's kernel takes them: made once."""
        from ..pooling.gpu import KeyMaps  # which needs Triton

        if not self._key_maps:
            self._key_maps.extend(KeyMaps(self.maps[number::grids]) for number in range(grids))
        return tuple(self._key_maps)

    @cached_property
    def _key_maps(self) -> list[KeyMaps]:
        return []


@dataclass(frozen=True, eq=False)
class Cells:
    """Windows on the maps, without duplicates.

    Attributes
    ----------
    scale : int64 array (U,)
        Index of the scale from which each distinct window is pooled, in ascending order.
    cells : int32 array (U, 4 * grids)
        x0, y0, x1, y1 in cells of each of that scale's maps, inclusive; for warped windows, the warped pixels
        (:func:`.warping.frames`).
    inverse : int64 array (N,)
        Index of the distinct window of each requested window.
    """

    scale: Array
    cells: Array
    inverse: Array

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: Array) -> Cells:
        """Select some of the distinct windows, in ascending order."""
        return Cells(self.scale[rows], self.cells[rows], np.arange(len(rows)))


class Features(ABC, Generic[Maps]):
    """Computes features of an image's windows, for one backbone and one set of options.

    Parameters
    ----------
    backbone : Backbone
    options : FeatureOptions
    head : Head, optional
        The fc layers; required if ``options.kind`` is one of them.
    """

    def __init__(self, backbone: Backbone, options: FeatureOptions, head: Head | None = None):
        if options.kind != "pool5" and head is None:
            raise ValueError(f"features {options.kind} need a head, not None")
        self.backbone, self.options, self.head = backbone, options, head
        self._rooms: list[Tensor] = []
        self._halved = 0

    def __getstate__(self) -> dict[str, Any]:
        # The memory for rows is no part of what another process needs.
        return {**self.__dict__, "_rooms": []}

    @abstractmethod
    def maps(self, image: Array) -> Maps:
        """Compute the data needed once for an RGB uint8 image (H, W, 3)."""

    def maps_of(self, images: Sequence[Array]) -> list[Maps]:
        """:meth:`maps` of several images, for a GPU: those of one shape together where that helps."""
        return [self.maps(image) for image in images]

    def complete(self, maps: Maps, sample: Sample) -> Maps:
        """Let cached data of an image serve for all its windows, not only for the cached ones; reads it if needed."""
        return maps

    @abstractmethod
    def locate(self, maps: Maps, windows: Array, chosen: Array | None = None) -> Cells:
        """Locate windows on the maps, and find which of them are equal.

        Parameters
        ----------
        maps
            The result of :meth:`maps` for the image.
        windows : float array (N, 4)
            x1, y1, x2, y2 in pixels of the image, half-open.
        chosen : int array (N,), optional
            Index of each window's scale, instead of the best one.
        """

    @abstractmethod
    def _pool_into(self, rows: Tensor, maps: Maps, cells: Cells) -> Tensor:
        """Fill ``rows`` (U, pooled_width) and return it."""

    @property
    def cell_columns(self) -> int:
        """Number of columns of :attr:`Cells.cells`."""
        return 4

    @property
    def pooled_width(self) -> int:
        """Length of a window's pooled feature."""
        return self.backbone.channels * bins(self.options.levels)

    @property
    def width(self) -> int:
        """Length of a window's feature of the kind in ``options``."""
        if self.options.kind == "pool5":
            return self.pooled_width
        assert self.head is not None
        return self.head.width(self.options.kind)

    @property
    def device(self) -> torch.device:
        """Device of the convolutions."""
        return next(self.backbone.parameters()).device

    def pool(self, maps: Maps, cells: Cells) -> Tensor:
        """Compute pooled features (U, pooled_width) of distinct windows, on the maps' device."""
        rows = torch.empty(len(cells), self.pooled_width, dtype=maps.dtype, device=maps.device)
        return self._pool_into(rows, maps, cells)

    def rows(self, maps: Maps, cells: Cells) -> Tensor:
        """Compute features (U, width) of distinct windows, of the kind in ``options``, on the maps' device."""
        if self.options.kind == "pool5":
            return self.pool(maps, cells)
        rows = torch.empty(len(cells), self.width, device=maps.device)
        for part, values in self.chunks(maps, cells):
            rows[part] = values
        return rows

    def chunks(self, maps: Maps, cells: Cells) -> Iterator[tuple[slice, Tensor]]:
        """Yield features in chunks: the slice of ``cells`` and its rows (n, width), which the next chunk overwrites."""
        for part, pooled in self.pooled_chunks(self.for_layers(maps), cells):
            yield part, self.after_layers(pooled)

    def after_layers(self, pooled: Tensor) -> Tensor:
        """Features (n, width) of pooled rows (n, pooled_width): after the fc layers, if any."""
        if self._layers is None:
            return pooled
        with torch.inference_mode():
            return self._layers.output(pooled.to(self._layers.dtype), self.options.kind)

    def pooled_chunks(self, maps: Maps, cells: Cells) -> Iterator[tuple[slice, Tensor]]:
        """Like :meth:`chunks`, with pooled rows (n, pooled_width) in the precision of the maps."""
        most = self.chunk
        starts = range(0, len(cells), most)
        parts = [part for start in starts for part in self._parts(start, min(start + most, len(cells)))]
        longest = max((part.stop - part.start for part in parts), default=0)
        with self._memory(longest, maps) as rows:
            for part in parts:
                chosen = cells[np.arange(part.start, part.stop)]
                yield part, self._pool_into(rows[: len(chosen)], maps, chosen)

    def for_layers(self, maps: Maps) -> Maps:
        """The maps in the precision of the fc layers, if any."""
        # Rounding preserves the order, so the maxima of the rounded map are the rounded maxima.
        return maps if self._layers is None else maps.to(self._layers.dtype)

    def _parts(self, start: int, end: int) -> Iterator[slice]:
        """Split a chunk into parts that stay in the cache until they are scored.

        A product's last bits depend on the number of rows, which BLAS takes in groups. Multiples of 16 give the bits of
        the whole chunk, and so does the last part if it has the rest of the chunk as well.
        """
        size = self.chunk
        if self._layers is None and self.device.type == "cpu":
            while size > PART_LEAST and size * self.pooled_width * 4 > PART_BYTES:
                size //= 2
        count = max(1, (end - start) // size)
        for number in range(count):
            first = start + number * size
            yield slice(first, end if number == count - 1 else first + size)

    @property
    def chunk(self) -> int:
        """Most windows in a chunk of :meth:`chunks`; wide rows come in shorter parts of such a chunk."""
        most = CHUNK["cpu" if self.device.type == "cpu" else "cuda"]
        return (most if self._layers is None else max(most, FC_CHUNK)) >> self._halved

    def smaller_chunks(self) -> bool:
        """Halve the chunks from now on; False if they are as small as is sensible already."""
        if self.chunk // 2 < LEAST_CHUNK:
            return False
        self._halved += 1
        self._rooms.clear()
        return True

    @property
    def _layers(self) -> Head | None:
        """The fc layers in use."""
        return None if self.options.kind == "pool5" else self.head

    @contextmanager
    def _memory(self, count: int, like: Maps) -> Iterator[Tensor]:
        """Memory for ``count`` pooled rows, reused for the next image.

        New blocks of this size for each image would cost page faults and fragment the heap: gigabytes after a
        thousand images.
        """
        # A second caller at the same time gets separate memory. Taking from a list is one step, and needs no lock.
        try:
            rows: Tensor | None = self._rooms.pop()
        except IndexError:
            rows = None
        # Memory from inference mode cannot be written to outside of it.
        closed = rows is not None and rows.is_inference() and not torch.is_inference_mode_enabled()
        if rows is None or closed or len(rows) < count or (rows.dtype, rows.device) != (like.dtype, like.device):
            rows = torch.empty(count, self.pooled_width, dtype=like.dtype, device=like.device)
        try:
            yield rows
        finally:
            self._rooms.append(rows)

    def scores(self, maps: Maps, cells: Cells, weights: Tensor, intercepts: Tensor) -> Tensor:
        """Compute linear scores of distinct windows, float32 (U, classes) on their device; features are not kept.

        Parameters
        ----------
        maps, cells
        weights, intercepts : tensors (classes, width), (classes,), on the maps' device
        """
        scores = torch.empty(len(cells), len(weights), device=weights.device)
        with torch.inference_mode():
            for part, rows in self.chunks(maps, cells):
                scores[part] = linear_scores(rows, weights, intercepts)
        return scores


class Planes(NamedTuple):
    """Linear functions of features, one for each class.

    Attributes
    ----------
    weights : tensor (classes, width)
    intercepts : tensor (classes,)
    """

    weights: Tensor
    intercepts: Tensor


def linear_scores(rows: Tensor, weights: Tensor, intercepts: Tensor) -> Tensor:
    """``rows @ weights.T + intercepts``, float32 (N, classes)."""
    # The product is fastest in this order: few classes by features, times features by many windows.
    return (weights @ rows.T).T.add_(intercepts)


class WindowFeatures(Features[FeatureMaps]):
    """Computes a map for each scale of an image and pools windows on it (see :class:`Features`)."""

    @property
    def cell_columns(self) -> int:
        """Four for each map of a scale."""
        return 4 * len(self.backbone.grids)

    def maps_at(self, image: Array, scale: int) -> tuple[Tensor, ...]:
        """Compute the maps (C, h, w) of an RGB uint8 image (H, W, 3), resized to a shorter side of ``scale``."""
        (maps,) = self._maps_at([resize(image, scale)[0]])
        return maps

    def _maps_at(self, scaled: Sequence[Array]) -> list[tuple[Tensor, ...]]:
        """The maps of several images of one shape, which are at their scale already."""
        with torch.inference_mode():
            pixels = [self.backbone.preprocess(image) for image in scaled]
            batch = self.backbone.maps(torch.cat(pixels) if len(pixels) > 1 else pixels[0])
        return [tuple(found[number] for found in batch) for number in range(len(scaled))]

    def maps(self, image: Array) -> FeatureMaps:
        """Compute all maps of an RGB uint8 image (H, W, 3); the convolutions run once for each scale."""
        (maps,) = self.maps_of([image])
        return maps

    def maps_of(self, images: Sequence[Array]) -> list[FeatureMaps]:
        """:meth:`maps` of several images, for a GPU: at each scale those that have the same shape are one batch.

        No image is padded to the shape of another: zeros beyond an edge change the cells near it. The maps of a batch
        are those of single images but for rounding, since a GPU sums in another order for another size of batch.
        """
        after_image()
        maps: list[list[Tensor]] = [[] for _ in images]
        for scale in self.options.scales:
            scaled = [resize(image, scale)[0] for image in images]
            shapes = [image.shape for image in scaled]
            for shape in dict.fromkeys(shapes):
                alike = [number for number, other in enumerate(shapes) if other == shape]
                for number, found in zip(alike, self._maps_at([scaled[number] for number in alike]), strict=True):
                    maps[number].extend(found)
        sizes = [image.shape[:2] for image in images]
        return [FeatureMaps(size, tuple(found)) for size, found in zip(sizes, maps, strict=True)]

    def locate(self, maps: FeatureMaps, windows: Array, chosen: Array | None = None) -> Cells:
        """Choose each window's scale and project its corners onto that scale's maps (see :meth:`Features.locate`)."""
        options, grids = self.options, self.backbone.grids
        if chosen is None:
            chosen = choose_scale(windows, maps.image_size, options.scales, rule=options.scale_rule)
        scales, cells = [np.zeros(0, np.int64)], [np.zeros((0, 4 * len(grids)), np.int32)]
        inverse = np.zeros(len(windows), np.int64)
        for index, scale in enumerate(options.scales):
            here = np.flatnonzero(chosen == index)
            scaled = scale_boxes(windows[here], maps.image_size, scaled_size(maps.image_size, scale))
            on_maps = []
            for grid, level in zip(grids, maps.maps[index * len(grids) :], strict=False):
                size = (level.shape[1], level.shape[2])
                on_maps.append(project(scaled, size, grid.stride, grid.offset0, rule=options.projection_rule))
            distinct, which = _distinct(on_maps)
            inverse[here] = sum(map(len, cells)) + which
            scales.append(np.full(len(distinct), index, np.int64))
            cells.append(distinct)
        return Cells(np.concatenate(scales), np.concatenate(cells), inverse)

    def _pool_into(self, rows: Tensor, maps: FeatureMaps, cells: Cells) -> Tensor:
        """Fill ``rows`` (U, width) scale by scale and return it; the numbers of each grid's map are adjacent."""
        grids, levels = self.backbone.grids, self.options.levels
        if gpu_kernels(maps.device) is not None:
            places = (torch.from_numpy(part).to(maps.device, non_blocking=True) for part in (cells.scale, cells.cells))
            return self.pool_on_device(rows, maps, *places)
        for index in range(len(self.options.scales)):
            start, end = np.searchsorted(cells.scale, [index, index + 1])
            first = 0
            for number, grid in enumerate(grids):
                on_map = cells.cells[start:end, 4 * number : 4 * number + 4]
                spp_pool_into(rows[start:end], maps.poolable[index * len(grids) + number], on_map, levels, first)
                first += grid.channels * bins(levels)
        return rows

    def pool_on_device(self, rows: Tensor, maps: FeatureMaps, scale: Tensor, cells: Tensor) -> Tensor:
        """Pool windows that are on a GPU already, where there are kernels for it.

        Parameters
        ----------
        rows : tensor (N, pooled_width) of the maps' dtype
            Filled and returned.
        maps : FeatureMaps
        scale : int64 tensor (N,)
            Index of each window's scale.
        cells : int32 tensor (N, 4 * grids)
            As in :class:`Cells`.
        """
        grids, levels, first = self.backbone.grids, self.options.levels, 0
        for number, (grid, keys) in enumerate(zip(grids, maps.key_maps(len(grids)), strict=True)):
            keys.pool_into(rows, cells[:, 4 * number : 4 * number + 4], levels, first, scale)
            first += grid.channels * bins(levels)
        return rows


def _distinct(on_maps: list[Array]) -> tuple[Array, Array]:
    """Distinct windows among int cells (N, 4) on each of several maps, side by side, and the index of each window."""
    if len(on_maps) == 1:
        return unique_windows(on_maps[0])
    keys = np.zeros(len(on_maps[0]), np.int64)
    for cells in on_maps:
        distinct, which = unique_windows(cells)
        keys = keys * len(distinct) + which
        # Small numbers again: products for many maps would overflow.
        _, first, keys = np.unique(keys, return_index=True, return_inverse=True)
    return np.concatenate(on_maps, axis=1)[first], keys
