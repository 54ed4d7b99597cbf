"""ZF-5, the paper's main network: Zeiler and Fergus's "fast" model in five convolutions (section 3.1.1, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class WithinChannelNorm(nn.Module):
    """Local response normalisation inside each channel, Caffe's WITHIN_CHANNEL form.

    ``x / (1 + alpha * m) ** beta``, where m is the mean of x squared over ``size`` x
    ``size`` cells; cells beyond the border count as zeros.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, C, H, W); keeps the shape."""
        mean_square = functional.avg_pool2d(features.square(), self.size, stride=1, padding=self.size // 2)
        return features * torch.pow(1 + self.alpha * mean_square, -self.beta)

    def extra_repr(self) -> str:
        """Text inside the brackets of the printed module."""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}"


class ZF5(nn.Module):
    """The convolutional part: an image of 224 x 224 becomes 256 channels of 13 x 13 cells, stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2, padding=1),
            nn.ReLU(inplace=True),
            WithinChannelNorm(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(96, 256, 5, stride=2),
            nn.ReLU(inplace=True),
            WithinChannelNorm(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute conv5 (B, 256, h, w) of images (B, 3, H, W)."""
        features: Tensor = self.features(images)
        return features
