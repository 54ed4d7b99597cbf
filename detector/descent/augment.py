"""Training crops of a photograph: cropping, mirroring and colour changes.

All randomness comes from the generator passed in; arrays are RGB uint8 (H, W, 3).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ...data.arrays import Array
from .options import Augmentation

#: Principal components of ImageNet's RGB values (0 to 1), the columns of ``_AXES``, and the factor on the random number
#: of each, as published with fb.resnet.torch (``datasets/imagenet.lua``).
_SPREAD = np.array([0.2175, 0.0188, 0.0045])
_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
#: Standard deviation of those random numbers (Krizhevsky et al., 2012, section 4.1).
_LIGHTING = 0.1

#: Weights of red, green and blue in a pixel's brightness (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114])

_JITTER = 0.4
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10

# Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, with smaller rectangles, half as often.
_ERASE_PROBABILITY = 0.25
_ERASE_AREA = (0.02, 0.2)
_ERASE_ASPECT = (0.3, 1 / 0.3)


def training_crop(image: Array, side: int, options: Augmentation, rng: np.random.Generator) -> Array:
    """Make one square training crop.

    "none": the centre crop of the photograph, resized so that its shorter side is 256/224 of ``side``; with ``warp``
    the whole photograph, warped to the square.

    "paper" (section 3.1.1, after Krizhevsky et al., 2012): a crop from the centre or one of the four corners of the
    photograph at that size (with ``warp``: warped to a square of that size). Half of the crops are mirrored. A random
    amount of each principal component of ImageNet's colours is added.

    "strong": a random region (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6) with an aspect
    ratio from 3/4 to 4/3 (with ``warp``: of the warped photograph), resized to a square. Half of the crops are
    mirrored. Brightness, contrast and saturation change by factors from 0.6 to 1.4. Colours are added as above. One
    crop in four has a rectangle filled with the crop's mean colour.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.
    side : int
        Side of the crop, pixels.
    options : Augmentation
    rng : numpy Generator

    Returns
    -------
    uint8 array (side, side, 3)

    Raises
    ------
    ValueError
        When the image is not uint8 (H, W, 3) or is empty, or ``side`` is less than 1.
    """
    _check(image, side)
    shorter = round(side * 256 / 224)
    if options.kind == "none":
        return warped(image, side) if options.warp else centre_crop(image, side, shorter)
    if options.kind == "paper":
        size = (shorter, shorter) if options.warp else _size_at(image, shorter)
        down, along = ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))[rng.integers(5)]
        crop = _mirrored(_part_of_scaled(image, size, (down, along), side), rng)
        return _recoloured(crop, np.eye(3, 4) + _lighting(rng))
    left, top, right, bottom = _random_region(image.shape[:2], options, rng)
    crop = _mirrored(_resized(image[top:bottom, left:right], side), rng)
    factors = rng.uniform(1 - _JITTER, 1 + _JITTER, 3)
    colours = _colour_change(np.array(cv2.mean(crop)[:3]), *factors)
    return _erased(_recoloured(crop, colours + _lighting(rng)), rng)


def centre_crop(image: Array, side: int, shorter: int) -> Array:
    """Resize the shorter side of an image to ``shorter`` pixels and return its centre square (side, side, 3).

    Raises
    ------
    ValueError
        As in :func:`training_crop`, and when ``shorter`` is less than ``side``.
    """
    _check(image, side)
    if shorter < side:
        raise ValueError(f"a crop of {side} pixels needs a shorter side of at least {side} pixels, not {shorter}")
    return _part_of_scaled(image, _size_at(image, shorter), (0.5, 0.5), side)


def warped(image: Array, side: int) -> Array:
    """Warp the whole image to a square (side, side, 3); the aspect ratio is not kept.

    Raises
    ------
    ValueError
        As in :func:`training_crop`.
    """
    _check(image, side)
    return _resized(image, side)


def at_size(crop: Array, side: int) -> Array:
    """Resize a square crop to (side, side, 3) for multi-size training (paper, section 3.1.3).

    Raises
    ------
    ValueError
        As in :func:`training_crop`, and when the crop is not square.
    """
    _check(crop, side)
    if crop.shape[0] != crop.shape[1]:
        raise ValueError(f"the crop must be square, not {crop.shape}")
    return _resized(crop, side)


def _check(image: Array, side: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if side < 1:
        raise ValueError(f"a crop must have at least 1 x 1 pixels, not {side} x {side}")


def _size_at(image: Array, shorter: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to ``shorter``; the aspect ratio is kept, however extreme."""
    factor = shorter / min(image.shape[:2])
    return round(image.shape[0] * factor), round(image.shape[1] * factor)


def _interpolation(factor_y: float, factor_x: float) -> int:
    """OpenCV's flag for the interpolation that :func:`.scales.resize` uses at these factors."""
    return cv2.INTER_AREA if max(factor_y, factor_x) < 0.5 else cv2.INTER_LINEAR


def _resized(image: Array, side: int) -> Array:
    """Stretch the image to a square."""
    smooth = _interpolation(side / image.shape[0], side / image.shape[1])
    return cv2.resize(image, (side, side), interpolation=smooth)


