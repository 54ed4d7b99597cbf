"""Small networks of our own, to be trained from random weights on a laptop.

Residual networks of basic blocks (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 3.3
and figure 5, left), small enough for a few thousand training photographs. Their 3 x 3 convolutions are dense:
depthwise convolutions need fewer operations but are slower on a CPU, because they leave its arithmetic units idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut around them, which is a 1 x 1 convolution if the shape changes.

    At first only the shortcut is active: the factors of the second batch norm start at zero (Goyal et al., "Accurate,
    Large Minibatch SGD", 2017, section 5.1), so training can start with large steps.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or width_in != width:
            self.shortcut.append(nn.Conv2d(width_in, width, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))
        self.relu2 = nn.ReLU(inplace=True)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, width_in, h, w) to (B, width, ceil(h / stride), ceil(w / stride))."""
        changes = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(features)))))
        result: Tensor = self.relu2(changes + self.shortcut(features))
        return result


class CompactNet(nn.Module):
    """The convolutional part: stride 16, and at least one cell for an image of any size.

    Initial weights come from the global generator, as in :mod:`torch.nn`: normal, with the variance that keeps
    gradients similar in all layers (He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.2).

    Parameters
    ----------
    widths : four int
        Channels of the stem, a convolution of stride 2, and of each stage.
    depths : three int
        Blocks of each stage, at least one; the first has stride 2.
    expanded : int, optional
        Channels after an additional 1 x 1 convolution of the last stage.
    projected : int, optional
        Channels of the map after a last 1 x 1 convolution, without an activation: values of both signs, like principal
        components.

    Raises
    ------
    ValueError
        When there are not four widths and three depths, or a number is below 1.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        expanded: int | None = None,
        projected: int | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or len(depths) != 3 or min(*widths, *depths) < 1:
            raise ValueError(f"expected four widths and three depths from 1 up, not {widths} and {depths}")
        if any(width is not None and width < 1 for width in (expanded, projected)):
            raise ValueError(f"expected one channel or more in the last layers, not {expanded} and {projected}")
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for width_in, width, depth in zip(widths[:-1], widths[1:], depths, strict=True):
            layers.append(BasicBlock(width_in, width, stride=2))
            layers.extend(BasicBlock(width, width, stride=1) for _ in range(depth - 1))
        if expanded is not None:
            layers.append(nn.Conv2d(widths[-1], expanded, 1, bias=False))
            layers.append(nn.BatchNorm2d(expanded))
            layers.append(nn.ReLU(inplace=True))
        if projected is not None:
            layers.append(nn.Conv2d(expanded or widths[-1], projected, 1))
        self.features = nn.Sequential(*layers)
        for module in self.modules():
            # Tensors on the meta device have no values, and filling them would make torch load its compiler.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map (B, C, ceil(H / 16), ceil(W / 16)) of images (B, 3, H, W)."""
        features: Tensor = self.features(images)
        return features


# Widths are multiples of 16, the number of single-precision values in an AVX-512 register: with 24 channels in the
# stem instead of 32 an image takes longer.
def small() -> CompactNet:
    """Network of about one million weights."""
    return CompactNet((16, 48, 96, 160), (1, 1, 2))


def medium() -> CompactNet:
    """Network of about three million weights."""
    return CompactNet((32, 64, 128, 288), (1, 1, 2))


def student() -> CompactNet:
    """Network of about 2.8 million weights, for distillation from MobileNetV2 (:mod:`sppnet.detector.distillation`).

    Its map has the 576 channels of MobileNetV2's ``features.14.conv.0`` and a similar receptive field (279 pixels
    instead of 267), which takes two more blocks in the last stage.
    """
    return CompactNet((16, 48, 96, 192), (1, 1, 4), expanded=576)


def small_student() -> CompactNet:
    """Like :func:`student`, with about one million weights, for objects that differ in colour and texture."""
    return CompactNet((16, 32, 64, 112), (1, 1, 4), expanded=576)


def student_480() -> CompactNet:
    """Network of about 3.1 million weights, for distillation from EfficientNet-Lite.

    Its map has the 480 channels that principal components leave of the teacher's two maps.
    """
    return CompactNet((16, 48, 96, 192), (1, 1, 4), expanded=576, projected=480)


def small_student_480() -> CompactNet:
    """Like :func:`student_480`, with 1.2 million weights, for objects that differ in colour and texture."""
    return CompactNet((16, 32, 64, 112), (1, 1, 4), expanded=384, projected=480)


#: Networks by their names in :class:`.backbone.Backbone`.
NETWORKS: dict[str, Callable[[], CompactNet]] = {
    "sppnet_small": small,
    "sppnet_medium": medium,
    "sppnet_student": student,
    "sppnet_student_small": small_student,
    "sppnet_student_480": student_480,
    "sppnet_student_small_480": small_student_480,
}
