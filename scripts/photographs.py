"""The photographs that a command line names, and names for their drawings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.addresses import Photograph

#: Longest file name on most file systems, bytes.
_NAME_BYTES = 255


def photographs(args: argparse.Namespace) -> tuple[list[Photograph], dict[str, str]]:
    """List the files of IMAGES, or the samples; and the errors of IMAGES that stand for no file, named on stderr.

    Raises
    ------
    InputError
        When neither or both are given, or there are no files.
    """
    from ..data.errors import InputError
    from ..data.example_photographs import free_photographs

    if bool(args.images) == args.samples:
        found = "both" if args.samples else "neither"
        raise InputError(f"expected IMAGES or --samples (photographs that come with scikit-image), not {found}")
    return ([*free_photographs()], {}) if args.samples else searched(args.images)


def searched(patterns: Iterable[str]) -> tuple[list[Photograph], dict[str, str]]:
    """Photographs of names, folders, patterns, lists and addresses, and the errors of those that stand for none.

    The errors, and pictures of formats that are not read, are named on stderr.

    Raises
    ------
    InputError
        When there are no files.
    """
    from ..data.folder import search_images
    from ..data.progress import warn

    found = search_images(patterns)
    for line in (*found.missing.values(), *(f"warning: {line}" for line in found.left_out.lines())):
        warn(f"sppnet: {line}")
    return found.paths, found.missing


def check_replaced(drawings: Iterable[Path]) -> None:
    """Refuse to overwrite existing files that are not our drawings: they may be the user's photographs.

    Raises
    ------
    InputError
        When there is such a file; the message names the first.
    """
    from ..data.errors import InputError
    from ..data.image import is_drawing

    for path in drawings:
        if path.exists() and not is_drawing(path):
            raise InputError(f"{path}: already exists and was not drawn by this command; choose another --out")


def drawn_names(paths: Sequence[Photograph]) -> dict[Photograph, str]:
    """A unique file name ``NAME.jpg`` for each path; the second of two equal stems becomes ``NAME-2.jpg``.

    Names that are too long for file systems are shortened.
    """
    return dict(zip(paths, _distinct(path.stem for path in paths), strict=True))


def _distinct(stems: Iterator[str]) -> Iterator[str]:
    taken: set[str] = set()
    for stem in stems:
        name, number = _fitting(stem), 1
        while name.casefold() in taken:
            number += 1
            name = _fitting(stem, f"-{number}")
        taken.add(name.casefold())
        yield f"{name}.jpg"


def _fitting(stem: str, end: str = "") -> str:
    """Stem with an end; the stem is shortened if the file name would be too long."""
    room = _NAME_BYTES - len(end) - len(".jpg")
    encoded = os.fsencode(stem)
    return (stem if len(encoded) <= room else encoded[:room].decode(errors="ignore")) + end
