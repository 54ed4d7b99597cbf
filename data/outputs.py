"""Checks of what commands will write: never over their inputs, and only where it can be written."""

from __future__ import annotations

import glob
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import disk_usage

from .embedded import embedded_models
from .errors import InputError
from .exports import CVAT
from .folder import images_below
from .progress import log, warn
from .voc import find_voc_root
from .yolo import CONFIGS, NAMES, label_file

#: Where VOC's layout has its labels.
_LABELS = ("Annotations", "ImageSets/Main")


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse to write results over an input.

    Parameters
    ----------
    outputs : iterable of str or Path
        The files to write.
    inputs : iterable of str or Path
        The files to read. They are only iterated if one of the outputs exists: a missing file is not an input.

    Raises
    ------
    InputError
        When an output is the same file as an input, under any name: a link, a hard link, another spelling on a
        case-insensitive file system.
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
    """The files that an argument of a command refers to and that can be inputs.

    For a folder these are its images and their labels; other files in it may be earlier results. The
    argument may also be the name of a bundled model, a pattern or any other text.
    """
    path = Path(argument)
    if path.is_dir():
        yield from _inputs_below(path)
    elif path.suffix.lower() in (".yaml", ".yml") and path.exists():
        yield path
        yield from _inputs_below(path.parent)
    elif path.exists():
        yield path
    elif isinstance(argument, str):
        carried = embedded_models().get(argument)
        yield from [carried] if carried is not None else glob.iglob(argument, recursive=True)


def check_writable(files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Check that results can be written, before long work starts; nothing is made.

    Parameters
    ----------
    files : iterable of Path
        The files to write; their folders may be missing.
    folders : iterable of Path
        More folders to write in, which may be missing.

    Raises
    ------
    InputError
        When one of the files is there and is a folder or a device, or a folder cannot be made or written to.
    """
    places = dict.fromkeys(folders)
    for file in files:
        try:
            kind = os.stat(file).st_mode
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror or error}); expected a file") from None
        else:
            if not stat.S_ISREG(kind):  # a device, such as /dev/null, would be replaced by a file
                found = "a folder" if stat.S_ISDIR(kind) else "no ordinary file"
                raise InputError(f"{file}: is {found}; expected a file to write")
        places[file.parent] = None
    for nearest in dict.fromkeys(_nearest(folder) for folder in places):
        _write_in(nearest)


def make_writable(folder: Path) -> None:
    """Make a folder for results and check that files can be written in it, before long work starts.

    Raises
    ------
    InputError
        When it cannot be made or written to.
    """
    _write_in(_nearest(folder))
    folder.mkdir(parents=True, exist_ok=True)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    for place in (folder, *folder.parents):
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # as writing in it will say
            pass
        return place
    return folder


def report_disk(folder: Path, needed: float, quiet: bool) -> None:
    """Say how much disk a folder of intermediate results will take, and warn if there is less.

    Parameters
    ----------
    folder : Path
        Of ``--work``; it exists.
    needed : float
        Bytes, of which what is in the folder already is a part.
    quiet : bool
        Only warn.
    """
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    log(f"disk: about {needed / 1e6:.0f} MB in {folder}, {taken / 1e6:.0f} MB of them there already", quiet)
    free = disk_usage(folder).free
    if needed - taken > free:
        warn(
            f"warning: {folder}: about {needed / 1e6:.0f} MB are needed, and the disk has {free / 1e6:.0f} MB free; "
            "choose another with --work"
        )


def _write_in(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); expected a folder") from None


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Identity of a file, after following links; None if the file does not exist."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a text with a null character
        return None
    return found.st_dev, found.st_ino


def _inputs_below(folder: Path) -> Iterator[Path]:
    for image in images_below(folder):
        yield image
        beside = (image.with_suffix(".xml"), image.with_suffix(".json"), label_file(image))
        yield from filter(Path.is_file, beside)
    yield from filter(Path.is_file, (folder / name for name in (*CONFIGS, *NAMES, CVAT)))
    try:
        root = find_voc_root(folder)
    except InputError:
        return
    for part in _LABELS:
        yield from (root / part).iterdir()
