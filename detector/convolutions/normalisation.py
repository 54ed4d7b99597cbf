"""How images are normalised before they enter a network."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# torchvision's normalisation of RGB / 255; all its networks use it, except two converted from TensorFlow.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalised(images: Tensor) -> Tensor:
    """Normalise RGB uint8 (B, H, W, 3) for a network: float32 (B, 3, H, W), channels last in memory."""
    mean, std = _of_bytes(images.device)
    return images.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


@cache
def _of_bytes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,) of values from 0 to 255, on the device: to copy them there would be to wait."""
    with torch.inference_mode(False):
        mean, std = (255 * torch.tensor(values, device=device) for values in (MEAN, STD))
    return mean, std
