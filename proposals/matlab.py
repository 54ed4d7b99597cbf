"""Read MATLAB files in another process: scipy's reader can crash on damaged ones, which must not cost any results.

Run as a program, this file is that process. It then reads lines with a path in JSON. It answers each with a byte (1 for
success), the length of what follows in 8 bytes, and an ``.npz`` of the file's arrays or the text of an error. An array
of cells becomes an array for each cell, ``NAME/0``, ``NAME/1`` and so on.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

_READER = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def read_matlab(file: Path) -> dict[str, Any]:
    """The arrays of a MATLAB file by name; an array of cells is a list.

    Raises
    ------
    ValueError
        When it cannot be read; the message says why.
    """
    with _READER:
        answer = _asked(str(file.absolute()))
    if answer is None:
        raise ValueError("damaged: it crashes the reader of MATLAB files")
    succeeded, content = answer
    if not succeeded:
        raise ValueError(content.decode(errors="replace"))
    found: dict[str, Any] = {}
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        for key in arrays.files:
            name, cell, _ = key.partition("/")
            if cell:
                found.setdefault(name, []).append(arrays[key])
            else:
                found[name] = arrays[key]
    return found


def _asked(path: str) -> tuple[bool, bytes] | None:
    """The other process's answer; None if it dies of it."""
    global _process
    if _process is None:
        _process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(_process.kill)
    requests, answers = cast(IO[bytes], _process.stdin), cast(IO[bytes], _process.stdout)
    try:
        requests.write(json.dumps(path).encode() + b"\n")
        requests.flush()
        head = answers.read(9)
        content = answers.read(int.from_bytes(head[1:], "little"))
    except OSError:
        head = b""
    if len(head) < 9:
        _process.kill()
        _process = None
        return None
    return head[0] == 1, content


def _arrays(path: str) -> dict[str, Any]:
    """The arrays of a file, and those of its cells."""
    from scipy.io.matlab import loadmat, matfile_version

    if matfile_version(path)[0] == 2:
        raise ValueError("MATLAB v7.3 files are HDF5; save it with -v7 in MATLAB")
    arrays = {}
    for name, value in loadmat(path).items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[name] = value
        elif isinstance(value, np.ndarray):
            arrays |= {f"{name}/{number}": np.asarray(cell) for number, cell in enumerate(value.ravel())}
    return arrays


def _answer() -> None:
    for line in sys.stdin.buffer:
        try:
            packed = BytesIO()
            np.savez(packed, **_arrays(json.loads(line)))
            succeeded, content = 1, packed.getvalue()
        except Exception as error:  # damaged files raise anything
            succeeded, content = 0, (str(error) or type(error).__name__).encode(errors="replace")
        sys.stdout.buffer.write(bytes([succeeded]) + len(content).to_bytes(8, "little") + content)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules are no libraries
    _answer()
