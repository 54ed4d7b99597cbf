"""A detector over many images, with the stages of different images at work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.detections import Detections
from ...data.errors import ImageError
from ...data.formats import ImageDetections
from ...data.image import as_image

Item = TypeVar("Item")
Result = TypeVar("Result")
Source = TypeVar("Source")

#: Called with a file, its image, RGB uint8 (H, W, 3), and what was found in it.
Finish = Callable[[Path, Array, Detections], object]

#: Images read beyond the one that the network works on. Two, so that one slow file does not keep it waiting.
AHEAD = 2

#: Images that the network is done with and that are still being finished. There is no more to gain: finishing is the
#: shorter work.
BEHIND = 1


class ImageDetector(Protocol):
    """What is asked of a detector, such as :class:`.detector.SPPDetector` or :class:`.combination.CombinedDetector`.

    Looking at the windows that ``propose`` gives must come to the same as proposing them itself.
    """

    def propose(self, image: Array) -> Array:
        """Windows (N, 4) of an RGB uint8 image (H, W, 3); called while ``detect`` works on another image."""
        ...

    def detect(self, image: Array, threshold: float | None, windows: Array) -> Detections:
        """Objects in the image among its windows."""
        ...


def detect_images(
    detector: ImageDetector,
    images: Iterable[Source],
    threshold: float | None,
    conclude: Callable[[Source, Array, Detections], Result],
) -> Generator[Result | ImageError, None, None]:
    """What is made of a detector's findings in each image, the same as with one image after the other.

    While the network works on an image, the next are read and their windows proposed, and the one before is concluded,
    each in a thread of its own. :data:`AHEAD` and :data:`BEHIND` bound the images in memory, however many images
    there are. Close the generator (``contextlib.closing``) to stop early.

    Parameters
    ----------
    detector : ImageDetector
    images : iterable
        Whatever :func:`sppnet.data.image.as_image` takes.
    threshold : float or None
        As in :meth:`.base.BaseDetector.detect`; the detector's own when None.
    conclude : callable
        ``conclude(image, pixels, detections)`` makes the result of an image, one at a time and in order; ``pixels``
        are RGB uint8 (H, W, 3). What it raises is raised here.

    Yields
    ------
    The results, or the ImageError of a file that cannot be read, in the order of the images.
    """

    def prepare(image: Source) -> tuple[Source, Array, Array] | ImageError:
        try:
            pixels = as_image(image)
        except ImageError as error:
            return error
        return image, pixels, detector.propose(pixels)

    def find(prepared: tuple[Source, Array, Array]) -> tuple[Source, Array, Detections]:
        image, pixels, windows = prepared
        return image, pixels, detector.detect(pixels, threshold, windows)

    with (
        closing(ahead(prepare, images, AHEAD)) as prepared,
        closing(
            ahead(_past_errors(lambda found: conclude(*found)), map(_past_errors(find), prepared), BEHIND)
        ) as results,
    ):
        yield from results


def detect_files(
    detector: ImageDetector, paths: Iterable[Path], threshold: float | None = None, finish: Finish | None = None
) -> Generator[ImageDetections | ImageError, None, None]:
    """What a detector finds in each file, for results and drawings (see :func:`detect_images`).

    Parameters
    ----------
    detector : ImageDetector
    paths : iterable of Path
    threshold : float, optional
        As in :meth:`.base.BaseDetector.detect`; the detector's own when absent.
    finish : callable, optional
        ``finish(path, image, detections)`` is called for each image, one at a time and in order; its result comes
        after that. What it raises is raised here.

    Returns
    -------
    Generator of ImageDetections, or the ImageError of a file that cannot be read, in the order of the files.
    """

    def conclude(path: Path, image: Array, found: Detections) -> ImageDetections:
        if finish is not None:
            finish(path, image, found)
        height, width = image.shape[:2]
        return ImageDetections(str(path), width, height, found)

    return detect_images(detector, paths, threshold, conclude)


def _past_errors(function: Callable[[Item], Result]) -> Callable[[Item | ImageError], Result | ImageError]:
    """The function, which hands on an error of an earlier stage in the place of its result."""
    return lambda item: item if isinstance(item, ImageError) else function(item)
