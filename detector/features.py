"""Features of many windows from one pass over the image (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .backbone import Backbone
from .config import FeatureOptions
from .projection import project
from .pyramid import choose_scale, resize, scale_boxes, scaled_size
from .spp import bins, spp_pool
from .spp_cpu import pool_windows, unique_windows

Array = NDArray[Any]

#: Windows pooled at a time; what is pooled then fits a core's cache until it has been scored.
CHUNK = 256


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The convolutional maps of one image.

    Attributes
    ----------
    image_size : (height, width) of the image, pixels.
    maps : tuple of tensors (C, h, w), one for each scale, channels last in memory.
    """

    image_size: tuple[int, int]
    maps: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Cells:
    """Windows on the maps, equal ones counted once.

    Attributes
    ----------
    scale : int64 array (U,)
        Index of the scale that each distinct window is pooled from, in ascending order.
    cells : int32 array (U, 4)
        x0, y0, x1, y1 in cells of that scale's map, inclusive.
    inverse : int64 array (N,)
        The distinct window that each window asked for falls on.
    """

    scale: Array
    cells: Array
    inverse: Array

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: Array) -> Cells:
        """Some of the distinct windows, in ascending order, as a set of their own."""
        return Cells(self.scale[rows], self.cells[rows], np.arange(len(rows)))


class WindowFeatures:
    """Maps of images and pooled features of windows on them, for one backbone and set of options.

    Parameters
    ----------
    backbone : Backbone
    options : FeatureOptions
    """

    def __init__(self, backbone: Backbone, options: FeatureOptions):
        self.backbone, self.options = backbone, options

    @property
    def width(self) -> int:
        """Numbers in a window's feature."""
        return self.backbone.channels * bins(self.options.levels)

    @property
    def device(self) -> torch.device:
        """Where the maps are computed."""
        return next(self.backbone.parameters()).device

    def map_at(self, image: Array, scale: int) -> Tensor:
        """The map (C, h, w) of an RGB uint8 image (H, W, 3) whose shorter side becomes ``scale``."""
        with torch.inference_mode():
            batch = self.backbone.preprocess(resize(image, scale)[0]).to(self.device)
            return self.backbone(batch)[0]

    def maps(self, image: Array) -> FeatureMaps:
        """All maps of an RGB uint8 image (H, W, 3): the convolutions run once for each scale."""
        height, width = image.shape[:2]
        return FeatureMaps((height, width), tuple(self.map_at(image, scale) for scale in self.options.scales))

    def locate(self, maps: FeatureMaps, windows: Array) -> Cells:
        """Choose each window's scale and project its corners onto that scale's map.

        Parameters
        ----------
        maps : FeatureMaps
        windows : float array (N, 4)
            x1, y1, x2, y2 in pixels of the image, half-open.
        """
        options, backbone = self.options, self.backbone
        chosen = choose_scale(windows, maps.image_size, options.scales, rule=options.scale_rule)
        scales, cells = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.int32)]
        inverse = np.zeros(len(windows), np.int64)
        for index, scale in enumerate(options.scales):
            here = np.flatnonzero(chosen == index)
            scaled = scale_boxes(windows[here], maps.image_size, scaled_size(maps.image_size, scale))
            height, width = maps.maps[index].shape[1:]
            on_map = project(scaled, (height, width), backbone.stride, backbone.offset0, rule=options.projection_rule)
            distinct, which = unique_windows(on_map)
            inverse[here] = sum(map(len, cells)) + which
            scales.append(np.full(len(distinct), index, np.int64))
            cells.append(distinct)
        return Cells(np.concatenate(scales), np.concatenate(cells), inverse)

    def pool(self, maps: FeatureMaps, cells: Cells) -> Tensor:
        """Features (U, width) of distinct windows, on the maps' device."""
        rows = torch.empty(len(cells), self.width, dtype=maps.maps[0].dtype, device=maps.maps[0].device)
        return self._pool_into(rows, maps, cells)

    def chunks(self, maps: FeatureMaps, cells: Cells) -> Iterator[tuple[slice, Tensor]]:
        """Features a few at a time: the slice of ``cells`` and its rows (n, width), which the next ones overwrite."""
        size = min(CHUNK, len(cells))
        rows = torch.empty(size, self.width, dtype=maps.maps[0].dtype, device=maps.maps[0].device)
        for start in range(0, len(cells), CHUNK):
            part = slice(start, min(start + CHUNK, len(cells)))
            chosen = cells[np.arange(part.start, part.stop)]
            yield part, self._pool_into(rows[: len(chosen)], maps, chosen)

    def _pool_into(self, rows: Tensor, maps: FeatureMaps, cells: Cells) -> Tensor:
        """Fill ``rows`` (U, width) scale by scale and return it."""
        ends = np.searchsorted(cells.scale, np.arange(len(maps.maps)), side="right")
        for level, start, end in zip(maps.maps, np.concatenate([[0], ends[:-1]]), ends, strict=True):
            here = cells.cells[start:end]
            if level.device.type == "cpu":
                channel_last = level.permute(1, 2, 0).contiguous().numpy()
                pool_windows(channel_last, here, self.options.levels, out=rows[start:end].numpy())
            else:
                rows[start:end] = spp_pool(level, here, self.options.levels)
        return rows

    def scores(self, maps: FeatureMaps, cells: Cells, weights: Tensor, intercepts: Tensor) -> Array:
        """Linear scores float32 (U, classes) of distinct windows: pooled, scored and forgotten, a few at a time.

        Parameters
        ----------
        maps, cells
        weights, intercepts : tensors (classes, width), (classes,), on the maps' device
        """
        scores = torch.empty(len(cells), len(weights))
        with torch.inference_mode():
            for part, rows in self.chunks(maps, cells):
                # In this order, few by long times long by many, the product is fastest.
                scores[part] = (weights @ rows.T).T.add_(intercepts).cpu()
        return scores.numpy()