def _part_of_scaled(image: Array, size: tuple[int, int], place: tuple[float, float], side: int) -> Array:
    """Crop a square from the image scaled to ``size`` = (height, width), without scaling the rest of the image.

    ``place`` is the vertical and horizontal position of the square: 0 is the first possible one, 1 the last. Compared
    with a crop of the whole scaled image, the square is shifted by at most half a pixel of the image or of its scaled
    copy, whichever pixels are smaller; at position 0 there is no shift.
    """
    spans = [_span(old, new, part, side) for old, new, part in zip(image.shape[:2], size, place, strict=True)]
    (top, bottom, down), (left, right, along) = spans
    factor_y, factor_x = size[0] / image.shape[0], size[1] / image.shape[1]
    part, smooth = image[top:bottom, left:right], _interpolation(factor_y, factor_x)
    # With factors instead of a size, OpenCV scales by exactly these.
    scaled = cv2.resize(part, None, fx=factor_x, fy=factor_y, interpolation=smooth)
    down, along = min(down, scaled.shape[0] - side), min(along, scaled.shape[1] - side)
    return np.ascontiguousarray(scaled[down : down + side, along : along + side])


def _span(old: int, new: int, place: float, side: int) -> tuple[int, int, int]:
    """Start and end (exclusive) of the source pixels on one axis scaled from ``old`` to ``new``, and the crop's offset.

    The offset counts pixels of the scaled part.
    """
    step, start = old / new, int(place * (new - side))
    # The crop begins between two pixels. When upscaling, start at the first pixel that interpolation reads.
    first = max(math.floor((start + 0.5) * step - 0.5), 0) if step < 1 else round(start * step)
    begin = round(start - first / step)
    # One pixel more than the square needs, for the interpolation at its end.
    return first, min(old, first + math.ceil((begin + side) * step) + 1), begin


def _mirrored(crop: Array, rng: np.random.Generator) -> Array:
    """Mirror the crop with probability 1/2."""
    return cv2.flip(crop, 1) if rng.random() < 0.5 else crop


def _lighting(rng: np.random.Generator) -> Array:
    """Random lighting as a colour change (3, 4), zero except for the last column."""
    shift = np.zeros((3, 4))
    shift[:, 3] = 255 * _AXES @ (_SPREAD * rng.normal(0, _LIGHTING, 3))
    return shift


def _colour_change(mean: Array, brightness: float, contrast: float, saturation: float) -> Array:
    """Combine three colour factors into one change (3, 4) for :func:`_recoloured`.

    Brightness blends colours with black, contrast with the mean grey, saturation with each pixel's own grey. A factor
    of 1 keeps the colours, 0 replaces them. The order makes no difference, because colours are not clipped in between.

    Parameters
    ----------
    mean : float array (3,)
        Mean colour before the change.
    brightness, contrast, saturation : float
    """
    own_grey = np.tile(_GREY, (3, 1))
    linear = contrast * (saturation * np.eye(3) + (1 - saturation) * own_grey)
    mean_grey = own_grey @ mean
    return brightness * np.column_stack([linear, (1 - contrast) * mean_grey])


def _recoloured(crop: Array, change: Array) -> Array:
    """Replace each colour c by ``change[:, :3] @ c + change[:, 3]``, rounded, then clipped to 0 to 255."""
    return cv2.transform(crop, change)


def _random_region(size: tuple[int, int], options: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Random region x1, y1, x2, y2, half-open, of an image of (H, W) pixels; its area is uniformly distributed.

    Its aspect ratio is log-uniform from 3/4 to 4/3, times that of the image if photographs are warped. A region that
    does not fit is drawn again. After ten tries the largest centred region with a permitted aspect ratio is taken, as
    in torchvision's ``RandomResizedCrop``.
    """
    height, width = size
    usual = width / height if options.warp else 1.0
    for _ in range(_TRIES):
        part = _random_rectangle(size, options.area, (_ASPECT[0] * usual, _ASPECT[1] * usual), rng)
        if part is not None:
            return part
    aspect = min(max(width / height, _ASPECT[0] * usual), _ASPECT[1] * usual)
    part_width = min(width, max(1, round(height * aspect)))
    part_height = min(height, max(1, round(width / aspect)))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def _random_rectangle(
    size: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Random rectangle x1, y1, x2, y2 that covers a share ``area`` of (H, W) pixels; None if it does not fit."""
    wanted = size[0] * size[1] * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    height, width = max(1, round(math.sqrt(wanted / ratio))), max(1, round(math.sqrt(wanted * ratio)))
    if height > size[0] or width > size[1]:
        return None
    top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    return left, top, left + width, top + height


def _erased(crop: Array, rng: np.random.Generator) -> Array:
    """Return the crop or, sometimes, a copy with a random rectangle in the crop's mean colour."""
    if rng.random() >= _ERASE_PROBABILITY:
        return crop
    part = _random_rectangle(crop.shape[:2], _ERASE_AREA, _ERASE_ASPECT, rng)
    if part is None:
        return crop
    left, top, right, bottom = part
    erased = crop.copy()
    erased[top:bottom, left:right] = np.rint(cv2.mean(crop)[:3])
    return erased
