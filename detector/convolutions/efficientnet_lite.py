"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019) without what is slow on small processors.

Stages, kernels and widths are those of EfficientNet-B0 (table 1), scaled by two factors. There are no
squeeze-and-excitation gates, ReLU6 takes the place of swish, and neither the stem, the head nor the depths of the first
and last stage are scaled (Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020).
Pretrained weights are in packages of others; :func:`convert` gives them the names of our network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ...data.errors import InputError
from .normalisation import MEAN, STD

#: Stages of EfficientNet-B0: blocks, kernel, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class InvertedResidual(nn.Module):
    """Expansion by a 1 x 1 convolution, depthwise convolution, projection, and a shortcut where the shape stays.

    Parameters
    ----------
    width_in, width : int
        Channels before and after.
    kernel, stride : int
        Of the depthwise convolution.
    expansion : int
        Factor on the channels for the depthwise convolution; 1 leaves the expansion out.
    """

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expand = _convolution(width_in, inner, 1) if expansion > 1 else nn.Sequential()
        self.depthwise = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, width, 1)[:2]
        self.has_shortcut = stride == 1 and width_in == width

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, width_in, h, w) to (B, width, ceil(h / stride), ceil(w / stride))."""
        changes: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + changes if self.has_shortcut else changes


class EfficientNetLite(nn.Module):
    """The whole classifier of 1,000 classes: stride 32 at its last map, 1,280 channels.

    Padding is symmetric, so that the first cell is centred on the first pixel whatever the size of the image.
    TensorFlow, where the weights come from, pads images of even size only at the right and bottom.

    Initial weights come from the global generator, as in :mod:`torch.nn`: normal, with the variance that keeps
    gradients similar in all layers (He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.2).

    Parameters
    ----------
    width, depth : float
        Factors on the channels and on the number of blocks of B0's stages, from 1 up.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, _STEM, 3, 2)]
        width_in = _STEM
        for number, (blocks, kernel, stride, expansion, channels) in enumerate(_STAGES):
            width_out = _scaled_width(channels, width)
            repeats = blocks if number in (0, len(_STAGES) - 1) else math.ceil(blocks * depth)
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                layers.append(InvertedResidual(width_in, width_out, kernel, first, expansion))
                width_in = width_out
        layers.append(_convolution(width_in, _HEAD, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_HEAD, _CLASSES)
        for module in self.modules():
            # Tensors on the meta device have no values, and filling them would make torch load its compiler.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                outputs = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the scores (B, 1000) of images (B, 3, H, W)."""
        scores: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return scores


def _convolution(width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width, eps=1e-3),
        nn.ReLU6(inplace=True),
    )


def _scaled_width(channels: int, factor: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths of the scaled channels."""
    scaled = channels * factor
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * scaled else nearest + 8


#: Networks by their names in :class:`.backbone.Backbone`.
NETWORKS: dict[str, Callable[[], EfficientNetLite]] = {
    "efficientnet_lite0": partial(EfficientNetLite, 1.0, 1.0),
    "efficientnet_lite1": partial(EfficientNetLite, 1.0, 1.1),
    "efficientnet_lite2": partial(EfficientNetLite, 1.1, 1.2),
}
#: Side of the square images that each was trained on, pixels.
INPUT_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}

#: Parts of a block, ours by those of the packages.
_PARTS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


def is_packaged(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the packages' names and not ours."""
    return "_conv_stem.weight" in state


def convert(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Rename the tensors of the packages, and let the network take images of :mod:`.normalisation`.

    The packages' weights take (x - 127) / 128 of the values x from 0 to 255. This change of the normalisation is
    folded into the first convolution and the batch norm behind it. That is exact except at the image's edge, where the
    padding's zeros stand for another grey.

    Parameters
    ----------
    state : mapping of tensors
        Is not changed.
    origin : str
        Its name in messages.

    Raises
    ------
    InputError
        For tensors that EfficientNet-Lite does not have, such as the gates of EfficientNet.
    """
    numbers = [int(found[1]) for key in state if (found := re.match(r"_blocks\.(\d+)\.", key))]
    # Ours counts the stem and the head as well.
    outside = {"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_fc": "classifier"}
    outside |= {name: f"features.{max(numbers, default=-1) + 2}.{i}" for i, name in enumerate(("_conv_head", "_bn1"))}
    renamed, unknown = {}, []
    for key, value in state.items():
        found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", key)
        number, part, kind = found.groups() if found else (None, "", "")
        if part not in (outside if number is None else _PARTS):
            unknown.append(key)
        else:
            place = outside[part] if number is None else f"features.{int(number) + 1}.{_PARTS[part]}"
            renamed[f"{place}.{kind}"] = value
    if unknown:
        more = ", ..." if len(unknown) > 4 else ""
        raise InputError(
            f"{origin}: {len(unknown)} tensors are not EfficientNet-Lite's: {', '.join(unknown[:4])}{more}"
        )
    return _fold_normalisation(renamed)


def _fold_normalisation(state: dict[str, Tensor]) -> dict[str, Tensor]:
    weight, mean = state["features.0.0.weight"], state.get("features.0.1.running_mean")
    if weight.shape[1:] != (3, 3, 3) or mean is None or mean.shape != weight.shape[:1]:
        return state  # does not fit anyway, as whoever loads it will say
    # x = 255 (std n + mean), where n is what our networks take; in double precision, to be rounded once.
    filters, ours, spread = weight.double(), torch.tensor(MEAN).double(), torch.tensor(STD).double()
    constant = torch.einsum("ochw,c->o", filters, (255 * ours - 127) / 128)
    folded = filters * (255 * spread / 128)[:, None, None]
    return state | {
        "features.0.0.weight": folded.float(),
        "features.0.1.running_mean": (mean.double() - constant).float(),
    }
