"""Feature rows of whole photographs, for linear SVMs on new classes (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.errors import ImageError, InputError
from ...data.labelled import LabelledImage, LabelledImages
from ...data.memory import after_image
from ...data.progress import track
from ..convolutions.backbone import Backbone
from ..descent.augment import centre_crop, warped
from ..head.head import Head
from ..options import MIN_SIDE, BaseOptions, check_levels
from ..pooling.levels import bins
from ..pooling.spp import pool_whole_maps
from ..windows.scales import resize

RepresentationKind = Literal["spp", "fc6", "fc7"]
View = Literal["full", "crop", "warp"]

KINDS: tuple[str, ...] = get_args(RepresentationKind)
VIEWS: tuple[str, ...] = get_args(View)


@dataclass(frozen=True)
class Representation(BaseOptions):
    """Options of the features of a photograph.

    Attributes
    ----------
    kind : {"spp", "fc6", "fc7"}
        The pooled pyramid, or the output of an fc layer.
    levels : tuple of int
        Pyramid levels; level n pools n x n bins of the whole map.
    view : {"full", "crop", "warp"}
        Input of the network: the whole photograph with its aspect ratio, the centre square, or the whole photograph
        warped to a square.
    scale : int
        Shorter side of the photograph (full, crop) and side of the square (crop, warp), pixels.
    """

    kind: RepresentationKind = "spp"
    levels: tuple[int, ...] = (1, 2, 3, 6)
    view: View = "full"
    scale: int = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.levels)
        if self.scale < MIN_SIDE:
            raise InputError(f"the scale of photographs must be {MIN_SIDE} pixels or more, not {self.scale}")


def seen(options: Representation, image: Array) -> Array:
    """Network input, RGB uint8, for an RGB uint8 image (H, W, 3).

    Raises
    ------
    ValueError
        When the image is not uint8 (H, W, 3) with at least one pixel.
    """
    if options.view == "full":
        return resize(image, options.scale)[0]
    return centre_crop(image, options.scale, options.scale) if options.view == "crop" else warped(image, options.scale)


def width(backbone: Backbone, options: Representation, head: Head | None = None) -> int:
    """Length of a feature row."""
    if options.kind == "spp":
        return backbone.channels * bins(options.levels)
    return _needed(options, head).width(options.kind)


def represent(backbone: Backbone, options: Representation, image: Array, head: Head | None = None) -> Array:
    """Feature row of one image, with L2 norm 1.

    Parameters
    ----------
    backbone : Backbone
    options : Representation
    image : uint8 array (H, W, 3)
        RGB.
    head : Head, optional
        The fc layers, on the backbone's device; required if ``options.kind`` is an fc layer.

    Returns
    -------
    float32 array (width,)
        All zeros if the layer's output is all zeros.

    Raises
    ------
    ValueError
        When the image is not uint8 (H, W, 3) with at least one pixel, there is no head for an fc layer, or the head
        takes rows of another pyramid.
    """
    return _row(backbone, options, seen(options, image), head)


def represent_all(
    backbone: Backbone,
    options: Representation,
    images: LabelledImages | Sequence[LabelledImage],
    head: Head | None = None,
    quiet: bool = False,
) -> tuple[Array, dict[str, str]]:
    """Feature rows of many images; the next images are read and resized in the background.

    Parameters
    ----------
    backbone, options, head
        As in :func:`represent`.
    images : LabelledImages or sequence of LabelledImage
    quiet : bool
        No progress on stderr.

    Returns
    -------
    rows : float16 array (N, width)
        Rows of the readable images, in order. Half precision, because even so the 9,000 photographs of Caltech101 with
        25,600 features (a pyramid of 512 channels) take 460 MB.
    failed : dict from str to str
        Names of the images that could not be read, with the messages.

    Raises
    ------
    ValueError
        As :func:`represent`.
    """

    def load(labelled: LabelledImage) -> tuple[str, Array | str]:
        try:
            return labelled.name, seen(options, labelled.image)
        except ImageError as error:
            return labelled.name, str(error)

    rows = np.empty((len(images), width(backbone, options, head)), np.float16)
    failed: dict[str, str] = {}
    count = 0
    with closing(ahead(load, images)) as loaded:
        label = f"{options.view} images at {options.scale}"
        for name, result in track(loaded, label, total=len(images), quiet=quiet):
            if isinstance(result, str):
                failed[name] = result
                continue
            rows[count] = _row(backbone, options, result, head)
            count += 1
            after_image()
    return rows[:count], failed


@torch.no_grad()
def _row(backbone: Backbone, options: Representation, pixels: Array, head: Head | None) -> Array:
    """Feature row of a network input, RGB uint8 (h, w, 3)."""
    rows = pool_whole_maps(backbone.feature_map(pixels)[None], options.levels)
    if options.kind != "spp":
        rows = _needed(options, head).output(rows, options.kind)
    row = rows[0].double().cpu().numpy()
    norm = np.linalg.norm(row)
    return (row / norm if norm > 0 else row).astype(np.float32)


def _needed(options: Representation, head: Head | None) -> Head:
    if head is None:
        raise ValueError(f"features {options.kind} need a head, not None")
    return head
