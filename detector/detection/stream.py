"""Detection in many images: on CPU cores one image on each, before and after a GPU several at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import Protocol, TypeVar

import torch

from ...data.addresses import Address, Photograph, fetched_ahead
from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.cores import cpu_count
from ...data.detections import Detections
from ...data.errors import ImageError
from ...data.formats import ImageDetections
from ...data.image import as_image
from ...data.memory import available
from ..convolutions.threads import divided

Item = TypeVar("Item")
Result = TypeVar("Result")
Source = TypeVar("Source")

#: Called with a file, its image, RGB uint8 (H, W, 3), and its detections.
Finish = Callable[[Photograph, Array, Detections], object]

#: Most images in work on CPU cores, and images beyond them that are done or wait, so that a core need not wait while
#: another has a large one.
MOST, SPARE = 16, 2

#: Bytes that an image in work may take: with VGG-16 at the paper's five scales one took 1.2 GB, four took 2.4.
EACH = 1.5e9

#: Images read ahead of those in a network on a GPU, besides one for each further thread that reads. Two, so that the
#: network does not wait for one slow file.
AHEAD = 2

#: Images that have left such a network and are still being finished, besides one for each further thread that finishes.
#: More would not help: finishing takes less time.
BEHIND = 1

#: Images that go through it together, if they have the same shape.
TOGETHER = 4


class ImageDetector(Protocol):
    """Interface of a detector, such as :class:`.detector.SPPDetector` or :class:`.combination.CombinedDetector`.

    ``detect`` with the windows from ``propose`` must give the same result as ``detect`` without windows.
    """

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        ...

    def propose(self, image: Array) -> Array:
        """Propose windows (N, 4) in an RGB uint8 image (H, W, 3).

        Called on several images at a time, and while ``detect`` runs on others.
        """
        ...

    def detect(self, image: Array, threshold: float | None, windows: Array) -> Detections:
        """Find objects in the image among these windows; on CPU cores called on several images at a time."""
        ...

    def detect_batch(
        self, images: Sequence[Array], threshold: float | None, windows: Sequence[Array]
    ) -> list[Detections]:
        """Find objects in several images; only for a network on a GPU."""
        ...


def detect_images(
    detector: ImageDetector,
    images: Iterable[Source],
    threshold: float | None,
    conclude: Callable[[Source, Array, Detections], Result],
) -> Generator[Result | ImageError, None, None]:
    """Detect in many images and yield ``conclude`` of each; the results are those of one image after another.

    On a CPU each core has an image of its own, from reading to ``conclude``: cores that share an image wait for each
    other. A network on a GPU works on several images at a time; meanwhile, all cores but one read the next images and
    propose their windows, and conclude the previous ones. :data:`MOST`, :data:`EACH` and :data:`SPARE`, or
    :data:`AHEAD`, :data:`TOGETHER` and :data:`BEHIND`, bound the number of images in memory. Close the generator
    (``contextlib.closing``) to stop early.

    Parameters
    ----------
    detector : ImageDetector
    images : iterable
        Anything that :func:`sppnet.data.image.as_image` accepts.
    threshold : float or None
        As in :meth:`.interface.BaseDetector.detect`; the detector's own if None.
    conclude : callable
        ``conclude(image, pixels, detections)`` returns the result of an image; it is called for several images at a
        time. ``pixels`` are RGB uint8 (H, W, 3). Its exceptions are raised here.

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

    def whole(image: Source) -> Result | ImageError:
        prepared = prepare(image)
        if isinstance(prepared, ImageError):
            return prepared
        _, pixels, windows = prepared
        return conclude(image, pixels, detector.detect(pixels, threshold, windows))

    def find_together(
        prepared: Iterator[tuple[Source, Array, Array] | ImageError],
    ) -> Iterator[tuple[Source, Array, Detections] | ImageError]:
        while group := list(islice(prepared, TOGETHER)):
            read = [one for one in group if not isinstance(one, ImageError)]
            found = iter(detector.detect_batch([one[1] for one in read], threshold, [one[2] for one in read]))
            yield from (one if isinstance(one, ImageError) else (*one[:2], next(found)) for one in group)

    def end(found: tuple[Source, Array, Detections] | ImageError) -> Result | ImageError:
        return found if isinstance(found, ImageError) else conclude(*found)

    if detector.device.type == "cpu":
        with closing(_on_all_cores(whole, images)) as results:
            yield from results
        return
    threads = max(1, cpu_count() - 1)
    with (
        closing(ahead(prepare, images, AHEAD + threads + TOGETHER - 2, threads)) as prepared,
        closing(ahead(end, find_together(prepared), BEHIND + threads - 1, threads)) as results,
    ):
        yield from results


def _on_all_cores(work: Callable[[Source], Result], images: Iterable[Source]) -> Generator[Result, None, None]:
    """``map(work, images)`` with one image for each core, which torch then has for itself.

    Where there are fewer images than cores, or is memory for fewer, each has several. The cores are those of
    ``torch.get_num_threads()``.
    """
    with divided() as cores:
        rest = iter(images)
        first = list(islice(rest, int(max(1, min(cores, MOST, available() / EACH)))))
        workers = max(1, len(first))
        begin = partial(torch.set_num_threads, cores // workers)
        with closing(ahead(work, chain(first, rest), workers - 1 + SPARE, workers, begin)) as results:
            yield from results


def detect_files(
    detector: ImageDetector,
    photographs: Sequence[Photograph],
    threshold: float | None = None,
    finish: Finish | None = None,
) -> Generator[ImageDetections | ImageError, None, None]:
    """Detect in many files, for results and drawings (see :func:`detect_images`); those at addresses are fetched ahead.

    Parameters
    ----------
    detector : ImageDetector
    photographs : sequence of Path or Address
    threshold : float, optional
        As in :meth:`.interface.BaseDetector.detect`; the detector's own by default.
    finish : callable, optional
        ``finish(photograph, image, detections)`` is called before the result of an image is yielded, for several at a
        time. Its exceptions are raised here.

    Yields
    ------
    ImageDetections, or the ImageError of a file that cannot be read, in the order of the files.
    """

    def conclude(photograph: Photograph, image: Array, found: Detections) -> ImageDetections:
        if finish is not None:
            finish(photograph, image, found)
        height, width = image.shape[:2]
        return ImageDetections(str(photograph), width, height, found)

    if not any(isinstance(photograph, Address) for photograph in photographs):
        yield from detect_images(detector, photographs, threshold, conclude)
        return
    with closing(fetched_ahead(photographs)) as fetched:
        yield from detect_images(detector, fetched, threshold, conclude)
