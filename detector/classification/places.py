"""Views of an image for classification: scales, places, and cells of the map (paper, section 3.1.4).

:mod:`.views` classifies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...data.arrays import Array
from ...data.errors import InputError
from ..options import MIN_SIDE

Places = Literal["full", "centre", "corners", "grid"]

NAMES = ("one", "ten", "96", "full", "98")
"""Names for :func:`named_views`."""

#: The paper's side of a view, its single scale, and its six scales of the 96 views.
_SIDE, _SCALE, _SCALES = 224, 256, (224, 256, 300, 360, 448, 560)

#: Upper left corners of views, as shares of the free space in y and x, in the order of :func:`view_windows`.
_STARTS = {
    "centre": ((0.5, 0.5),),
    "corners": ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)),
    "grid": ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0.5), (0.5, 0), (0.5, 1), (1, 0.5)),
}


@dataclass(frozen=True)
class Views:
    """Views at the same places of an image at some scales.

    Attributes
    ----------
    scales : tuple of int
        Shorter sides of the scaled image, pixels.
    places : {"full", "centre", "corners", "grid"}
        The whole image; the centre square; the centre and the four corners; these and the middles of the four sides.
        Places that coincide count once: if the scale equals the side of a view, an image has three places, a square
        image one.
    mirror : bool
        Whether to add the mirror images of the views.

    Raises
    ------
    ValueError
        When there are no scales, a scale is below ``pyramid.MIN_SIDE``, or places are unknown.
    """

    scales: tuple[int, ...]
    places: Places
    mirror: bool

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < MIN_SIDE:
            raise ValueError(f"views need one or more scales of at least {MIN_SIDE} pixels, not {self.scales}")
        if self.places not in get_args(Places):
            raise ValueError(f"places must be one of {', '.join(get_args(Places))}, not {self.places!r}")


def named_views(name: str, size: int, scales: Sequence[int] | None = None) -> tuple[Views, ...]:
    """Return the views with a name, for a network trained on squares of ``size`` pixels.

    The scales are the paper's, which are for 224 pixels, in proportion to ``size``.

    ========  ==========================================================================================
    one       the centre, at scale 256
    ten       the centre, the four corners, and their mirror images, at 256
    96        these and the four middles, at 224 (where they are 6), 256, 300, 360, 448 and 560
    full      the whole image and its mirror image, at ``size``, the scale of the training
    98        96, and the whole image and its mirror image at 256
    ========  ==========================================================================================

    Square images have 92 of the 96, because at 224 all of their places coincide.
    If two sets share a scale, as those of 98 do, its map is computed once.

    Parameters
    ----------
    name : str
        One of these names, or several joined with "+": "96+full". A view that is in two of them counts twice.
    size : int
    scales : sequence of int, optional
        Shorter sides in pixels, instead of those in the table.

    Raises
    ------
    InputError
        When a name is unknown, or a scale is below ``pyramid.MIN_SIDE``.
    """
    one, six = (_in_proportion(_SCALE, size),), tuple(_in_proportion(scale, size) for scale in _SCALES)
    whole = Views((size,), "full", mirror=True)
    known = {
        "one": (Views(one, "centre", mirror=False),),
        "ten": (Views(one, "corners", mirror=True),),
        "96": (Views(six, "grid", mirror=True),),
        "full": (whole,),
        "98": (Views(six, "grid", mirror=True), Views(one, "full", mirror=True)),
    }
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in known:
            raise InputError(f"views '{part}' are not known; expected {', '.join(NAMES)}, or some with + between them")
    chosen = [views for part in parts for views in known[part]]
    if scales is not None:
        if not scales or min(scales) < MIN_SIDE:
            raise InputError(f"scales of views must be at least {MIN_SIDE} pixels, not {','.join(map(str, scales))}")
        chosen = [Views(tuple(scales), views.places, views.mirror) for views in chosen]
    return tuple(chosen)


def _in_proportion(length: int, size: int) -> int:
    """Scale a length of the paper to another side of views."""
    return max(MIN_SIDE, round(length * size / _SIDE))


def view_windows(scaled_size: tuple[int, int], side: int, places: Places) -> Array:
    """Windows of an image's views.

    Parameters
    ----------
    scaled_size : (h, w)
        Size of the scaled image, pixels.
    side : int
        Side of a view, pixels. If the image is narrower, the view ends at its edge.
    places : {"full", "centre", "corners", "grid"}
        See :class:`Views`.

    Returns
    -------
    int64 array (V, 4)
        x1, y1, x2, y2 in pixels of the scaled image, half-open, all different.

    Raises
    ------
    ValueError
        When the image or the side has no pixels.
    """
    height, width = scaled_size
    if min(height, width, side) < 1:
        raise ValueError(f"images and views have at least 1 pixel a side, not {height} x {width} and {side}")
    if places == "full":
        return np.array([[0, 0, width, height]], np.int64)
    high, wide = min(side, height), min(side, width)
    corners = ((int((width - wide) * x), int((height - high) * y)) for y, x in _STARTS[places])
    return np.array([(x, y, x + wide, y + high) for x, y in dict.fromkeys(corners)], np.int64)


def view_cells(
    windows: Array, scaled_size: tuple[int, int], map_size: tuple[int, int], stride: int, square: tuple[int, int]
) -> Array:
    """Cells of an image's map that belong to its views.

    A view has as many cells as the map of a crop of its size, because the network was trained on such maps. It is the
    nearest block of that size, ``x1 / stride`` cells from the left, rounded.

    The rules of :func:`.projection.project`, made for windows of any size, give one cell more or less at some places.
    With ImageNet weights their rows differ more from those of crops. In ten views of a photograph the mean cosine was
    0.95 and 0.92 (SqueezeNet), 0.96 and 0.93 (MobileNetV2) with the rule used here, 0.85 and 0.86, 0.93 and 0.91 with
    the authors' rule, 0.95 and 0.91, 0.91 and 0.88 with the paper's.

    Parameters
    ----------
    windows : int array (V, 4)
        Result of :func:`view_windows`.
    scaled_size, map_size : (h, w)
        Size of the scaled image in pixels, and of its map in cells.
    stride : int
        Pixels from one cell to the next.
    square : (h, w)
        Cells of a full-sized view.

    Returns
    -------
    int32 array (V, 4)
        x0, y0, x1, y1, inclusive.
    """
    cells = np.empty((len(windows), 4), np.int32)
    for axis in (0, 1):
        pixels, all_cells = scaled_size[1 - axis], map_size[1 - axis]
        start, end = windows[:, axis], windows[:, axis + 2]
        # A view from edge to edge is the whole map, even if it is smaller than a full view.
        count = np.where(end - start == pixels, all_cells, min(square[1 - axis], all_cells))
        cells[:, axis] = np.minimum(np.floor(start / stride + 0.5), all_cells - count)
        cells[:, axis + 2] = cells[:, axis] + count - 1
    return cells
