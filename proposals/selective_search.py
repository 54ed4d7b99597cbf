"""Selective search: propose the boxes of an image that may contain an object.

Uijlings, van de Sande, Gevers, Smeulders: "Selective Search for Object Recognition"
(IJCV 2013). Segment the image and merge similar neighbours until one region is left; the
box of every region is a proposal. Several colour spaces, segment sizes and similarity
measures compensate each other's errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np

from ..data.arrays import Array
from ..data.cores import cpu_count
from ..data.errors import InputError
from ..data.image import as_image
from .colour import convert
from .graph import segment, sort_edges
from .grouping import group
from .ranking import ranked
from .regions import COLOUR_BINS, colour_bins, histograms, neighbours, sizes_and_boxes, texture_bins
from .working_image import large_enough, to_original, working_image

ALGORITHM_VERSION = 3
"""Increased when the boxes of an image change, so that no cache returns old boxes."""

SIGMA = 0.65
"""Smoothing before the segmentation, in pixels of the working image. The paper's 0.8 is for images that scaling to a
width of 500 blurred or enlarged."""


@dataclass(frozen=True)
class Strategy:
    """The hierarchies of one mode: every colour space with every segment size and every similarity.

    Attributes
    ----------
    spaces : tuple of str
        Names from :data:`.colour.SPACES`.
    scales : tuple of int
        ``k`` of the segmentation, which is also the minimum segment size.
    similarities : tuple of (colour, texture, size, fill)
        Which of the four similarities are summed, as weights 0 or 1.
    """

    spaces: tuple[str, ...]
    scales: tuple[int, ...]
    similarities: tuple[tuple[int, int, int, int], ...]


MODES = {
    # The paper's eight hierarchies and four more with fill only: these take a twentieth of the time and find objects
    # that the others miss (recall at 0.7 of the first 2,000 boxes 0.82 -> 0.84 on photographs of VOC's train set).
    "fast": Strategy(("hsv", "lab"), (50, 100), ((1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1))),
    "quality": Strategy(
        ("hsv", "lab", "rgi", "hue", "intensity"),
        (50, 100, 150, 300),
        ((1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)),
    ),
}


def selective_search(
    image: Array, mode: str = "fast", max_boxes: int | None = 2000, seed: int = 0, *, threads: int | None = None
) -> Array:
    """Propose boxes that are likely to contain an object.

    Images of more than 500 x 500 pixels are first scaled down to that area. Boxes with a side
    under 1/40 of the square root of the working area are dropped (10.8 pixels in a 500 x 375
    photograph, 2.2 in one of 100 x 80).

    Parameters
    ----------
    image : uint8 array (H, W, 3) or (H, W)
        RGB or grey, of any size from 1 x 1.
    mode : {"fast", "quality"}
        ``fast`` builds 12 hierarchies, ``quality`` 80, for many more and better boxes.
    max_boxes : int or None
        The largest number of boxes; None for all.
    seed : int
        Seed of the random part of the order.
    threads : int, optional
        Number of threads; by default all CPUs. The boxes do not depend on it.

    Returns
    -------
    float32 array (N, 4)
        x1, y1, x2, y2 in pixels of ``image``, 0-based and half-open, the best first.

    Raises
    ------
    ValueError
        When the image or an option is not as described.

    References
    ----------
    Uijlings et al., "Selective Search for Object Recognition", IJCV 104(2), 2013.

    Examples
    --------
    >>> image = np.full((60, 80, 3), 200, np.uint8)
    >>> image[20:40, 30:50] = (180, 30, 30)
    >>> boxes = selective_search(image)
    >>> boxes.dtype, bool((boxes == [30, 20, 50, 40]).all(axis=1).any())
    (dtype('float32'), True)
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if max_boxes is not None and max_boxes < 1:
        raise InputError(f"max_boxes must be at least 1, or None for all, not {max_boxes}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, or None for all CPUs, not {threads}")
    image = as_image(image)
    working = working_image(image)
    hierarchies = _hierarchies(working, MODES[mode], threads or cpu_count())
    boxes = large_enough(ranked(hierarchies, seed), *working.shape[:2])
    return to_original(boxes[:max_boxes], working, image)


def _hierarchies(image: Array, strategy: Strategy, threads: int) -> list[Array]:
    """Boxes of every hierarchy, from segments to the whole image, always in the same order."""
    height, width = image.shape[:2]

    def prepare(space: str) -> tuple[Array, ...]:
        colours = convert(image, space)
        smooth = cv2.GaussianBlur(colours.astype(np.float32), (0, 0), SIGMA).reshape(colours.shape)
        edges, starts = sort_edges(np.ascontiguousarray(smooth.transpose(2, 0, 1)))
        return edges, starts, colour_bins(colours), texture_bins(colours)

    def grow(job: tuple[tuple[Array, ...], int]) -> list[Array]:
        (edges, starts, colours, textures), k = job
        labels, count = segment(edges, starts, height, width, k, k)
        sizes, boxes = sizes_and_boxes(labels, count)
        counts = histograms(labels, count, colours, textures)
        pairs = neighbours(labels, count)
        channels = colours.shape[2]
        split = COLOUR_BINS * channels
        return [
            group(sizes, boxes, counts, pairs, split, channels, np.array(weights, np.float64))
            for weights in strategy.similarities
        ]

    spaces: Iterable[Any]
    run: Callable[..., Iterable[Any]]
    with ThreadPoolExecutor(threads) as pool:
        run = pool.map if threads > 1 else map
        spaces = run(prepare, strategy.spaces)
        return [boxes for several in run(grow, product(spaces, strategy.scales)) for boxes in several]
