"""Predictions for many photographs; the next one is read in the background."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.errors import ImageError
from .network import SPPClassifier
from .views import Views, from_crops, predict_views


class Photograph(Protocol):
    """Interface of a photograph, for example a labelled image."""

    @property
    def image(self) -> Array:
        """RGB uint8 (H, W, 3); raises ImageError if the file cannot be read."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for one photograph.

    Attributes
    ----------
    image_size : (height, width), pixels.
    probabilities : float32 array (classes,)
    """

    image_size: tuple[int, int]
    probabilities: Array


def predict_all(
    classifier: SPPClassifier, images: Iterable[Photograph], views: Sequence[Views], crops: bool = False
) -> Generator[Prediction | ImageError, None, None]:
    """Yield the prediction for each photograph, in order, or the error of a file that cannot be read.

    Parameters
    ----------
    classifier : SPPClassifier
    images : iterable of photographs
    views : sequence of Views
    crops : bool
        For comparison: run the network on each view instead of pooling it from the map of the whole image.
    """
    run = from_crops if crops else predict_views
    with closing(ahead(_read, images)) as read:
        for pixels in read:
            if isinstance(pixels, ImageError):
                yield pixels
            else:
                height, width = pixels.shape[:2]
                yield Prediction((height, width), run(classifier, pixels, views))


def _read(photograph: Photograph) -> Array | ImageError:
    try:
        return photograph.image
    except ImageError as error:
        return error
