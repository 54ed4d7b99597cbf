"""Return free memory to the system."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from functools import cache

#: Number of images between two returns.
EVERY = 25

_images = itertools.count(1)


def after_image() -> None:
    """Return free memory to the system once in every ``EVERY`` calls; call it after each image.

    glibc keeps freed memory for later. Blocks of some megabytes, of different sizes for each image, fragment its heap
    into pieces too small for the next image: gigabytes after a thousand images.
    """
    if next(_images) % EVERY == 0:
        _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """``malloc_trim`` of glibc; without glibc, a function that does nothing."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows, where CDLL(None) fails
        return lambda pad: None
