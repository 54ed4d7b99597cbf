"""Find photographs without labels: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cleaning import Tally
from .errors import InputError
from .image import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_drawing
from .sample import Sample, SampleList


@dataclass(frozen=True)
class ImageSearch:
    """What names, folders and patterns stand for.

    Attributes
    ----------
    paths : list of Path
        In the order of the patterns, sorted within each pattern, without duplicates.
    missing : dict of str to str
        For each pattern that stands for no image what is wrong with it.
    left_out : Tally
        Pictures of formats that cannot be read, and folders that cannot be opened.
    """

    paths: list[Path]
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
        folder ``images``, and the small copies for pages in a folder ``previews``.

    Raises
    ------
    InputError
        When none of the patterns stands for an image.
    """
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    left_out = Tally()
    for pattern in patterns:
        paths = list(_images_of(Path(pattern), left_out))
        if not paths:
            missing[str(pattern)] = f"{pattern}: {_what_is_missing(Path(pattern))}"
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    if missing and not found:
        raise InputError(next(iter(missing.values())))
    return ImageSearch(list(found.values()), missing, left_out)


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """The paths of :func:`search_images`, each of whose patterns must stand for an image.

    Raises
    ------
    InputError
        When a pattern stands for no image.
    """
    found = search_images(patterns)
    if found.missing:
        raise InputError(next(iter(found.missing.values())))
    return found.paths


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
    return "no such image; expected a file, a folder or a pattern"
