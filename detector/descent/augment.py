"""From a photograph to the squares that a classifier is trained on: cut, mirrored and altered in colour.

All randomness comes from the generator that is passed in; arrays are RGB uint8 (H, W, 3).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ...data.arrays import Array
from .options import Augmentation

#: Principal components of ImageNet's RGB values (0 to 1) and what the random numbers of each are multiplied by, as
#: published with fb.resnet.torch (``datasets/imagenet.lua``); columns of ``_AXES`` are the components.
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
    """A square to train on.

    "none": the centre crop of the photograph whose shorter side is 256/224 of ``side``, or the warped photograph.

    "paper" (section 3.1.1, after Krizhevsky et al., 2012): a crop from the centre or one of the four corners of the
    photograph at that size, or warped to a square of it; half of them are mirrored; a random amount of each principal
    component of ImageNet's colours is added.

    "strong": a random part of the photograph (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6)
    of an aspect ratio from 3/4 to 4/3 (with ``warp``: that of the warped photograph), as a square; half of them are
    mirrored; brightness, contrast and saturation change by factors from 0.6 to 1.4; colours are added as above; one
    crop in four has a rectangle filled with the crop's mean colour.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.
    side : int
        Of the square, pixels.
    options : Augmentation
    rng : numpy Generator

    Returns
    -------
    uint8 array (side, side, 3)

    Raises
    ------
    ValueError
        When the image is not uint8 (H, W, 3) with at least a pixel, or ``side`` is below 1.
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
    """The square (side, side, 3) in the centre of an image whose shorter side becomes ``shorter`` pixels.

    Raises
    ------
    ValueError
        As in :func:`training_crop`, and when ``shorter`` is less than ``side``.
    """
    _check(image, side)
    if shorter < side:
        raise ValueError(f"a crop of {side} pixels needs a shorter side of at least as many, not {shorter}")
    return _part_of_scaled(image, _size_at(image, shorter), (0.5, 0.5), side)


def warped(image: Array, side: int) -> Array:
    """The whole image as a square (side, side, 3), its aspect ratio lost.

    Raises
    ------
    ValueError
        As in :func:`training_crop`.
    """
    _check(image, side)
    return _resized(image, side)


def at_size(crop: Array, side: int) -> Array:
    """A square crop at another size, (side, side, 3), as multi-size training shows it (paper, section 3.1.3).

    Raises
    ------
    ValueError
        As in :func:`training_crop`, and when the crop is no square.
    """
    _check(crop, side)
    if crop.shape[0] != crop.shape[1]:
        raise ValueError(f"the crop must be square, not {crop.shape}")
    return _resized(crop, side)


