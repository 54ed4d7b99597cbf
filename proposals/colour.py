"""The colour spaces of selective search, all as uint8 planes from 0 to 255.

Uijlings et al. (IJCV 2013), section 3.2: each space is invariant to different changes of
the light. Hue and normalised rgb ignore shadows, Lab and intensity do not.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..data.arrays import Array


def _rgi(image: Array) -> Array:
    """Red and green as fractions of the intensity, and the intensity."""
    light = image.astype(np.float32).sum(axis=2, keepdims=True)
    shares = image[:, :, :2] * (255 / np.maximum(light, 1))
    return np.concatenate([shares, light / 3], axis=2).astype(np.uint8)


SPACES = {
    "hsv": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL),
    "lab": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2LAB),
    "rgi": _rgi,
    "hue": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)[:, :, :1],
    "intensity": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None],
}


def convert(image: Array, space: str) -> Array:
    """Convert an RGB uint8 image (H, W, 3) to another colour space: uint8 (H, W, C), C-contiguous.

    ``hsv``, ``lab`` and ``rgi`` (normalised red, normalised green, intensity) have
    three channels, ``hue`` and ``intensity`` one.
    """
    return np.ascontiguousarray(SPACES[space](image))
