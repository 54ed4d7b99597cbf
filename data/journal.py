"""Results of many images, a line for each as it is found, so that a stopped run can go on.

The file is JSON Lines: first a line that says what made the results, then a line for each image. The last line for an
image counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .formats import ImageDetections


class Journal:
    """Writes results as they come, and has those of an earlier run.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` file.
    header : mapping
        JSON-like: whatever the results depend on but the images. "classes" are the names of the classes.
    resume : bool
        Go on with the file if it is there. Otherwise it is written over.

    Attributes
    ----------
    earlier : dict of str to ImageDetections
        What is in the file without an error, by image file.

    Raises
    ------
    InputError
        When the file to go on with has another header, or is no such file.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], resume: bool = False) -> None:
        self.earlier: dict[str, ImageDetections] = {}
        end = self._read(path, header) if resume and path.exists() else 0
        self._file = open(path, "r+b" if end else "wb")  # noqa: SIM115 - closed by __exit__
        # A run that was killed may have left half a line.
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._write(header)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, image: ImageDetections, error: str | None = None) -> None:
        """Write the results of an image; with an ``error``, such as that of its drawing, it is to be done again."""
        self._write(image.to_record() if error is None else {**image.to_record(), "error": error})

    def fail(self, file: str, error: str) -> None:
        """Write that an image cannot be read."""
        self._write({"file": file, "error": error})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _read(self, path: Path, header: Mapping[str, Any]) -> int:
        """Read the whole lines; returns where they end."""
        end = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                try:
                    if number == 0:
                        _check_header(json.loads(line), header, path)
                    else:
                        self._take(json.loads(line), header["classes"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    if isinstance(error, InputError):
                        raise
                    raise InputError(
                        f"{path}: line {number + 1} is no result of sppnet; start anew without --resume"
                    ) from None
                end += len(line)
        return end

    def _take(self, record: dict[str, Any], class_names: tuple[str, ...]) -> None:
        if "error" in record:
            self.earlier.pop(record["file"], None)
        else:
            self.earlier[record["file"]] = ImageDetections.from_record(record, class_names)


def _check_header(found: Any, header: Mapping[str, Any], path: Path) -> None:
    wanted = json.loads(json.dumps(header))
    if not isinstance(found, dict) or "classes" not in found:
        raise InputError(f"{path}: not the results of an interrupted run; start anew without --resume")
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            raise InputError(
                f"{path}: was made with another {key} ({_short(found.get(key))}, now {_short(wanted.get(key))}); "
                "start anew without --resume"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
