"""Find photographs without labels: files, folders, patterns, lists of them, and addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .addresses import Address, Photograph, addresses_at, is_address, local_path
from .cleaning import Tally
from .errors import InputError
from .image import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_drawing
from .sample import Sample, SampleList

#: Suffixes of text files that list photographs, one on each line.
LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True)
class ImageSearch:
    """What names, folders and patterns stand for.

    Attributes
    ----------
    paths : list of Path or Address
        In the order of the patterns, sorted within each pattern, without duplicates.
    missing : dict of str to str
        For each pattern that stands for no image what is wrong with it.
    left_out : Tally
        Pictures of formats that cannot be read, and folders that cannot be opened.
    """

    paths: list[Photograph]
    missing: dict[str, str]
    left_out: Tally


def search_images(patterns: Iterable[str | Path]) -> ImageSearch:
    """Find the image files that names, folders and glob patterns match.

    Parameters
    ----------
    patterns : iterable of str or Path
        A file (of any suffix, even a link to nothing, which reading will report), a folder (searched to any depth for
        ``IMAGE_SUFFIXES``, through links as well; hidden files and folders are skipped) or a pattern such as
        ``photos/*.jpg``; ``**`` is allowed. Folders and patterns skip the drawings that ``sppnet detect`` wrote to a
        folder ``images``, and the small copies for pages in a folder ``previews``. A text file (``LIST_SUFFIXES``) has
        any of these on each line, as seen from the current folder, or else from the list's. An address is
        ``s3://bucket/photos``, or any other of :mod:`.addresses`.

    Raises
    ------
    InputError
        When none of the patterns stands for an image.
    """
    found: dict[str, Photograph] = {}
    missing: dict[str, str] = {}
    left_out = Tally()
    for pattern, place in _listed(patterns):
        try:
            paths = list(_photographs_of(pattern, left_out))
        except InputError as error:
            missing[str(pattern)] = f"{place}{error}"
        else:
            for path in paths:
                found.setdefault(str(path) if isinstance(path, Address) else os.path.abspath(path), path)
    if missing and not found:
        raise InputError(next(iter(missing.values())))
    return ImageSearch(list(found.values()), missing, left_out)


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """The paths of :func:`search_images`, each of whose patterns must stand for image files.

    Raises
    ------
    InputError
        When a pattern stands for no image, or for addresses.
    """
    found = search_images(patterns)
    if found.missing:
        raise InputError(next(iter(found.missing.values())))
    paths = [path for path in found.paths if isinstance(path, Path)]
    if len(paths) < len(found.paths):
        raise InputError(
            f"{next(one for one in found.paths if isinstance(one, Address))}: expected files, no addresses"
        )
    return paths


def images_below(folder: Path, left_out: Tally | None = None) -> Iterator[Path]:
    """The image files of a folder at any depth, sorted within each folder.

    Links to folders are followed, but no folder is searched twice. Skips hidden files and folders, and the drawings
    that ``sppnet detect`` wrote to a folder ``images``. What cannot be read is counted in ``left_out``.
    """
    notes, seen = left_out or Tally(), set()

    def report(error: OSError) -> None:
        notes.add(f"folder that cannot be opened ({error.strerror}), left out", str(error.filename))

    for parent, folders, files in os.walk(folder, onerror=report, followlinks=True):
        here = os.stat(parent)
        # A link may lead to a folder above.
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        may_hold_drawings = _may_hold_drawings(parent)
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in UNREAD_SUFFIXES:
                notes.add(f"{suffix} file, a format that is not read, left out", str(Path(parent, name)))
            elif suffix in IMAGE_SUFFIXES:
                path = Path(parent, name)
                if not (may_hold_drawings and is_drawing(path)):
                    yield path


class FolderDataset(SampleList):
    """Photographs without labels as a dataset.

    Parameters
    ----------
    patterns : str, Path or sequence of them
        As for :func:`find_images`. The id of a sample is its path as found.

    Raises
    ------
    InputError
        When a pattern stands for no image.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/a.png")
    ...     photographs = FolderDataset(folder)
    ...     photographs[0].path.name, photographs[0].image.shape
    ('a.png', (30, 40, 3))
    """

    def __init__(self, patterns: str | Path | Sequence[str | Path]) -> None:
        if isinstance(patterns, str | Path):
            patterns = [patterns]
        super().__init__([_unlabelled(path) for path in find_images(patterns)], class_names=())


def _unlabelled(path: Path) -> Sample:
    return Sample(str(path), path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))


def _listed(patterns: Iterable[str | Path]) -> Iterator[tuple[str | Path, str]]:
    """The patterns, with those in lists instead of the lists; and the line of each, as messages begin with it."""
    for pattern in patterns:
        if is_address(pattern) or Path(pattern).suffix.lower() not in LIST_SUFFIXES or not Path(pattern).is_file():
            yield pattern, ""
            continue
        try:
            lines = Path(pattern).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        except OSError as error:
            raise InputError(f"{pattern}: cannot be read ({error.strerror or error})") from None
        if not any(map(str.strip, lines)):
            raise InputError(f"{pattern}: lists no image")
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _seen_from(Path(pattern).parent, line.strip()), f"{pattern}: line {number}: "


def _seen_from(folder: Path, pattern: str) -> str | Path:
    """A pattern of a list in that folder."""
    return pattern if is_address(pattern) or _is_there(pattern) or not _is_there(folder / pattern) else folder / pattern


def _is_there(pattern: str | Path) -> bool:
    return os.path.lexists(pattern) or any(glob.iglob(str(pattern), recursive=True))


def _photographs_of(pattern: str | Path, left_out: Tally) -> Iterator[Photograph]:
    """What a pattern that is no list stands for.

    Raises
    ------
    InputError
        When it is nothing.
    """
    path: Path | None = Path(pattern)
    if isinstance(pattern, str) and is_address(pattern):
        path = local_path(pattern)
    if path is None:
        yield from addresses_at(str(pattern), IMAGE_SUFFIXES)
        return
    found = False
    for image in _images_of(path, left_out):
        found = True
        yield image
    if not found:
        raise InputError(f"{pattern}: {_what_is_missing(path)}")


def _images_of(path: Path, left_out: Tally) -> Iterator[Path]:
    if path.is_dir():
        yield from images_below(path, left_out)
    elif os.path.lexists(path):
        yield path
    else:
        # A file with a bracket in its name was found above; only patterns remain here.
        for match in sorted(Path(name) for name in glob.glob(str(path), recursive=True)):
            drawn = _may_hold_drawings(match.parent) and is_drawing(match)
            if match.is_file() and match.suffix.lower() in IMAGE_SUFFIXES and not drawn:
                yield match


def _may_hold_drawings(folder: str | Path) -> bool:
    """Whether we may have drawn into this folder; files in other folders need not be opened."""
    return os.path.basename(os.path.abspath(folder)) in ("images", "previews")


def _what_is_missing(path: Path) -> str:
    if path.is_dir():
        suffixes = ", ".join(IMAGE_SUFFIXES)
        return f"no image in this folder (drawings of sppnet do not count); expected files with {suffixes}"
    return "no such image; expected a file, a folder, a pattern, a list of these, or an address"
