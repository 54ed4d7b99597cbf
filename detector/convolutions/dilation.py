"""Turn strides of a network into dilations, so that its last map is as fine as an earlier one.

As in DeepLab (Chen et al., PAMI 2018, "atrous convolution") and torchvision's ``replace_stride_with_dilation``: a layer
loses its stride, and in exchange later layers skip cells. If it lost a stride of two, every second cell in both
directions has the value that the network computes with the stride, and the cells between them are new. Only gates that
see the mean of the whole map (squeeze-and-excitation) then see the mean of more cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional

from .receptive_field import Grid

Pair = tuple[int, int]

#: Pooling functions: the module that does the same, and the function's arguments after the map, in order.
_POOLS: dict[Any, tuple[Any, tuple[str, ...]]] = {
    functional.max_pool2d: (
        nn.MaxPool2d,
        ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    ),
    functional.avg_pool2d: (
        nn.AvgPool2d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
}


def dilate(network: fx.GraphModule, grids: Mapping[fx.Node, Grid], limit: int) -> int:
    """Change the layers of a network in place so that none of its maps has a stride beyond ``limit``.

    A layer for which this is impossible stays as it is. The grids show it: if all layers could be changed, the centres
    and sizes of the receptive fields are those from before.

    Parameters
    ----------
    network : fx.GraphModule
        Made of layers of torch.nn.
    grids : mapping
        Grid of each node of the network as it is.
    limit : int
        Pixels, at least 1.

    Returns
    -------
    int
        The largest stride now: the largest one up to ``limit`` that the network had.
    """
    strides = {node: round(max(grid.stride)) for node, grid in grids.items()}
    kept = max((stride for stride in strides.values() if stride <= limit), default=1)
    for node, stride in strides.items():
        layer = sliding(network, node)
        if layer is None or stride <= limit:
            continue
        source = strides.get(node.all_input_nodes[0], 1)
        changed = _without_stride(layer, max(1, source // kept), lost=stride // source)
        if node.op == "call_module":
            network.set_submodule(str(node.target), changed)
        elif isinstance(changed, DilatedPool):
            node.target, node.args, node.kwargs = changed.pool, node.args[:1], changed.arguments
    network.recompile()
    return kept


def sliding(network: fx.GraphModule, node: fx.Node) -> nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | None:
    """The convolution or pooling of a node; for a pooling function a module that does the same."""
    if node.op == "call_module":
        layer = network.get_submodule(str(node.target))
        return layer if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) else None
    if node.op != "call_function" or node.target not in _POOLS:
        return None
    pool, names = _POOLS[node.target]
    made: nn.MaxPool2d | nn.AvgPool2d = pool(**dict(zip(names, node.args[1:], strict=False)), **node.kwargs)
    return made


def _without_stride(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, dilation: int, lost: int) -> nn.Module:
    """The layer with stride 1 and the cells of its window ``dilation`` times as far apart.

    A convolution is changed in place. A pooling whose result would be another one is returned as it is.
    """
    if isinstance(layer, nn.Conv2d):
        layer.stride, layer.dilation = (1, 1), _times(layer.dilation, dilation)
        if not isinstance(layer.padding, str):  # "same" and "valid" follow from the rest
            layer.padding = _times(layer.padding, dilation)
        return layer
    if isinstance(layer, nn.AvgPool2d) and (
        (layer.ceil_mode and lost > 1)
        or (max(_times(layer.padding, 1)) and not layer.count_include_pad)
        or layer.divisor_override is not None
    ):
        return layer
    return DilatedPool(layer, dilation, lost)


class DilatedPool(nn.Module):
    """Max or average pooling with stride 1 that skips cells between those of its window.

    torch averages only adjacent cells, and allows its maxima less padding than such a window needs.

    Parameters
    ----------
    layer : nn.MaxPool2d or nn.AvgPool2d
        The pooling without skipped cells. An average counts the padding.
    dilation : int
        Cells from one cell of the window to the next.
    lost : int
        The stride of ``layer``; 1 if it had none.
    """

    def __init__(self, layer: nn.MaxPool2d | nn.AvgPool2d, dilation: int, lost: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "kernel_size": _times(layer.kernel_size, 1),
            "padding": _times(layer.padding, dilation),
            "dilation": (dilation, dilation),
        }
        if isinstance(layer, nn.AvgPool2d):
            self.pool = dilated_average
        else:
            self.pool = dilated_maximum
            self.arguments["dilation"] = _times(layer.dilation, dilation)
            # With ceil_mode the last window may reach beyond the map, by less than a stride.
            self.arguments["beyond"] = (lost - 1) * dilation if layer.ceil_mode else 0

    def forward(self, features: Tensor) -> Tensor:
        """Pool features (B, C, H, W)."""
        return self.pool(features, **self.arguments)


def dilated_average(features: Tensor, kernel_size: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Averages of features (B, C, H, W) over windows that skip cells: a convolution of each channel."""
    channels, (height, width) = features.shape[1], kernel_size
    weights = features.new_full((channels, 1, height, width), 1 / (height * width))
    return functional.conv2d(features, weights, None, 1, padding, dilation, channels)


def dilated_maximum(features: Tensor, kernel_size: Pair, padding: Pair, dilation: Pair, beyond: int = 0) -> Tensor:
    """Maxima of features (B, C, H, W) over windows that skip cells.

    The padding never wins. There are ``beyond`` cells of it in addition at the right and at the bottom.
    """
    top, left = padding
    if top or left or beyond:
        edges = (left, left + beyond, top, top + beyond)
        features = functional.pad(features, edges, value=float("-inf"))
    return functional.max_pool2d(features, kernel_size, 1, 0, dilation)


def _times(value: int | tuple[int, ...], factor: int) -> Pair:
    pair = value if isinstance(value, tuple) else (value, value)
    return pair[0] * factor, pair[-1] * factor
