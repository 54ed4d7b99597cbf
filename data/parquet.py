"""Results as Parquet, a row for each photograph: one file, or a folder of parts that several processes write.

A row has ``file``, ``width``, ``height``, ``error`` and ``detections``, a list of ``label``, ``score``, ``probability``
and ``box`` (x1, y1, x2, y2). What is not known is null: the size and detections of a photograph that cannot be read,
the probabilities of a model that has none. pyarrow writes them (``pip install sppnet[parquet]``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .detections import Detections
from .errors import InputError
from .formats import ImageDetections, Results
from .journal import check_header
from .store import atomic_path, content_key, read_json, writable_text, write_json

#: Rows that are written and read at a time.
ROWS = 1000

#: Key of our entry in the metadata of a file.
_METADATA = b"sppnet"


class Row(NamedTuple):
    """A photograph in a Parquet file: what was found, unless it cannot be read, and its error, if there is one."""

    file: str
    image: ImageDetections | None
    error: str | None


def check_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises
    ------
    InputError
        When it is not.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError("Parquet needs pyarrow: pip install 'sppnet[parquet]'") from None


def rows_of(results: Results) -> Iterator[Row]:
    """The rows of results: images in their order, each with its error, if any, then other failed files."""
    failed = dict(results.failed)
    for image in results.images:
        yield Row(image.file, image, failed.pop(image.file, None))
    for file, error in failed.items():
        yield Row(file, None, error)


def write_parquet(path: str | Path, results: Results) -> None:
    """Write results as one Parquet file."""
    header = {"model": results.model, "version": results.version, "classes": list(results.class_names)}
    write_rows(path, rows_of(results), header)


def write_rows(path: str | Path, rows: Iterable[Row], header: Mapping[str, Any]) -> None:
    """Write rows as a Parquet file, atomically; the header, JSON-like, becomes metadata."""
    import pyarrow.parquet as pq

    schema = _schema().with_metadata({_METADATA: json.dumps(header).encode()})
    left = iter(rows)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while part := list(islice(left, ROWS)):
            writer.write_table(_table(part, schema))


def read_rows(path: str | Path, class_names: Sequence[str]) -> Iterator[Row]:
    """Read the rows of a Parquet file of ours back.

    Raises
    ------
    InputError
        When it cannot be read, or is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.remove_metadata().equals(_schema()):
                raise InputError(f"{path}: not results of sppnet; expected its columns")
            for batch in file.iter_batches(ROWS):
                yield from _rows(batch, tuple(class_names))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a Parquet file of sppnet's results ({error})") from None


class Parts:
    """Results in a folder of Parquet files; each part is written as a whole, and nothing else changes.

    Parameters
    ----------
    folder : Path
        It is made. ``_header.json`` in it says what made the results; readers of Parquet pass over it.
    header : mapping
        JSON-like: whatever the results depend on but the photographs. "classes" are the names of the classes.
    resume : bool
        Go on with parts that are there.

    Raises
    ------
    InputError
        When there are parts and they are not to be gone on with, or have another header.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], resume: bool = False) -> None:
        self.folder, self.header = folder, dict(header)
        if self.paths and not resume:
            raise InputError(f"{folder}: has results already; --resume goes on with them, or choose another --out")
        path = folder / "_header.json"
        if self.paths:
            check_header(read_json(path), header, path)
        write_json(path, header)

    @property
    def paths(self) -> list[Path]:
        """The parts that are there, sorted."""
        return sorted(self.folder.glob("part-*.parquet"))

    def write(self, rows: Sequence[Row]) -> Path:
        """Write a part; another one of the same files is replaced."""
        path = self.folder / f"part-{content_key([row.file for row in rows])}.parquet"
        write_rows(path, rows, self.header)
        return path

    def read(self) -> Iterator[Row]:
        """The rows of all parts, one part in memory at a time."""
        for path in self.paths:
            yield from read_rows(path, self.header["classes"])

    def keep(self, wanted: Callable[[Row], bool]) -> set[str]:
        """Remove other rows than the wanted ones, to be done again; returns the files that are left."""
        done: set[str] = set()
        for path in self.paths:
            rows = list(read_rows(path, self.header["classes"]))
            good = [row for row in rows if wanted(row)]
            done.update(row.file for row in good)
            if len(good) < len(rows):
                if good:
                    self.write(good)
                path.unlink()
        return done


def _schema() -> Any:
    import pyarrow as pa

    number = pa.float32()
    found = pa.struct(
        [("label", pa.string()), ("score", number), ("probability", number), ("box", pa.list_(number, 4))]
    )
    side = pa.int32()
    return pa.schema(
        [
            ("file", pa.string()),
            ("width", side),
            ("height", side),
            ("error", pa.string()),
            ("detections", pa.list_(found)),
        ]
    )


def _table(rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa

    images = [row.image for row in rows]
    found = [image.detections for image in images if image is not None]
    names = np.array([name for one in found[:1] for name in one.class_names], object)
    labels, scores, boxes = (
        np.concatenate([getattr(one, part) for one in found]) if found else np.zeros(0, np.float32)
        for part in ("labels", "scores", "boxes")
    )
    probabilities = [one.probabilities if one.calibrated else np.full(len(one), np.nan, np.float32) for one in found]
    flat = np.concatenate(probabilities) if found else np.zeros(0, np.float32)
    structs = pa.StructArray.from_arrays(
        [
            pa.array(names[labels.astype(int)], pa.string()),
            pa.array(scores, pa.float32()),
            pa.array(flat, pa.float32(), mask=np.isnan(flat)),
            pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel(), pa.float32()), 4),
        ],
        fields=list(schema.field("detections").type.value_type),
    )
    ends = np.cumsum([0, *(0 if image is None else len(image.detections) for image in images)])
    absent = pa.array([image is None for image in images])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, mask=absent)
    return pa.table(
        [
            pa.array([writable_text(row.file) for row in rows], pa.string()),
            pa.array([None if image is None else image.width for image in images], pa.int32()),
            pa.array([None if image is None else image.height for image in images], pa.int32()),
            pa.array([None if row.error is None else writable_text(row.error) for row in rows], pa.string()),
            lists.cast(schema.field("detections").type),
        ],
        schema=schema,
    )


def _rows(batch: Any, class_names: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a batch, checked."""
    for row in batch.to_pylist():
        image, found = None, row["detections"]
        if found is not None:
            known = [{name: value for name, value in one.items() if value is not None} for one in found]
            detections = Detections.from_records(known, class_names)
            image = ImageDetections(row["file"], row["width"], row["height"], detections)
        yield Row(row["file"], image, row["error"])
