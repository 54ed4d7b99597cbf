"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from functools import cache

#: Images between two returns.
EVERY = 25

_images = itertools.count(1)


def after_image() -> None:
    """Call it once for each image worked on: every now and then what is free goes back to the system.

    glibc keeps what a program frees for its next wish. Blocks of some megabytes, as large as the image at hand, leave
    its heap in pieces too small for the next image: gigabytes of them after a thousand.
    """
    if next(_images) % EVERY == 0:
        _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """``malloc_trim`` of glibc; elsewhere, something that does nothing."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows, which has no library None
        return lambda pad: None
