"""Scale images to several sizes, and choose a scale for each window (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ...data.boxes import area, as_boxes, from_voc, to_voc
from ..options import MIN_SIDE, ScaleRule

MAX_ASPECT = 4.0
"""The long side is limited to this multiple of ``s``; it affects a strip of 1 x 10,000 but no photograph of VOC."""


# Target window sizes of the two rules: the networks' training size, and ZF-5's 13 cells of 16 pixels.
CANONICAL = {"area": 224.0, "reference": 208.0}


def scaled_size(image_size: tuple[int, int], s: int, max_side: int | None = None) -> tuple[int, int]:
    """Height and width of an image scaled so that its shorter side is ``s``.

    The aspect ratio is kept. If the longer side would exceed ``max_side`` (default
    ``MAX_ASPECT * s``), the image is scaled less, and its shorter side is below ``s``. If
    the shorter side would then be below ``MIN_SIDE``, it is stretched to ``MIN_SIDE``.

    Raises
    ------
    ValueError
        When the image has no pixels, or ``s`` or ``max_side`` is below ``MIN_SIDE``.
    """
    height, width = image_size
    longest = round(MAX_ASPECT * s) if max_side is None else max_side
    if height < 1 or width < 1:
        raise ValueError(f"an image has at least 1 x 1 pixels, not {height} x {width}")
    if min(s, longest) < MIN_SIDE:
        raise ValueError(f"scales must be at least {MIN_SIDE} pixels, not s={s} with max_side={longest}")
    factor = min(s / min(height, width), longest / max(height, width))
    return max(MIN_SIDE, round(height * factor)), max(MIN_SIDE, round(width * factor))


def resize(image: Array, s: int, max_side: int | None = None) -> tuple[Array, float, float]:
    """Scale an image to :func:`scaled_size` with bilinear interpolation.

    Below half the size plain bilinear interpolation skips pixels, so areas are averaged
    instead, similar to the anti-aliased bilinear filters of MATLAB and Pillow.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    s : int
        Target length of the shorter side.
    max_side : int, optional
        Limit of the longer side; None is ``MAX_ASPECT * s``.

    Returns
    -------
    scaled : uint8 array (h, w, 3)
    factor_y, factor_x : float
        ``h / H`` and ``w / W``.

    Raises
    ------
    ValueError
        When the image is not uint8 (H, W, 3), or as in :func:`scaled_size`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    height, width = scaled_size(image.shape[:2], s, max_side)
    factor_y, factor_x = height / image.shape[0], width / image.shape[1]
    smooth = cv2.INTER_AREA if max(factor_y, factor_x) < 0.5 else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=smooth)
    return scaled, factor_y, factor_x


def scale_boxes(boxes: ArrayLike, image_size: tuple[int, int], scaled: tuple[int, int]) -> Array:
    """Scale boxes (N, 4) of an image of (H, W) pixels to its copy of (h, w) pixels, float64.

    The authors' rule on 1-based inclusive corners, ``(b - 1)(s - 1)/(min(H, W) - 1) + 1``,
    for each axis: the first pixel maps to the first and the last to the last. (So our
    half-open boxes are not simply scaled by ``h / H``.) On an axis of one pixel boxes stay
    at that pixel.
    """
    (height, width), (new_height, new_width) = image_size, scaled
    factor_x = (new_width - 1) / max(width - 1, 1)
    factor_y = (new_height - 1) / max(height - 1, 1)
    factors = np.array([factor_x, factor_y, factor_x, factor_y])
    return from_voc((to_voc(boxes, np.float64) - 1) * factors + 1, np.float64)


def choose_scale(
    boxes: ArrayLike,
    image_size: tuple[int, int],
    scales: Sequence[int],
    rule: ScaleRule = "area",
    canonical: float | None = None,
    max_side: int | None = None,
) -> Array:
    """Choose the scale at which each window is pooled.

    "area" (the paper): the scale at which the window's area is closest to 224 x 224.
    "reference" (the authors' release): the scale s closest to
    ``round(208 min(H, W) / sqrt(area))``. Of equally good scales the first is used.

    Parameters
    ----------
    boxes : array (N, 4)
        Windows in pixels of the image, half-open. A window without area counts as one pixel.
    image_size : (H, W)
    scales : sequence of int
        Shorter sides, at least one.
    rule : {"area", "reference"}
    canonical : float, optional
        Target window side, instead of 224 or 208.
    max_side : int, optional
        As for :func:`resize`; for a limited image the actual scaled size is used.

    Returns
    -------
    int64 array (N,)
        Indices into ``scales``.

    Raises
    ------
    ValueError
        For an unknown rule or no scales.
    """
    if rule not in CANONICAL:
        raise ValueError(f"rule must be 'area' or 'reference', not {rule!r}")
    if len(scales) == 0:
        raise ValueError("there must be at least one scale")
    side = CANONICAL[rule] if canonical is None else canonical
    areas = np.maximum(area(as_boxes(boxes, np.float64)), 1.0)
    sizes = np.array([scaled_size(image_size, s, max_side) for s in scales], np.float64)
    if rule == "area":
        growth = sizes.prod(axis=1) / (image_size[0] * image_size[1])
        distance = np.abs(areas[:, None] * growth - side**2)
    else:
        wanted = np.floor(side * min(image_size) / np.sqrt(areas) + 0.5)
        distance = np.abs(sizes.min(axis=1) - wanted[:, None])
    return np.argmin(distance, axis=1)
