"""The last product of a map's channels: the network's last 1 x 1 convolution and the reduction, as one."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn


def split_last(network: fx.GraphModule) -> tuple[nn.Module, ...]:
    """Take the 1 x 1 convolutions at the very end of a network's outputs off it, in place.

    Parameters
    ----------
    network : GraphModule
        With folded batch norms; one output, or a tuple of them.

    Returns
    -------
    tuple of modules
        For each output what is still to do: the convolution, or the identity.
    """
    modules = dict(network.named_modules())
    output = next(node for node in network.graph.nodes if node.op == "output")
    ends = output.args[0] if isinstance(output.args[0], tuple | list) else (output.args[0],)
    lasts: list[nn.Module] = []
    for end in ends:
        layer = modules.get(str(end.target)) if end.op == "call_module" else None
        if is_pointwise(layer) and len(end.users) == 1:
            lasts.append(layer)
            end.replace_all_uses_with(end.args[0])
            network.graph.erase_node(end)
        else:
            lasts.append(nn.Identity())
    network.delete_all_unused_submodules()
    network.recompile()
    return tuple(lasts)


def is_pointwise(layer: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether a layer multiplies the channels of each cell by one matrix."""
    return isinstance(layer, nn.Conv2d) and (layer.kernel_size, layer.stride, layer.groups, layer.padding) == (
        (1, 1),
        (1, 1),
        1,
        (0, 0),
    )


class Reduced(nn.Module):
    """What is still to do for a map, and its reduction.

    Two linear steps are one, and a channel that is another's negative is copied: of a student's map of 480 channels and
    239 components with both signs, 239 of 958 products of a cell are left.

    Parameters
    ----------
    last : nn.Module
        From :func:`split_last`.
    values : tensor
        A matrix (channels, fewer channels) or a factor, as :func:`.reduction.learn_reduction` finds them.
    """

    def __init__(self, last: nn.Module, values: Tensor) -> None:
        super().__init__()
        self.last, self.factor, self.negatives = last, None, 0
        if values.ndim == 0:
            self.factor = float(values)
            return
        half = values.shape[1] // 2
        signed = half > 0 and torch.equal(values[:, -half:], -values[:, :half])
        self.negatives = half if signed else 0
        self.last = _followed_by(last, values[:, : values.shape[1] - self.negatives])

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) of the network, which lack :attr:`last`, to the reduced map; float32."""
        features = self.last(features).float()
        if self.factor is not None:
            # A factor rounded to bfloat16 would scale the whole map by up to 0.4 % too much or too little.
            return features * self.factor
        return torch.cat([features, -features[:, : self.negatives]], dim=1) if self.negatives else features


def _followed_by(last: nn.Module, matrix: Tensor) -> nn.Conv2d:
    """The 1 x 1 convolution that does what ``last`` and a product with a matrix (channels, fewer channels) do."""
    weights, bias, dtype = matrix.double().T, None, matrix.dtype
    if isinstance(last, nn.Conv2d):
        if last.bias is not None:
            bias = (weights @ last.bias.double()).to(last.bias.dtype)
        weights, dtype = weights @ last.weight.flatten(1).double(), last.weight.dtype
    layer = nn.Conv2d(weights.shape[1], weights.shape[0], 1, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(
        weights.to(dtype)[:, :, None, None].contiguous(memory_format=torch.channels_last), False
    )
    if bias is not None:
        layer.bias = nn.Parameter(bias, False)
    return layer
