"""Photographs that are on every machine with this package: those that scikit-image, which it needs, brings along."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .errors import InputError

#: An astronaut, a cat, a cup of coffee, a motorcycle and a rocket; their licences stand in scikit-image's own folder.
_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def sample_photographs() -> list[Path]:
    """Their files.

    Raises
    ------
    InputError
        When scikit-image is not installed, or without them.
    """
    found = find_spec("skimage")
    folder = Path(found.origin).parent / "data" if found is not None and found.origin else None
    paths = [] if folder is None else [folder / name for name in _NAMES if (folder / name).is_file()]
    if not paths:
        raise InputError("scikit-image, whose photographs serve as samples, is not installed; give photographs")
    return paths
