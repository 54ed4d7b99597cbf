"""Scale, cells and pooled rows of windows whose boxes are on a GPU already; no window leaves it.

The formulas are those of :mod:`.scales` and :mod:`.projection`, in the same double precision, so windows have the same
cells. Only :func:`distinct` waits for the device, which counts the windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from ..options import CornerRule, ScaleRule
from .features import FeatureMaps, WindowFeatures, linear_scores
from .projection import default_offset
from .scales import CANONICAL, scaled_size


def locate(features: WindowFeatures, maps: FeatureMaps, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """:meth:`.features.WindowFeatures.locate` of boxes (N, 4), x1, y1, x2, y2 in pixels of the image, half-open.

    Returns
    -------
    scale : int64 tensor (N,)
        Index of each box's scale.
    cells : int32 tensor (N, 4 * grids)
        x0, y0, x1, y1 on each of that scale's maps, inclusive.
    """
    options, grids, exact = features.options, features.backbone.grids, boxes.double()
    scale = choose_scale(exact, maps.image_size, options.scales, options.scale_rule)
    of_scales = []
    for index, side in enumerate(options.scales):
        scaled = scale_boxes(exact, maps.image_size, scaled_size(maps.image_size, side))
        on_maps = [
            project(scaled, (one.shape[1], one.shape[2]), grid.stride, grid.offset0, options.projection_rule)
            for grid, one in zip(grids, maps.maps[index * len(grids) :], strict=False)
        ]
        of_scales.append(torch.cat(on_maps, dim=1))
    return scale, torch.stack(of_scales, dim=1)[torch.arange(len(boxes), device=boxes.device), scale]


def distinct(scale: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Join windows that are equal on the maps, as :attr:`.features.Cells.inverse` does.

    Parameters
    ----------
    scale, cells
        The result of :func:`locate`.

    Returns
    -------
    scale : int64 tensor (U,), ascending
    cells : int32 tensor (U, 4 * grids)
    inverse : int64 tensor (N,)
        Index of the distinct window of each given one.
    """
    joined, inverse = torch.cat([scale[:, None].int(), cells], dim=1).unique(dim=0, return_inverse=True)
    return joined[:, 0].long(), joined[:, 1:], inverse


def pooled_chunks(
    features: WindowFeatures, maps: FeatureMaps, scale: Tensor, cells: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """:meth:`.features.Features.pooled_chunks` of windows as :func:`locate` gives them, in the maps' precision."""
    for start in range(0, len(cells), features.chunk):
        part = slice(start, start + features.chunk)
        rows = torch.empty(len(cells[part]), features.pooled_width, dtype=maps.dtype, device=maps.device)
        yield part, features.pool_on_device(rows, maps, scale[part], cells[part])


def scores(features: WindowFeatures, maps: FeatureMaps, boxes: Tensor, weights: Tensor, intercepts: Tensor) -> Tensor:
    """Linear scores (N, classes) of boxes (N, 4): :meth:`.features.Features.scores`, from projection on."""
    scale, cells, inverse = distinct(*locate(features, maps, boxes))
    of_distinct = torch.empty(len(cells), len(weights), device=maps.device)
    with torch.inference_mode():
        for part, rows in pooled_chunks(features, features.for_layers(maps), scale, cells):
            of_distinct[part] = linear_scores(features.after_layers(rows), weights, intercepts)
    return of_distinct[inverse]


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