def _check(image: Array, side: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if side < 1:
        raise ValueError(f"a crop has at least 1 x 1 pixels, not {side} x {side}")


def _size_at(image: Array, shorter: int) -> tuple[int, int]:
    """Height and width of an image whose shorter side becomes ``shorter``, its aspect ratio kept however extreme."""
    factor = shorter / min(image.shape[:2])
    return round(image.shape[0] * factor), round(image.shape[1] * factor)


def _interpolation(factor_y: float, factor_x: float) -> int:
    """OpenCV's name of what :func:`.scales.resize` does at these factors."""
    return cv2.INTER_AREA if max(factor_y, factor_x) < 0.5 else cv2.INTER_LINEAR


def _resized(image: Array, side: int) -> Array:
    """The image stretched to a square."""
    smooth = _interpolation(side / image.shape[0], side / image.shape[1])
    return cv2.resize(image, (side, side), interpolation=smooth)


def _part_of_scaled(image: Array, size: tuple[int, int], place: tuple[float, float], side: int) -> Array:
    """A square of the image scaled to ``size`` = (height, width), of which no more than the square is computed.

    ``place`` is where the square lies, down and along: 0 is the first and 1 the last place that it has room at. It is
    that of the whole image scaled but for a shift of at most half a pixel, in the image or in its scaled copy,
    whichever pixels are smaller; in the first places there is no shift.
    """
    spans = [_span(old, new, part, side) for old, new, part in zip(image.shape[:2], size, place, strict=True)]
    (top, bottom, down), (left, right, along) = spans
    factor_y, factor_x = size[0] / image.shape[0], size[1] / image.shape[1]
    part, smooth = image[top:bottom, left:right], _interpolation(factor_y, factor_x)
    # Given factors instead of a size, OpenCV scales by exactly these.
    scaled = cv2.resize(part, None, fx=factor_x, fy=factor_y, interpolation=smooth)
    down, along = min(down, scaled.shape[0] - side), min(along, scaled.shape[1] - side)
    return np.ascontiguousarray(scaled[down : down + side, along : along + side])


def _span(old: int, new: int, place: float, side: int) -> tuple[int, int, int]:
    """First and last pixel (exclusive) of an axis to be scaled from ``old`` to ``new``, and where the square begins.

    The last number counts pixels of the scaled part.
    """
    step, start = old / new, int(place * (new - side))
    # A part begins between two pixels. Where pixels grow, it begins before the one that the first place is mixed from.
    first = max(math.floor((start + 0.5) * step - 0.5), 0) if step < 1 else round(start * step)
    begin = round(start - first / step)
    # One more than the square needs, for the interpolation at its end.
    return first, min(old, first + math.ceil((begin + side) * step) + 1), begin


def _mirrored(crop: Array, rng: np.random.Generator) -> Array:
    """The crop or its mirror image, with equal chances."""
    return cv2.flip(crop, 1) if rng.random() < 0.5 else crop


def _lighting(rng: np.random.Generator) -> Array:
    """What a change of light adds to a colour change: (3, 4), zero but for the last column."""
    shift = np.zeros((3, 4))
    shift[:, 3] = 255 * _AXES @ (_SPREAD * rng.normal(0, _LIGHTING, 3))
    return shift


def _colour_change(mean: Array, brightness: float, contrast: float, saturation: float) -> Array:
    """Three factors on colours as a single change (3, 4), for :func:`_recoloured`.

    Each mixes colours with something else: brightness with black, contrast with the mean grey, saturation with each
    pixel's own grey; a factor of 0 leaves only that, one of 1 the colours as they are. Which comes first makes no
    difference, unless colours are cut off at 0 and 255 between them.

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
    """Colours c as ``change[:, :3] @ c + change[:, 3]``, rounded and only then kept within 0 to 255."""
    return cv2.transform(crop, change)


def _random_region(size: tuple[int, int], options: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2, half-open, of a random part of an image of (H, W) pixels, its area uniformly distributed.

    Its aspect ratio is 3/4 to 4/3, log-uniform, times that of the image if photographs are warped. A shape that the
    image has no room for is drawn anew; after ten the largest centred part of a permitted aspect ratio is taken, as
    torchvision's ``RandomResizedCrop`` does.
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
    """x1, y1, x2, y2 of a rectangle within (H, W) pixels, its area a part of theirs, or None where it has no room."""
    wanted = size[0] * size[1] * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    height, width = max(1, round(math.sqrt(wanted / ratio))), max(1, round(math.sqrt(wanted * ratio)))
    if height > size[0] or width > size[1]:
        return None
    top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
    return left, top, left + width, top + height


def _erased(crop: Array, rng: np.random.Generator) -> Array:
    """The crop, or now and then a copy with a random rectangle in its mean colour."""
    if rng.random() >= _ERASE_PROBABILITY:
        return crop
    part = _random_rectangle(crop.shape[:2], _ERASE_AREA, _ERASE_ASPECT, rng)
    if part is None:
        return crop
    left, top, right, bottom = part
    erased = crop.copy()
    erased[top:bottom, left:right] = np.rint(cv2.mean(crop)[:3])
    return erased
