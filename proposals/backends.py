"""Proposal methods with one Protocol: ours, OpenCV's, and the package selectivesearch.

:class:`.precomputed.PrecomputedBoxes`, which reads boxes from files, follows the same
Protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np

from ..data.arrays import Array
from ..data.boxes import clip, unique
from ..data.errors import InputError
from ..data.image import as_image
from .ranking import ranked
from .selective_search import ALGORITHM_VERSION, MODES, selective_search
from .squares import small_squares
from .working_image import large_enough, to_original, working_image


class Proposer(Protocol):
    """A proposal method."""

    @property
    def name(self) -> str:
        """Short name of the method."""
        ...

    def options(self) -> dict[str, Any]:
        """Everything except the image that affects the boxes, as JSON-like values; part of a cache's key."""
        ...

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """Propose boxes of an RGB uint8 image (H, W, 3): float32 (N, 4), x1 y1 x2 y2, 0-based, half-open, best first.

        ``image_id`` identifies the image for methods that look boxes up.
        """
        ...


@dataclass(frozen=True)
class SelectiveSearch:
    """Our own selective search, see :func:`.selective_search.selective_search`."""

    mode: str = "fast"
    max_boxes: int | None = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        _check_max_boxes(self.max_boxes)

    @property
    def name(self) -> str:
        """The mode."""
        return self.mode

    def options(self) -> dict[str, Any]:
        """See :meth:`Proposer.options`."""
        return {"max_boxes": self.max_boxes, "seed": self.seed, "version": ALGORITHM_VERSION}

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """See :meth:`Proposer.__call__`."""
        return selective_search(image, self.mode, self.max_boxes, self.seed)


@dataclass(frozen=True)
class DenseSearch:
    """Our fast selective search, interleaved with small squares everywhere (see :mod:`.squares`)."""

    max_boxes: int | None = 2000
    seed: int = 0

    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        _check_max_boxes(self.max_boxes)

    def options(self) -> dict[str, Any]:
        """See :meth:`Proposer.options`."""
        return {"max_boxes": self.max_boxes, "seed": self.seed, "version": ALGORITHM_VERSION, "squares": 1}

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """See :meth:`Proposer.__call__`."""
        image = as_image(image)
        height, width = image.shape[:2]
        parts = [selective_search(image, "fast", None, self.seed), small_squares(height, width, self.seed)]
        turn = np.concatenate([np.arange(len(part)) for part in parts])
        boxes = np.concatenate(parts)[np.argsort(turn, kind="stable")]
        return unique(boxes)[: self.max_boxes]


@dataclass(frozen=True)
class OpenCVSelectiveSearch:
    """OpenCV's selective search in its fast mode, on the same working image as ours.

    Its order depends on the C library's ``rand``, which cannot be seeded: the first
    ``max_boxes`` boxes differ a little between calls.

    Raises
    ------
    InputError
        When this OpenCV was built without its contrib modules.
    """

    max_boxes: int | None = 2000

    name: ClassVar[str] = "opencv"

    # Some versions of OpenCV crash on images longer than about 2.4 times their width (opencv_contrib#705, #2102).
    longest: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        _check_max_boxes(self.max_boxes)
        if not hasattr(cv2, "ximgproc"):
            raise InputError(
                "method 'opencv' needs OpenCV's contrib modules: pip uninstall opencv-python opencv-python-headless, "
                "then pip install opencv-contrib-python-headless"
            )

    def options(self) -> dict[str, Any]:
        """See :meth:`Proposer.options`."""
        return {"max_boxes": self.max_boxes, "opencv": cv2.__version__}

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """See :meth:`Proposer.__call__`."""
        image = as_image(image)
        working = working_image(image)
        height, width = working.shape[:2]
        below = max(0, ceil(width / self.longest) - height)
        right = max(0, ceil(height / self.longest) - width)
        padded = cv2.copyMakeBorder(working, 0, below, 0, right, cv2.BORDER_REPLICATE)

        # The stubs have it only if this OpenCV has it.
        ximgproc = cv2.ximgproc  # type: ignore[attr-defined, unused-ignore]
        search = ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
        search.switchToSelectiveSearchFast()
        found = np.asarray(search.process(), np.float32).reshape(-1, 4)
        boxes = clip(np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1), height, width)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
        return to_original(unique(boxes), working, image)[: self.max_boxes]


@dataclass(frozen=True)
class SelectiveSearchPackage:
    """The package ``selectivesearch`` from PyPI, with the options of its own example.

    The package fails on grey images, so they are converted to RGB. Its time grows with the square of the number of
    segments (minutes at 4000 x 3000), so images are reduced to at most 400 x 300 pixels. It returns regions in the
    order in which they were merged; they are ranked like ours.
    """

    max_boxes: int | None = 2000
    seed: int = 0

    name: ClassVar[str] = "selectivesearch"
    arguments: ClassVar[dict[str, float]] = {"scale": 500, "sigma": 0.9, "min_size": 10}
    working_pixels: ClassVar[int] = 400 * 300

    def __post_init__(self) -> None:
        _check_max_boxes(self.max_boxes)

    def options(self) -> dict[str, Any]:
        """See :meth:`Proposer.options`."""
        from importlib.metadata import version

        return {"max_boxes": self.max_boxes, "seed": self.seed, "selectivesearch": version("selectivesearch")}

    def __call__(self, image: Array, image_id: str | None = None) -> Array:
        """See :meth:`Proposer.__call__`."""
        import warnings

        import selectivesearch

        image = as_image(image)
        working = working_image(image, self.working_pixels)
        with warnings.catch_warnings():
            # The package passes floats to scikit-image's local binary patterns, which warns at every call.
            warnings.simplefilter("ignore")
            _, regions = selectivesearch.selective_search(working, **self.arguments)
        corners = np.array([region["rect"] for region in regions], np.int64).reshape(-1, 4)
        # Its "width" is the distance between the first and the last pixel.
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], axis=1)
        boxes = large_enough(ranked([boxes], self.seed), *working.shape[:2])
        return to_original(boxes, working, image)[: self.max_boxes]


METHODS: dict[str, Callable[[int | None, int], Proposer]] = {
    "fast": lambda max_boxes, seed: SelectiveSearch("fast", max_boxes, seed),
    "quality": lambda max_boxes, seed: SelectiveSearch("quality", max_boxes, seed),
    "dense": lambda max_boxes, seed: DenseSearch(max_boxes, seed),
    "opencv": lambda max_boxes, seed: OpenCVSelectiveSearch(max_boxes),
    "selectivesearch": lambda max_boxes, seed: SelectiveSearchPackage(max_boxes, seed),
}


def make_proposer(method: str = "fast", max_boxes: int | None = 2000, seed: int = 0) -> Proposer:
    """Create the proposal method of a name in :data:`METHODS`.

    Raises
    ------
    InputError
        When the method is unknown or not installed, or ``max_boxes`` is less than 1.
    """
    if method not in METHODS:
        near = get_close_matches(method, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(METHODS)}"
        raise InputError(f"unknown proposal method {method!r}; {hint}")
    return METHODS[method](max_boxes, seed)


def _check_max_boxes(max_boxes: int | None) -> None:
    if max_boxes is not None and max_boxes < 1:
        raise InputError(f"max_boxes must be at least 1, or None for all, not {max_boxes}")
