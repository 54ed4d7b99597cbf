"""Content keys and atomic files, for caches and resumable work."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array


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
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it to ``path`` if the block succeeds, remove it otherwise.

    A process killed inside the block leaves ``path`` unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Part of the name identifies a file that a killed process left; with the additions the whole could be too long.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:20]}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; our files should follow the user's umask like any other file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


class Checkpoint:
    """Named arrays of one stage in one file; written atomically, found only with the same key."""

    def __init__(self, folder: str | Path, stage: str, key: str):
        self.path = Path(folder) / f"{stage}-{key}.npz"

    def save(self, arrays: dict[str, Array]) -> None:
        """Save the arrays, replacing earlier ones."""
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self) -> dict[str, Array] | None:
        """The saved arrays, or None; a damaged file counts as none."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return dict(file)
        except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
            return None
