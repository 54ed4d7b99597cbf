"""Results never go onto what they were made from: the checks of every command that writes."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .embedded import embedded_models
from .errors import InputError
from .folder import images_below
from .voc import find_voc_root

#: Where VOC's layout has its labels.
_LABELS = ("Annotations", "ImageSets/Main")


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse results that would take the place of an input.

    Parameters
    ----------
    outputs : iterable of str or Path
        The files that are going to be written.
    inputs : iterable of str or Path
        The files that are going to be read. They are gone through only when one of the outputs is there already: a
        file that is not there is no input.

    Raises
    ------
    InputError
        When an output is the same file as an input, by whatever name: a link, a hard link, another spelling on a
        file system that does not tell capitals from small letters.
    """
    there: dict[tuple[int, int], str | Path] = {}
    for path in outputs:
        if (key := _identity(path)) is not None:
            there[key] = path
    if not there:
        return
    for path in inputs:
        key = _identity(path)
        if key in there:
            raise InputError(
                f"{there[key]}: would be written over, but is an input ({path}); choose another place for the results"
            )


def files_named(argument: str | Path) -> Iterator[str | Path]:
    """The files that an argument of a command stands for, so far as they can be inputs.

    Of a folder these are its images, in VOC's layout also its labels; what else lies in it may well be earlier results.
    A name of a model that the package carries, a pattern, and a text that is no file at all are allowed.
    """
    path = Path(argument)
    if path.is_dir():
        yield from _inputs_below(path)
    elif path.exists():
        yield path
    elif isinstance(argument, str):
        carried = embedded_models().get(argument)
        yield from [carried] if carried is not None else glob.iglob(argument, recursive=True)


def make_writable(folder: Path) -> None:
    """Make a folder for results, and see that files can be written in it, before long work is done for them.

    Raises
    ------
    InputError
        When it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); expected a folder") from None


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from all others, links followed; None when there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a text with a zero in it
        return None
    return found.st_dev, found.st_ino


def _inputs_below(folder: Path) -> Iterator[Path]:
    yield from images_below(folder)
    try:
        root = find_voc_root(folder)
    except InputError:
        return
    for part in _LABELS:
        yield from (root / part).iterdir()
