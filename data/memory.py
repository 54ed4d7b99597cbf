"""Return free memory to the system, and ask how much there is."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

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


def available() -> float:
    """Bytes of memory that this process may still take; infinity where the system does not say."""
    return min(_left(Path("/proc/meminfo")), _left_to_group(Path("/sys/fs/cgroup")))


def _left(table: Path) -> float:
    """Linux's estimate for the whole machine."""
    with suppress(OSError, ValueError, IndexError):
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return inf


def _left_to_group(folder: Path) -> float:
    """What a container may still take, whatever the machine has; files that the system keeps in memory make room."""
    with suppress(OSError, ValueError):
        most, used = (float((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        table = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        kept = sum(float(table.get(name, 0)) for name in ("inactive_file", "active_file"))
        return max(0.0, most - used + kept)
    return inf
