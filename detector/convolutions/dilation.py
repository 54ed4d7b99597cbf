"""Turn the strides of a network into dilations, so that its last map is as fine as an earlier one.

As in DeepLab (Chen et al., PAMI 2018, "atrous convolution") and torchvision's ``replace_stride_with_dilation``: a layer
loses its stride, and later layers skip cells in exchange. Every second cell (in both directions, for a stride of two)
then has the value that the network computes without dilations, and the cells between them are new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional

from ...data.errors import InputError
from .receptive_field import Grid

#: Pooling functions, and the modules that take the same arguments.
_POOLS: dict[Any, type[nn.MaxPool2d | nn.AvgPool2d]] = {
    functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool2d: nn.AvgPool2d,
}


def dilate(name: str, whole: fx.GraphModule, grids: Mapping[fx.Node, Grid], limit: int) -> bool:
    """Limit the strides of a network in place; returns whether there was something to change.

    Parameters
    ----------
    name : str
        The network's name, for messages.
    whole : fx.GraphModule
        Its layers and pooling functions are changed.
    grids : mapping
        Grid of each node of the network as it is.
    limit : int
        Largest stride of a map afterwards, in pixels.

    Raises
    ------
    InputError
        For a layer whose stride cannot become a dilation.
    """
    changed = False
    for node in list(whole.graph.nodes):
        source = next((grids[before] for before in node.all_input_nodes if before in grids), None)
        if source is None or node not in grids or max(grids[node].stride) <= limit:
            continue
        stride = round(max(source.stride))
        for path, layer in slides(whole, node):
            after = stride * _first(layer.stride)
            spread = _spread(layer, min(after, limit) // min(stride, limit), max(1, stride // limit))
            if path:
                whole.set_submodule(path, spread)
            else:
                _call(node, spread)
            stride, changed = after, True
        if stride != round(max(grids[node].stride)):
            raise InputError(
                f"the stride of '{node.target}' in {name} cannot become a dilation; the whole network has "
                f"stride {round(max(grids[node].stride))} (--stride)"
            )
    whole.recompile()
    return changed


def slides(whole: fx.GraphModule, node: fx.Node) -> list[tuple[str, Any]]:
    """The convolutions and poolings of a node in order, with their paths; '' for a pooling function."""
    if node.op == "call_module":
        path = str(node.target)
        inside = whole.get_submodule(path).named_modules(prefix=path)
        return [(key, part) for key, part in inside if isinstance(part, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    pool = _POOLS.get(node.target) if node.op == "call_function" else None
    return [] if pool is None else [("", pool(*node.args[1:], **node.kwargs))]


def _spread(layer: Any, stride: int, dilation: int) -> nn.Module:
    """The layer with another stride, its cells ``dilation`` times as far apart; changed in place if possible."""
    layer.stride = stride, stride
    if dilation == 1:
        spread: nn.Module = layer
    elif isinstance(layer, nn.Conv2d):
        layer.padding, layer.dilation = _times(layer.padding, dilation), _times(layer.dilation, dilation)
        spread = layer
    else:
        spread = DilatedPool(layer, dilation)
    return spread


class DilatedPool(nn.Module):
    """Max or average pooling that skips cells between those of its window.

    torch averages only adjacent cells, and allows its maxima less padding than a dilated window needs.
    """

    def __init__(self, layer: nn.MaxPool2d | nn.AvgPool2d, dilation: int) -> None:
        super().__init__()
        averages = isinstance(layer, nn.AvgPool2d)
        padding = _times(layer.padding, dilation)
        if averages and max(padding) and not layer.count_include_pad:
            raise InputError("an average that leaves out the padding cannot be dilated; use the network's own stride")
        self.pool = dilated_average if averages else dilated_maximum
        self.arguments = {
            "kernel_size": _times(layer.kernel_size, 1),
            "stride": layer.stride,
            "padding": padding,
            "dilation": dilation if averages else _times(layer.dilation, dilation),
        }

    def forward(self, features: Tensor) -> Tensor:
        """Pool features (B, C, H, W)."""
        return self.pool(features, **self.arguments)


def dilated_average(
    features: Tensor, kernel_size: tuple[int, int], stride: Any, padding: tuple[int, int], dilation: Any
) -> Tensor:
    """Averages of features (B, C, H, W) over windows that skip cells: a convolution of each channel."""
    channels, (height, width) = features.shape[1], kernel_size
    weights = features.new_full((channels, 1, height, width), 1 / (height * width))
    return functional.conv2d(features, weights, None, stride, padding, dilation, channels)


def dilated_maximum(
    features: Tensor, kernel_size: tuple[int, int], stride: Any, padding: tuple[int, int], dilation: Any
) -> Tensor:
    """Maxima of features (B, C, H, W) over windows that skip cells; the padding never wins."""
    (top, left), nothing = padding, float("-inf")
    padded = functional.pad(features, (left, left, top, top), value=nothing)
    return functional.max_pool2d(padded, kernel_size, stride, 0, dilation)


def _call(node: fx.Node, layer: Any) -> None:
    """Let the node of a pooling function do what ``layer`` does."""
    if isinstance(layer, DilatedPool):
        node.target, arguments = layer.pool, layer.arguments
    else:
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        arguments = {key: getattr(layer, key) for key in names}
    node.args, node.kwargs = node.args[:1], arguments


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _times(value: Any, factor: int) -> tuple[int, int]:
    pair = value if isinstance(value, tuple) else (value, value)
    return pair[0] * factor, pair[1] * factor
