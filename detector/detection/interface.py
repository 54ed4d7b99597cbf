"""The interface of all detectors: one image, many images, or many sets of windows in one image."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence, Set
from contextlib import closing
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from ...data.arrays import Array
from ...data.boxes import as_boxes, clip
from ...data.detections import Detections
from ...data.errors import ImageError
from ...data.image import as_image
from ...data.progress import warn
from .stream import detect_images

Self = TypeVar("Self", bound="BaseDetector")


class BaseDetector(ABC):
    """Base of :class:`.detector.SPPDetector`, ``WarpDetector`` and :class:`.combination.CombinedDetector`.

    :meth:`detect` takes one image, :meth:`detect_many` many. For many sets of windows in one image call
    :meth:`set_image` once and :meth:`score_windows` as often as needed.

    Attributes
    ----------
    class_names : tuple of str
        Classes, in the order of detection labels and score columns.
    """

    class_names: tuple[str, ...]

    # Result of maps() for the image of set_image().
    _maps: Any = None

    # What has been said about too little memory: smaller parts (True), the CPU (False).
    _told: Set[bool] = frozenset()

    # Whether a GPU's memory was too small for several images.
    _alone = False

    @property
    @abstractmethod
    def calibrated(self) -> bool:
        """Whether detections have probabilities."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the detector."""

    @abstractmethod
    def _move(self, device: str | torch.device) -> None:
        """Move to another device."""

    @abstractmethod
    def propose(self, image: Array) -> Array:
        """Propose the windows that :meth:`detect` uses by default.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
            RGB.

        Returns
        -------
        float32 array (N, 4)
            x1, y1, x2, y2 in pixels, 0-based, half-open; best first.
        """

    @abstractmethod
    def maps(self, image: Array) -> Any:
        """Do the work that an RGB uint8 image (H, W, 3) needs only once, before its windows are known."""

    def maps_of(self, images: Sequence[Array]) -> list[Any]:
        """:meth:`maps` of several images, for a GPU."""
        return [self.maps(image) for image in images]

    @abstractmethod
    def score_on(self, maps: Any, windows: Array) -> Array:
        """Scores (N, classes) of windows (N, 4) on the result of :meth:`maps` (see :meth:`score_windows`)."""

    @abstractmethod
    def detect_on(self, maps: Any, windows: Array, threshold: float | None = None) -> Detections:
        """Objects among windows (N, 4) on the result of :meth:`maps` (see :meth:`detect`)."""

    def to(self: Self, device: str | torch.device) -> Self:
        """Move to another device.

        The image of :meth:`set_image` is dropped; call it again.

        Parameters
        ----------
        device : str or torch.device
            ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

        Returns
        -------
        The detector itself.

        Raises
        ------
        InputError
            When the device does not exist.

        Examples
        --------
        >>> detector = SPPDetector.load("animals").to("cuda")       # doctest: +SKIP
        """
        self._move(device)
        self.reset_image()
        return self

    def set_image(self, image: Any) -> None:
        """Set the image for :meth:`score_windows`; the convolutions run here, once.

        Parameters
        ----------
        image : path, PIL image, or RGB or grey uint8 array (H, W[, 3])

        Raises
        ------
        InputError
            When a file cannot be read.
        ValueError
            When an array has another shape or dtype.
        """
        self._maps = self.maps(as_image(image))

    def reset_image(self) -> None:
        """Drop the image of :meth:`set_image` and free its maps."""
        self._maps = None

    def score_windows(self, windows: ArrayLike) -> Array:
        """Score windows in the image of :meth:`set_image`.

        Parameters
        ----------
        windows : array (N, 4)
            x1, y1, x2, y2 in pixels, 0-based, half-open.

        Returns
        -------
        float32 array (N, classes)

        Raises
        ------
        RuntimeError
            Before :meth:`set_image`.

        Examples
        --------
        >>> detector.set_image("photo.jpg")                         # doctest: +SKIP
        >>> detector.score_windows([[10, 20, 200, 150]]).shape      # doctest: +SKIP
        (1, 6)
        """
        if self._maps is None:
            raise RuntimeError("call set_image(image) before asking for scores")
        return self.score_on(self._maps, as_boxes(windows))

    def detect(self, image: Any, threshold: float | None = None, windows: ArrayLike | None = None) -> Detections:
        """Find objects in an image, best first. The image of :meth:`set_image` does not change.

        Parameters
        ----------
        image : path, PIL image, or RGB or grey uint8 array (H, W[, 3])
        threshold : float, optional
            Return only detections with a probability above this, from 0 to 1, or ``-np.inf`` for all. By default each
            class has its own threshold, which has the best expected F1 on held-out images. A model without
            calibration compares the threshold with scores, and by default has one threshold for all classes.
        windows : array (N, 4), optional
            Windows to use instead of the proposals, x1, y1, x2, y2, 0-based, half-open; clipped to the image.

        Raises
        ------
        InputError
            When a file cannot be read.
        ValueError
            When an array has another shape or dtype, or a calibrated model gets a threshold that is no probability.
        """
        pixels = as_image(image)
        looked_at = self.propose(pixels) if windows is None else clip(as_boxes(windows), *pixels.shape[:2])
        return self._within_memory(lambda: self.detect_on(self.maps(pixels), looked_at, threshold))

    def detect_batch(
        self, images: Sequence[Array], threshold: float | None, windows: Sequence[Array]
    ) -> list[Detections]:
        """:meth:`detect` in several RGB uint8 images (H, W, 3), each with its windows (N, 4), for a GPU.

        Images of one shape go through the convolutions together, unless the GPU's memory is too small for that. The
        results are those of :meth:`detect` but for rounding.
        """
        if len(images) > 1 and not self._alone:
            try:
                maps = self.maps_of(images)
                return [self.detect_on(*pair, threshold) for pair in zip(maps, windows, strict=True)]
            except torch.OutOfMemoryError:
                self._alone = True
            torch.cuda.empty_cache()
            warn(f"warning: the memory of {self.device} is too small: it has one photograph at a time from now on")
        return [self.detect(image, threshold, own) for image, own in zip(images, windows, strict=True)]

    def _smaller_chunks(self) -> bool:
        """Take fewer windows at a time from now on; False if that is not possible."""
        return False

    def _within_memory(self, work: Callable[[], Detections]) -> Detections:
        """Do ``work``; where a GPU's memory is too small, in smaller parts, and then on the CPU."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.device.type == "cpu":
                    raise
            # Here the exception and the tensors that it refers to are gone.
            torch.cuda.empty_cache()
            place = self.device
            smaller = self._smaller_chunks()
            if not smaller:
                self.to("cpu")
            if smaller not in self._told:
                now = "windows are pooled in smaller parts" if smaller else "the CPU does the work"
                warn(f"warning: the memory of {place} is too small: {now} from now on")
                self._told = {*self._told, smaller}

    @overload
    def detect_many(
        self, images: Iterable[Any], threshold: float | None = ..., on_error: Literal["raise"] = ...
    ) -> Generator[Detections, None, None]: ...

    @overload
    def detect_many(
        self, images: Iterable[Any], threshold: float | None = ..., *, on_error: Literal["yield"]
    ) -> Generator[Detections | ImageError, None, None]: ...

    def detect_many(
        self, images: Iterable[Any], threshold: float | None = None, on_error: Literal["raise", "yield"] = "raise"
    ) -> Generator[Any, None, None]:
        """Yield the result of :meth:`detect` for each of many images.

        On a CPU each core has an image of its own, and two more may wait. For a network on a GPU the next images are
        read, and their windows proposed, in the background. Work starts when the first result is requested.

        Parameters
        ----------
        images : iterable of paths, PIL images, and RGB or grey uint8 arrays (H, W[, 3])
        threshold : float, optional
            As in :meth:`detect`.
        on_error : {"raise", "yield"}
            For a file that cannot be read, either raise its :class:`sppnet.InputError`, which ends the iterator, or
            yield the error in place of the detections and continue.

        Yields
        ------
        Detections
            In the order of the images; with ``on_error="yield"`` an ``InputError`` for each file that cannot be read.

        Raises
        ------
        ValueError
            When ``images`` is a single image or ``on_error`` is neither; from the iterator, what :meth:`detect` raises.

        Examples
        --------
        >>> paths = sorted(Path("photos").glob("*.jpg"))                    # doctest: +SKIP
        >>> for path, found in zip(paths, detector.detect_many(paths)):     # doctest: +SKIP
        ...     print(path.name, len(found))
        """
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error must be 'raise' or 'yield', not {on_error!r}")
        if isinstance(images, str | os.PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise ValueError("detect_many takes several images, in a list for instance, and detect takes one")
        results = detect_images(self, images, threshold, lambda image, pixels, found: found)
        return results if on_error == "yield" else _raising(results)


def _raising(results: Generator[Detections | ImageError, None, None]) -> Generator[Detections, None, None]:
    """Yield results; raise the first error."""
    with closing(results):
        for result in results:
            if isinstance(result, ImageError):
                raise result
            yield result
