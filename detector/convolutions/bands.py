"""Compute wide intermediate maps in bands that fit in the processor's cache.

An inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018) expands a thin map to several times its channels,
filters each channel and projects it back to a thin map. On a photograph of 688 x 917 pixels the widest expanded map
takes 60 MB: it is written, rectified and read again in the main memory. In bands of some rows it never leaves the
cache. The values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from .channels import is_pointwise

#: Expanded maps of fewer bytes are computed at once; larger ones in bands of about ``BAND`` bytes.
LARGE, BAND = 12e6, 3e6


class Banded(nn.Module):
    """Expansion (1 x 1), activation, depthwise convolution, activation and projection (1 x 1) in bands of rows.

    Parameters
    ----------
    expand, depthwise, project : nn.Conv2d
    first, second : nn.Module
        Activations, equal for all cells.
    """

    def __init__(
        self, expand: nn.Conv2d, first: nn.Module, depthwise: nn.Conv2d, second: nn.Module, project: nn.Conv2d
    ) -> None:
        super().__init__()
        self.expand, self.first, self.depthwise, self.second, self.project = expand, first, depthwise, second, project

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to the projected map."""
        height = features.shape[2]
        row = features[:, 0, 0].numel() * self.expand.out_channels * features.element_size()
        if features.device.type != "cpu" or height * row < LARGE:
            result: Tensor = self.project(self.second(self.depthwise(self.first(self.expand(features)))))
            return result
        layer = self.depthwise
        (kernel, _), (stride, _), (step, _) = layer.kernel_size, layer.stride, layer.dilation
        margin, side = (int(padding) for padding in layer.padding)
        reach = (kernel - 1) * step + 1
        rows = (height + 2 * margin - reach) // stride + 1
        band = max(1, int(BAND / row) // stride)
        parts = []
        for start in range(0, rows, band):
            end = min(start + band, rows)
            top, bottom = start * stride - margin, (end - 1) * stride - margin + reach
            first, last = max(top, 0), min(bottom, height)
            wide = self.first(self.expand(features[:, :, first:last]))
            # Rows beyond the map are zeros, as the convolution's own padding.
            wide = functional.pad(wide, (0, 0, first - top, bottom - last)) if (top, bottom) != (first, last) else wide
            wide = functional.conv2d(
                wide, layer.weight, layer.bias, layer.stride, (0, side), layer.dilation, layer.groups
            )
            parts.append(self.project(self.second(wide)))
        return torch.cat(parts, dim=2)


def band(network: fx.GraphModule) -> fx.GraphModule:
    """Replace the inverted residual blocks of a network with folded batch norms by :class:`Banded`, in place."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        chain = _chain(node, modules)
        if chain is None:
            continue
        path = str(chain[-1].target)
        network.set_submodule(path, Banded(*(modules[str(part.target)] for part in chain)))
        chain[-1].args = chain[0].args
        for part in reversed(chain[:-1]):
            network.graph.erase_node(part)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _chain(last: fx.Node, modules: dict[str, nn.Module]) -> list[fx.Node] | None:
    """The five nodes of an inverted residual block that ends in a projection; None if ``last`` is none."""
    chain: list[Any] = [last]
    while len(chain) < 5:
        before = chain[0].args[0] if chain[0].args else None
        if not isinstance(before, fx.Node) or len(before.users) != 1:
            return None
        chain.insert(0, before)
    if any(node.op != "call_module" for node in chain):
        return None
    expand, first, depthwise, second, project = (modules[str(node.target)] for node in chain)
    pointwise = all(is_pointwise(layer) for layer in (expand, project))
    own = isinstance(depthwise, nn.Conv2d) and depthwise.groups == depthwise.in_channels == depthwise.out_channels
    even = all(isinstance(layer, nn.ReLU | nn.ReLU6 | nn.Hardswish | nn.SiLU) for layer in (first, second))
    return chain if pointwise and own and even else None
