"""Results of many images, a line for each as it is found, so that a stopped run can go on.

The file is JSON Lines: first a line that says what made the results, then a line for each image. The last line for an
image counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from .detections import Detections
from .errors import InputError
from .formats import ImageDetections


class Journal:
    """Writes results as they come, and finds those of an earlier run; of each image it keeps no more than its place.

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
    places : dict of str to int
        Where the results of each image begin in the file; of an earlier run, of those without an error.

    Raises
    ------
    InputError
        When the file to go on with has another header, or is no such file.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], resume: bool = False) -> None:
        self.path, self.places = path, dict[str, int]()
        self._class_names = tuple(header["classes"])
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
        self.places[image.file] = self._file.tell()
        self._write(image.to_record() if error is None else {**image.to_record(), "error": error})

    def fail(self, file: str, error: str) -> None:
        """Write that an image cannot be read."""
        self.places.pop(file, None)
        self._write({"file": file, "error": error})

    def images(
        self, files: Iterable[str], calibrated: bool, shown: Callable[[Detections], Detections] | None = None
    ) -> KeptImages:
        """The results of those of the files that have any, in their order.

        Parameters
        ----------
        files : iterable of str
        calibrated : bool
            Whether detections have probabilities: the results of an image without detections do not show it.
        shown : callable, optional
            Applied to the detections of each image.
        """
        known = [file for file in files if file in self.places]
        return KeptImages(self.path, [self.places[file] for file in known], self._class_names, calibrated, shown)

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
                        check_header(json.loads(line), header, path)
                    else:
                        self._take(json.loads(line), end)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    if isinstance(error, InputError):
                        raise
                    raise InputError(
                        f"{path}: line {number + 1} is no result of sppnet; start anew without --resume"
                    ) from None
                end += len(line)
        return end

    def _take(self, record: dict[str, Any], place: int) -> None:
        if "error" in record:
            self.places.pop(record["file"], None)
        else:
            self.places[ImageDetections.from_record(record, self._class_names).file] = place


@dataclass(frozen=True, eq=False)
class KeptImages(Sequence[ImageDetections]):
    """Results in a journal, read again whenever they are asked for: memory does not grow with their number."""

    path: Path
    places: Sequence[int]
    class_names: tuple[str, ...]
    calibrated: bool
    shown: Callable[[Detections], Detections] | None

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[ImageDetections]:
        with open(self.path, "rb") as file:
            for place in self.places:
                file.seek(place)
                yield self._image(file.readline())

    @overload
    def __getitem__(self, index: int) -> ImageDetections: ...

    @overload
    def __getitem__(self, index: slice) -> KeptImages: ...

    def __getitem__(self, index: int | slice) -> ImageDetections | KeptImages:
        if isinstance(index, slice):
            return replace(self, places=self.places[index])
        with open(self.path, "rb") as file:
            file.seek(self.places[index])
            return self._image(file.readline())

    def _image(self, line: bytes) -> ImageDetections:
        image = ImageDetections.from_record(json.loads(line), self.class_names)
        found = image.detections
        if self.calibrated and not found.calibrated:
            found = found.replace(probabilities=[])
        return replace(image, detections=found if self.shown is None else self.shown(found))


def check_header(found: Any, header: Mapping[str, Any], path: Path) -> None:
    """Check that earlier results were made with the same header as later ones.

    Raises
    ------
    InputError
        When they were not; the message names what differs.
    """
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
