"""Features of windows whose boxes are on the device already: nothing waits for it, and nothing leaves it.

The formulas are those of :mod:`.scales` and :mod:`.projection`, in the same double precision, so windows have the same
cells. Windows with equal cells are not joined: to find them would take longer than to pool them twice.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..options import CornerRule, ScaleRule
from ..pooling.levels import bins
from .features import FeatureMaps, WindowFeatures
from .projection import default_offset
from .scales import CANONICAL, scaled_size

if TYPE_CHECKING:
    from ..pooling.gpu import KeyMaps


class MapsOnDevice:
    """The maps of an image, to pool boxes that are tensors.

    Parameters
    ----------
    features : WindowFeatures
    maps : FeatureMaps
        On a device that has kernels (:func:`.spp.gpu_kernels`).
    """

    def __init__(self, features: WindowFeatures, maps: FeatureMaps) -> None:
        self.features, self.image_size = features, maps.image_size
        grids = features.backbone.grids
        self._maps = [maps.maps[number :: len(grids)] for number in range(len(grids))]

    @cached_property
    def _keys(self) -> list[KeyMaps]:
        """The maps of all scales, for each grid."""
        from ..pooling.gpu import KeyMaps  # which needs Triton

        return [KeyMaps(maps) for maps in self._maps]

    def rows(self, boxes: Tensor) -> Tensor:
        """Pooled features (N, pooled_width) of boxes (N, 4), x1, y1, x2, y2 in pixels of the image, half-open."""
        features, levels = self.features, self.features.options.levels
        maps = self._maps[0][0]
        rows = torch.empty(len(boxes), features.pooled_width, dtype=maps.dtype, device=maps.device)
        scale, cells = self.locate(boxes)
        first = 0
        for number, grid in enumerate(features.backbone.grids):
            self._keys[number].pool_into(rows, cells[number], levels, first, scale)
            first += grid.channels * bins(levels)
        return rows

    def locate(self, boxes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The scale of each box, int64 (N,), and its cells on that scale's map of each grid, int32 (N, 4)."""
        options = self.features.options
        exact = boxes.double()
        scale = choose_scale(exact, self.image_size, options.scales, options.scale_rule)
        scaled = [scale_boxes(exact, self.image_size, scaled_size(self.image_size, side)) for side in options.scales]
        cells = []
        for grid, maps in zip(self.features.backbone.grids, self._maps, strict=True):
            of_scales = [
                project(at_scale, (one.shape[1], one.shape[2]), grid.stride, grid.offset0, options.projection_rule)
                for at_scale, one in zip(scaled, maps, strict=True)
            ]
            every = torch.stack(of_scales, dim=1)
            cells.append(every[torch.arange(len(boxes), device=boxes.device), scale])
        return scale, cells


def choose_scale(boxes: Tensor, image_size: tuple[int, int], scales: tuple[int, ...], rule: ScaleRule) -> Tensor:
    """Index (N,) of each box's scale: :func:`.scales.choose_scale` of float64 boxes (N, 4)."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    areas = (sides[:, 0] * sides[:, 1]).clamp(min=1)
    sizes = [scaled_size(image_size, scale) for scale in scales]
    side, pixels = CANONICAL[rule], image_size[0] * image_size[1]
    if rule == "area":
        distances = [(areas * (prod(size) / pixels) - side**2).abs() for size in sizes]
    else:
        wanted = torch.floor(side * min(image_size) / areas.sqrt() + 0.5)
        distances = [(min(size) - wanted).abs() for size in sizes]
    return torch.stack(distances, dim=1).argmin(dim=1)


def scale_boxes(boxes: Tensor, image_size: tuple[int, int], scaled: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) on a copy of the image of another size: :func:`.scales.scale_boxes` of float64 boxes."""
    factor_y, factor_x = ((new - 1) / max(old - 1, 1) for new, old in zip(scaled, image_size, strict=True))
    x1, y1, x2, y2 = boxes.T
    # Step by step as there, so that the last bits are the same.
    first = [(part + 1 - 1) * factor + 1 - 1 for part, factor in ((x1, factor_x), (y1, factor_y))]
    last = [(part - 1) * factor + 1 for part, factor in ((x2, factor_x), (y2, factor_y))]
    return torch.stack([*first, *last], dim=1)


def project(boxes: Tensor, map_size: tuple[int, int], stride: int, offset0: float, rule: CornerRule) -> Tensor:
    """Cells, int32 (N, 4), of float64 boxes (N, 4) of the scaled image: :func:`.projection.project`."""
    first, last = boxes[:, :2] + 1 - offset0, boxes[:, 2:] - offset0
    if rule == "paper":
        first, last = torch.floor(first / stride) + 1, torch.ceil(last / stride) - 1
    else:
        margin = default_offset(stride)
        first, last = torch.floor((first + margin) / stride + 0.5), torch.ceil((last - margin) / stride - 0.5)
    middle = torch.floor((first + last) / 2)
    inverted = first > last
    columns = [torch.where(inverted, middle, corner) for corner in (first, last)]
    height, width = map_size
    limited = [torch.stack([part[:, 0].clamp(0, width - 1), part[:, 1].clamp(0, height - 1)], 1) for part in columns]
    return torch.cat(limited, dim=1).int()
