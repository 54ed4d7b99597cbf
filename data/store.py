"""Content keys, atomic files and a lock, for caches and resumable work."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from .arrays import Array
from .errors import InputError

#: What numpy raises for damaged ``.npy`` and ``.npz`` files: nothing else in 850,000 damaged at random. A header is
#: Python (SyntaxError, TokenError, TypeError) and may claim any shape (MemoryError); an archive may claim to be
#: encrypted, or of a later version of zip (RuntimeError and a subclass of it).
_DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, SyntaxError, MemoryError, RuntimeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

#: In the name of every file that is not complete yet.
_UNFINISHED = ".sppnet-"


def file_key(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def content_key(*parts: Any) -> str:
    """A key of 32 hex digits for JSON-like parts (dict keys sorted) and bytes.

    Two calls return the same key only if their parts are equal, so options never find an
    entry that was made with other options.
    """
    state = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:32]


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it to ``path`` if the block succeeds, remove it otherwise.

    A process killed inside the block leaves ``path`` unchanged.

    Parameters
    ----------
    path : str or Path
    durable : bool
        Wait until the disk has the file, so that after a power cut ``path`` is the old file or the new one as well.
        300 maps of 1 MB took 2.3 s instead of 0.2 s. So entries of caches are not waited for: they have a checksum.

    Raises
    ------
    OSError
        When the file cannot be written, whoever failed to; it names ``path`` and the reason.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Part of the name identifies a file that a killed process left; with the additions the whole could be too long.
    prefix = f".{path.stem[:20]}{_UNFINISHED}"
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if durable:
            _flush(temporary, os.O_RDWR)
        # mkstemp makes files private; our files should follow the user's umask like any other file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
        if durable and os.name == "posix":  # Windows opens no folders
            with suppress(OSError):  # nor do some network drives; the file itself is there
                _flush(path.parent, os.O_RDONLY)
    except Exception as error:
        failure = _failed_write(error, path, prefix)
        if failure is None:
            raise
        raise failure from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _flush(path: Path, flags: int) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failed_write(error: Exception, path: Path, prefix: str) -> OSError | None:
    """The error with the name ``path`` if it is that of a write to the temporary file; otherwise None."""
    # Libraries in Rust (safetensors) have errors of their own.
    number = re.search(r"\bos (?:error|\{ code:) (\d+)", str(error), re.IGNORECASE)
    if isinstance(error, OSError):
        if error.filename is not None and not os.path.basename(str(error.filename)).startswith(prefix):
            return None
        # numpy says only how many bytes it wrote.
        return OSError(error.errno or errno.EIO, error.strerror or str(error), str(path))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path)) if number else None


def writable_text(text: str) -> str:
    r"""Replace the parts of a file's name that UTF-8 cannot say by backslash escapes of their bytes.

    Examples
    --------
    >>> from sppnet.data.store import writable_text
    >>> print(writable_text("caf\udce9.jpg"))
    caf\xe9.jpg
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, as Windows allows
        data = text.encode("utf-8", "surrogatepass")
    return data.decode("utf-8", "backslashreplace")


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write ``text`` in UTF-8, atomically, with the escapes of :func:`writable_text`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(writable_text(text), encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other runs out of a work folder, and remove what killed runs have left in it half-written.

    The lock ends with the process, however that ends.

    Raises
    ------
    InputError
        When another run has the folder.
    """
    import filelock  # takes 0.1 s, which only trainings need to wait

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = filelock.FileLock(folder / ".lock"), folder / ".lock.process"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            process = f" (process {int(holder.read_text())})"
        except (OSError, ValueError):
            process = ""
        message = (
            f"{folder}: another run works in this folder{process}; wait for its end, or choose another with --work"
        )
        raise InputError(message) from None
    try:
        holder.write_text(str(os.getpid()))
        remove_unfinished(folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def remove_unfinished(folder: Path) -> None:
    """Remove what killed runs have left half-written in a folder, and in the folders right below."""
    for left in (*folder.glob(f".*{_UNFINISHED}*"), *folder.glob(f"*/.*{_UNFINISHED}*")):
        with suppress(OSError):
            left.unlink()


def is_entry(path: Path) -> bool:
    """Whether an entry of a cache or of other kept work is there; a folder in its place is removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    return path.is_file()


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def read_json(path: Path) -> Any:
    """The value of a kept JSON file; None if the file is missing, damaged, or has numbers that are not finite."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_json) if is_entry(path) else None
    except (OSError, ValueError, RecursionError):
        return None


class _Summed:
    """A file to write to, and the checksum of what was written."""

    def __init__(self, file: IO[bytes]):
        self.file, self.checksum = file, 0

    def write(self, data: bytes) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self.file.write(data)


def _mark(checksum: int) -> bytes:
    """What stands behind a stored array."""
    return b"sppnet crc32" + checksum.to_bytes(4, "little")


def save_array(path: Path, array: Array) -> None:
    """Save an array as an entry of a cache, atomically: a ``.npy`` file with a checksum behind it.

    The checksum tells what a power cut may leave, such as pages of zeros. ``numpy.load`` takes no notice of it.
    """
    with atomic_path(path, durable=False) as temporary, open(temporary, "wb") as file:
        summed = _Summed(file)
        np.save(summed, array, allow_pickle=False)
        file.write(_mark(summed.checksum))


def load_array(path: Path) -> Array | None:
    """An array of :func:`save_array`; None if the file is missing, damaged or holds NaN.

    A file of an earlier version has no checksum. A map of 1.3 MB takes 1 ms, with ``numpy.load`` 0.2 ms.
    """
    if not is_entry(path):
        return None
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            end = file.tell()
            behind = file.read()
            file.seek(0)
            if behind and behind != _mark(zlib.crc32(file.read(end))):
                return None
    except _DAMAGED:
        return None
    return None if np.isnan(array).any() else array


def load_arrays(path: Path, shapes: Mapping[str, Sequence[int | None]]) -> dict[str, Array] | None:
    """All arrays of an ``.npz`` file; None if the file is missing or damaged, or others are in it.

    Parameters
    ----------
    path : Path
    shapes : mapping of str to sequence of int or None
        Names and shapes of arrays that must be there, without NaN; None stands for any length.
    """
    if not is_entry(path):
        return None
    try:
        # Each member of the archive has a checksum.
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except _DAMAGED:
        return None
    return arrays if all(name in arrays and _fits(arrays[name], shape) for name, shape in shapes.items()) else None


class Checkpoint:
    """Named arrays of one stage in one file; written atomically, found only with the same key."""

    def __init__(self, folder: str | Path, stage: str, key: str):
        self.path = Path(folder) / f"{stage}-{key}.npz"

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Save the arrays, replacing earlier ones."""
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self, shapes: Mapping[str, Sequence[int | None]]) -> dict[str, Array] | None:
        """The saved arrays; None, and ``shapes``, as of :func:`load_arrays`."""
        return load_arrays(self.path, shapes)


def _fits(array: Array, shape: Sequence[int | None]) -> bool:
    """Whether an array has a shape, with None for any length, and no NaN."""
    alike = len(array.shape) == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
    return alike and not (array.dtype.kind == "f" and np.isnan(array).any())
