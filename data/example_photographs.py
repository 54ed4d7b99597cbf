"""Sample photographs, which come with scikit-image, a requirement of this package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .errors import InputError

# All photographs, for measuring; the motorcycle, of the Middlebury stereo benchmark, has no stated licence.
_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")

# Photographs that may be shown, changed or not, according to ``skimage.data``.
_FREE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def sample_photographs() -> list[Path]:
    """Files of five photographs for measurements.

    Raises
    ------
    InputError
        When scikit-image is not installed, or without them.
    """
    return _files(_NAMES)


def free_photographs() -> list[Path]:
    """Files of the photographs whose licences allow drawing results on them and showing them.

    According to the documentation of ``skimage.data``: an astronaut (NASA, public domain), Chelsea the cat (Stefan van
    der Walt, CC0), a cup of coffee (Rachel Michetti, CC0) and a rocket (SpaceX, public domain).

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
        raise InputError("the sample photographs need scikit-image, which is not installed; give photographs")
    return paths
