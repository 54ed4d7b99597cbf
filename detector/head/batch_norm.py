"""The fc layers in the form in which they learn from nothing, with batch norms, and without them once they are done.

The paper's fc layers have none, and a large labelled set to learn from. On a few thousand photographs those that start
at random hardly learn: pooled rows are maxima of rectified maps, whose common mean is most of what they are. With
batch norms (Ioffe and Szegedy, ICML 2015) of the rows and of what fc6 and fc7 make of them the same network came to a
held-out accuracy of 0.225 on Caltech101 in five epochs, and without to 0.118 at most (112 pixels, one run each). They
are linear once learnt, and go into the weights of the layers beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .head import Head, factors

# Bins that hardly ever change must not be blown up.
_EPS = 1e-3


def learning_layers(head: Head, normalised: bool) -> nn.Sequential:
    """A head's fc6, fc7 and fc8 as layers (B, width_in) to (B, classes), which share its weights.

    Parameters
    ----------
    head : Head
        With plain (not factored) layers.
    normalised : bool
        With batch norms, for layers that start at random.
    """
    (fc6,), (fc7,), (fc8,) = (factors(layer) for layer in (head.fc6, head.fc7, head.fc8))
    layers: list[nn.Module] = [nn.BatchNorm1d(fc6.in_features, eps=_EPS, affine=False)] if normalised else []
    for layer in (fc6, fc7):
        norm = [nn.BatchNorm1d(layer.out_features)] if normalised else []
        layers += [layer, *norm, nn.ReLU(inplace=True), nn.Dropout(head.dropout)]
    return nn.Sequential(*layers, fc8)


@torch.no_grad()
def finished_head(layers: nn.Sequential) -> Head:
    """The head, in eval mode, that computes what :func:`learning_layers` have come to; nothing is shared.

    Batch norms go into the linear layer before them, or, the first one, after.
    """
    linear: list[tuple[Tensor, Tensor]] = []
    waiting: tuple[Tensor, Tensor] | None = None
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
            if waiting is not None:
                factor, shift = waiting
                weight, bias = weight * factor, bias + weight @ shift
            linear.append((weight, bias))
        elif isinstance(layer, nn.BatchNorm1d):
            factor, shift = _line(layer)
            if linear:
                weight, bias = linear[-1]
                linear[-1] = weight * factor[:, None], bias * factor + shift
                continue
            waiting = factor, shift
            continue
        waiting = None
    state = {"scale": torch.tensor(1.0, device=linear[0][0].device)}
    for name, (weight, bias) in zip(("fc6", "fc7", "fc8"), linear, strict=True):
        state |= {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
    return Head.from_state(state)


def _line(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and shift (width,) in double precision, of a batch norm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double() * factor
    return factor, shift + norm.bias.double() if norm.affine else shift
