"""Photographs that are on every machine with this package: those that scikit-image, which it needs, brings along."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .errors import InputError

# All of them, for measuring; the motorcycle, of the Middlebury stereo benchmark, comes without a stated licence.
_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")

# Those that may be shown, changed or not, by what ``skimage.data`` says of each.
_FREE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def sample_photographs() -> list[Path]:
    """The files of five photographs, to measure with.

    Raises
    ------
    InputError
        When scikit-image is not installed, or without them.
    """
    return _files(_NAMES)


def free_photographs() -> list[Path]:
    """The files of those photographs whose licences allow results to be drawn on them and shown.

    By the documentation of ``skimage.data``: an astronaut (by NASA, public domain), Chelsea the cat (by Stefan van der
    Walt, CC0), a cup of coffee (by Rachel Michetti, CC0) and a rocket (by SpaceX, public domain).

    Raises
    ------
    InputError
        When scikit-image is not installed, or without them.
    """
    return _files(_FREE)


def _files(names: tuple[str, ...]) -> list[Path]:
    found = find_spec("skimage")
    folder = Path(found.origin).parent / "data" if found is not None and found.origin else None
    paths = [] if folder is None else [folder / name for name in names if (folder / name).is_file()]
    if not paths:
        raise InputError("scikit-image, whose photographs serve as samples, is not installed; give photographs")
    return paths
