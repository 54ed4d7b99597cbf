"""Initialise fc layers from the pretrained classifier of the backbone's network (AlexNet, VGG)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...data.errors import InputError
from ..convolutions.backbone import Backbone
from ..convolutions.networks import build_without_values
from ..convolutions.truncation import Cut
from ..convolutions.weights import read_weights
from ..pooling.levels import bins
from .head import Head, random_layer


def start_from_classifier(
    backbone: Backbone | Cut,
    weights: str | Path | Mapping[str, Tensor],
    levels: Sequence[int],
    classes: int,
    dropout: float = 0.5,
    seed: int = 0,
    background: bool = True,
) -> Head | None:
    """Create a head from the pretrained classifier of a backbone's network, or None if it has none.

    The input of AlexNet's and VGG's first fc layer is one fixed map of n x n cells. Its weights go to the block of
    level n of the pyramid, other blocks get zeros. So the head computes the same as the classifier, except for the
    pooling: maxima over adaptive bins instead of the network's last pooling (equal for AlexNet's 13 x 13 cells and
    VGG's 14 x 14). fc7 is copied; fc8 is new.

    Parameters
    ----------
    backbone : Backbone or Cut
        The result is None unless its map is the default one, the input of the classifier.
    weights
        As in :class:`.backbone.Backbone`; the result is None without pretrained weights ("none", or a state without
        the classifier). Training the head does not change given tensors.
    levels : sequence of int
        Pyramid levels.
    classes : int
    dropout, seed, background
        As in :class:`Head`.

    Raises
    ------
    InputError
        When the pyramid has no level of the classifier's size, or the classifier's tensors have other shapes.
    """
    name, channels = backbone.name, backbone.channels
    found = None if weights == "none" or not backbone.feeds_classifier else _classifier(name, channels)
    if found is None:
        return None
    (fc6, fc7), n = found
    if n not in levels:
        example = ",".join(str(level) for level in [*levels[:-1], n])
        raise InputError(
            f"{name}'s fc layers take {n} x {n} bins, the pyramid {','.join(map(str, levels))} has no level {n}; "
            f"give it one, such as {example}"
        )
    origin, state = read_weights(name, weights, seed)
    names = [f"{fc}.{kind}" for fc in (fc6, fc7) for kind in ("weight", "bias")]
    if not any(key in state for key in names):
        return None
    given, bias6, weight7, bias7 = _pretrained(origin, state, names, channels * n * n)
    start = channels * sum(level * level for level in levels[: levels.index(n)])
    embedded = torch.zeros(len(given), channels * bins(levels))
    # torchvision flattens (C, n, n); in our rows the channels of a bin are adjacent.
    block = given.reshape(len(given), channels, n, n).permute(0, 2, 3, 1).flatten(1)
    embedded[:, start : start + block.shape[1]] = block
    fc8 = random_layer(len(weight7), classes + int(background), torch.Generator().manual_seed(seed), deviation=0.01)
    head = Head.from_state(
        {
            "scale": torch.tensor(1.0),
            "fc6.weight": embedded,
            "fc6.bias": bias6,
            "fc7.weight": weight7,
            "fc7.bias": bias7,
            "fc8.weight": fc8.weight.detach(),
            "fc8.bias": fc8.bias.detach(),
        }
    )
    head.dropout, head.pretrained = dropout, True
    return head.requires_grad_(True)


def _pretrained(origin: str, state: Mapping[str, Tensor], names: list[str], inputs: int) -> list[Tensor]:
    """Copy the weights and biases of fc6 and fc7 in single precision, and check that they fit together."""
    missing = [key for key in names if key not in state]
    if missing:
        raise InputError(f"{origin}: {len(missing)} of the classifier's tensors are missing: {', '.join(missing)}")
    width6, width7 = (len(state[key]) for key in names[::2])
    for key, shape in zip(names, [(width6, inputs), (width6,), (width7, width6), (width7,)], strict=True):
        if state[key].shape != shape:
            raise InputError(f"{origin}: {key} is {tuple(state[key].shape)}, expected {shape}")
    return [state[key].detach().to("cpu", torch.float32, copy=True) for key in names]


def _classifier(name: str, channels: int) -> tuple[tuple[str, str], int] | None:
    """Names of a network's two fc layers before the last, and n of the n x n input cells of the first."""
    linear = [(key, part) for key, part in build_without_values(name).named_modules() if isinstance(part, nn.Linear)]
    if len(linear) < 3:
        return None
    (fc6, first), (fc7, second), (_, third) = linear[-3:]
    n = round((first.in_features / channels) ** 0.5)
    chained = second.in_features == first.out_features and third.in_features == second.out_features
    return ((fc6, fc7), n) if chained and n > 1 and channels * n * n == first.in_features else None
