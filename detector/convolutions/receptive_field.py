"""Positions of feature-map cells in the image, computed from the parameters of the layers.

Each tensor computed from the image has a grid: the dimensions of rows and columns, the
stride in pixels, and the receptive-field centre and size of the first cell. A layer with
kernel k, stride s, padding p and dilation d turns stride S, centre c and size r into
``s S``, ``c + ((k - 1) d / 2 - p) S`` and ``r + (k - 1) d S``. All other operations keep the
grid or lose it. Operations are intercepted below torch's modules and functions, so the way
a network is written does not matter; on the meta device nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
Pair = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """Cells of a tensor and their positions; pairs are (y, x), pixels 0-based with pixel i centred at i.

    Attributes
    ----------
    cells : (int, int)
        Rows and columns.
    axis : int or None
        The dimension of the rows, followed by the columns; None while the grid is flattened, as
        temporarily in a linear layer over a channel-last map.
    stride, centre, extent : pair of float
        Pixels between cells; receptive-field centre of the first cell; receptive-field size.
    """

    cells: tuple[int, int]
    axis: int | None
    stride: Pair = (1.0, 1.0)
    centre: Pair = (0.0, 0.0)
    extent: Pair = (1.0, 1.0)


class GridTracker(TorchDispatchMode):
    """Torch mode that tracks the grids of tensors computed from a watched image."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; otherwise torch loads its compiler, which takes longer than the whole analysis."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self._grids = WeakTensorKeyDictionary()

    def watch(self, images: Tensor) -> None:
        """Follow ``images`` (B, C, H, W)."""
        self._grids[images] = Grid((images.shape[2], images.shape[3]), 2)

    def grid(self, tensor: Any) -> Grid | None:
        """The grid of a tensor; None if it has none or a flattened one."""
        found = self._grids.get(tensor) if isinstance(tensor, Tensor) else None
        return found if found is not None and found.axis is not None else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _run(func, args, kwargs or {})
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for output in tree_leaves(result):
            if isinstance(output, Tensor):
                grid = self._follow(func.overloadpacket, args, inputs, output)
                if grid is None:
                    self._grids.pop(output, None)
                else:
                    self._grids[output] = grid
        return result

    def _follow(self, op: Any, args: Any, inputs: list[Tensor], output: Tensor) -> Grid | None:
        if op is aten.convolution:
            weight, transposed = args[1], args[6]
            kernel, stride, padding, dilation = weight.shape[2:], args[3], args[4], args[5]
            return None if transposed else self._slide(args[0], output, kernel, stride, padding, dilation)
        if op in (aten.max_pool2d_with_indices, aten.max_pool2d, aten.avg_pool2d):
            _, kernel, stride, padding, dilation = (*args, *[[]] * 4)[:5]
            # avg_pool2d's fifth argument is ceil_mode: it has no dilation.
            spread = (1,) if op is aten.avg_pool2d or not dilation else dilation
            return self._slide(args[0], output, kernel, stride or kernel, padding or (0,), spread)
        if op is aten.constant_pad_nd and len(args[1]) == 4:
            return self._pad(args[0], output, args[1])
        return self._inherit(inputs, output)

    def _pad(self, source: Tensor, output: Tensor, padding: Any) -> Grid | None:
        """The grid with more cells at the edges of the last two dimensions."""
        grid = self.grid(source)
        if grid is None or grid.axis != output.ndim - 2:
            return None
        (sy, sx), (cy, cx) = grid.stride, grid.centre
        left, _, top, _ = padding
        return replace(grid, cells=(output.shape[-2], output.shape[-1]), centre=(cy - top * sy, cx - left * sx))

    def _slide(self, source: Tensor, output: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
        """The grid after a sliding window over the last two dimensions."""
        grid = self.grid(source)
        if grid is None or output.ndim != 4 or grid.axis != 2:
            return None
        reach = [(k - 1) * d for k, d in zip(_pair(kernel), _pair(dilation), strict=True)]
        paddings, strides = _pair(padding), _pair(stride)
        (sy, sx), (cy, cx), (ey, ex) = grid.stride, grid.centre, grid.extent
        return Grid(
            cells=(output.shape[2], output.shape[3]),
            axis=2,
            stride=(sy * strides[0], sx * strides[1]),
            centre=(cy + (reach[0] / 2 - paddings[0]) * sy, cx + (reach[1] / 2 - paddings[1]) * sx),
            extent=(ey + reach[0] * sy, ex + reach[1] * sx),
        )

    def _inherit(self, inputs: list[Tensor], output: Tensor) -> Grid | None:
        """The grid after an operation that is equal for all cells, or that only moves dimensions."""
        grids = [grid for grid in (self._grids.get(tensor) for tensor in inputs) if grid is not None]
        # A whole map and a flattened one (a gate computed from means): use the cells of the map.
        grids = [grid for grid in grids if grid.axis is not None] or grids
        if not grids:
            return None
        if len({(grid.cells, grid.stride, grid.centre) for grid in grids}) > 1:
            return None
        extent = max(grid.extent[0] for grid in grids), max(grid.extent[1] for grid in grids)
        return replace(grids[0], axis=_find(grids[0].cells, output.shape), extent=extent)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run ``func``; for the common operations on the meta device compute only the shapes.

    Torch's own shape rules for these are written in Python and first load its compiler, which takes two seconds.
    """
    op = func.overloadpacket
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not inputs or not all(tensor.is_meta for tensor in inputs):
        return func(*args, **kwargs)
    if op is aten.convolution and args[0].ndim == 4 and not args[6]:
        image, weight = args[:2]
        slides = zip(image.shape[2:], weight.shape[2:], *map(_pair, args[3:6]), strict=True)
        cells = [(side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in slides]
        return image.new_empty(image.shape[0], weight.shape[0], *cells)
    if op is aten.native_batch_norm:
        return tuple(args[0].new_empty(shape) for shape in (args[0].shape, 0, 0))
    if op is aten.addmm:
        return args[0].new_empty(args[1].shape[0], args[2].shape[1])
    if func is aten.mean.dim and args[1]:
        keepdim = len(args) > 2 and args[2]
        gone = {axis % args[0].ndim for axis in args[1]}
        sides = [1 if axis in gone else side for axis, side in enumerate(args[0].shape) if keepdim or axis not in gone]
        return args[0].new_empty(sides)
    # torch 2.11 does not say so of ReLU6's.
    if torch.Tag.pointwise in func.tags or op is aten.hardtanh_:
        if func._schema.is_mutable:  # in place, as ReLU6 mostly is
            return inputs[0]
        return inputs[0].new_empty(np.broadcast_shapes(*(tensor.shape for tensor in inputs)))
    return func(*args, **kwargs)


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,)
    return (values[0], values[-1])


def _find(cells: tuple[int, int], shape: torch.Size) -> int | None:
    """The dimension at which ``cells`` occur in a shape.

    Unique if the image is large and not square; see :data:`PROBE_SIZE`.
    """
    places: Iterator[int] = (axis for axis in range(len(shape) - 1) if tuple(shape[axis : axis + 2]) == cells)
    return next(places, None)


PROBE_SIZE = (416, 608)
"""Height and width of the image used to analyse networks: 26 x 38 cells at stride 16, 13 x 19 at 32."""
