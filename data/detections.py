"""What a detector found in one image."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array
from .boxes import as_boxes
from .errors import InputError
from .nms import class_nms
from .store import atomic_path, write_json


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes with their scores and classes, and perhaps probabilities; indexing selects, as with an array.

    Parameters
    ----------
    boxes : (N, 4) array
        x1, y1, x2, y2 in pixels of the displayed image, 0-based, half-open; kept as float32.
    scores : (N,) array
        Higher is better; kept as float32.
    labels : (N,) integer array
        Indices into ``class_names``; kept as int64.
    class_names : sequence of str
    probabilities : (N,) array, optional
        How probable it is that each is right, from 0 to 1; kept as float32. None where the detector cannot say.

    Raises
    ------
    ValueError
        When shapes do not agree, a label names no class or a probability is none.

    Examples
    --------
    >>> found = Detections([[0, 0, 10, 20], [5, 5, 9, 9]], [0.9, 0.2], [1, 0], ("cat", "dog"))
    >>> found[found.scores > 0.5].to_records()
    [{'label': 'dog', 'score': 0.9, 'box': [0.0, 0.0, 10.0, 20.0]}]
    """

    boxes: Array
    scores: Array
    labels: Array
    class_names: tuple[str, ...]
    probabilities: Array | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        names = (self.class_names,) if isinstance(self.class_names, str) else tuple(self.class_names)
        scores = np.asarray(self.scores, np.float32)
        labels = np.asarray(self.labels)
        if scores.shape != (len(boxes),):
            raise ValueError(f"scores must have shape ({len(boxes)},), one for each box, not {scores.shape}")
        if labels.shape != (len(boxes),):
            raise ValueError(f"labels must have shape ({len(boxes)},), one for each box, not {labels.shape}")
        if labels.size and labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers, not {labels.dtype}")
        labels = labels.astype(np.int64)
        if labels.size and (labels.min() < 0 or labels.max() >= len(names)):
            raise ValueError(
                f"labels must be from 0 to {len(names) - 1}, as there are {len(names)} classes, "
                f"not from {labels.min()} to {labels.max()}"
            )
        if self.probabilities is not None:
            probabilities = np.asarray(self.probabilities, np.float32)
            if probabilities.shape != (len(boxes),):
                raise ValueError(
                    f"probabilities must have shape ({len(boxes)},), one for each box, not {probabilities.shape}"
                )
            wrong = ~((probabilities >= 0) & (probabilities <= 1))
            if wrong.any():
                raise ValueError(f"probabilities must be from 0 to 1, not {probabilities[wrong][0]}")
            object.__setattr__(self, "probabilities", probabilities)
        for field, value in (("boxes", boxes), ("scores", scores), ("labels", labels), ("class_names", names)):
            object.__setattr__(self, field, value)

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Detections:
        """No detections of these classes."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), tuple(class_names))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """All detections of several results over the same classes; with probabilities when all of them have them.

        Raises
        ------
        ValueError
            When there is no part, or the parts' classes differ.
        """
        if not parts:
            raise ValueError("concatenate needs at least one Detections, to know the classes")
        for part in parts:
            if part.class_names != parts[0].class_names:
                raise ValueError(f"classes must agree: {parts[0].class_names} and {part.class_names}")
        probabilities = [part.probabilities for part in parts if part.probabilities is not None]
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            parts[0].class_names,
            np.concatenate(probabilities) if len(probabilities) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | ArrayLike) -> Detections:
        """The detections at a mask, indices, slice or single index, as Detections of their own."""
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
            index = index.astype(np.int64) if index.size == 0 and index.dtype != bool else index
        probabilities = None if self.probabilities is None else self.probabilities[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], self.class_names, probabilities)

    def nms(self, threshold: float) -> Detections:
        """Those that survive greedy non-maximum suppression within their class, best first."""
        return self[class_nms(self.boxes, self.scores, self.labels, threshold)]

    def to_records(self) -> list[dict[str, Any]]:
        """One ``{"label", "score", "probability", "box"}`` for each detection, in plain Python types.

        "probability" is there when the detections have them. Numbers are the shortest decimals that read back as the
        same float32.
        """
        if self.probabilities is None:
            said: list[dict[str, float]] = [{}] * len(self)
        else:
            said = [{"probability": decimal(value)} for value in self.probabilities]
        return [
            {
                "label": self.class_names[label],
                "score": decimal(score),
                **more,
                "box": [decimal(value) for value in box],
            }
            for label, score, more, box in zip(self.labels, self.scores, said, self.boxes, strict=True)
        ]

    @classmethod
    def from_records(cls, records: Sequence[dict[str, Any]], class_names: Sequence[str]) -> Detections:
        """The inverse of :meth:`to_records`; with probabilities when all records, and at least one, have them.

        Raises
        ------
        ValueError
            When a record lacks label, score or box, or its label is none of ``class_names``.
        """
        names = tuple(class_names)
        try:
            labels = [names.index(record["label"]) for record in records]
            scores = [record["score"] for record in records]
            boxes = [record["box"] for record in records]
            said = [record["probability"] for record in records if "probability" in record]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a detection must have label, score and box; missing {error}") from None
        probabilities = np.array(said) if said and len(said) == len(records) else None
        return cls(np.array(boxes, np.float32), np.array(scores), np.array(labels, np.int64), names, probabilities)

    def save(self, path: str | Path) -> None:
        """Write as ``.json`` (``classes`` and ``detections``) or ``.csv`` (label, score, x1, y1, x2, y2).

        A column "probability" follows the scores when the detections have them.

        Raises
        ------
        InputError
            When the suffix is another.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, {"classes": list(self.class_names), "detections": self.to_records()})
        elif path.suffix == ".csv":
            with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                columns = record_columns(self.probabilities is not None)
                writer.writerow(columns)
                writer.writerows(record_cells(record, columns) for record in self.to_records())
        else:
            raise InputError(f"{path}: detections are saved as .json or .csv, not {path.suffix or 'without suffix'}")


def record_columns(with_probabilities: bool) -> list[str]:
    """What the cells of a CSV line of a detection are called."""
    return ["label", "score", *["probability"] * with_probabilities, "x1", "y1", "x2", "y2"]


def record_cells(record: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    """A record of :meth:`Detections.to_records` as a CSV line's cells under these columns; empty without a value."""
    flat = {**record, **dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))}
    return [flat.get(name, "") for name in columns]


def decimal(value: np.floating[Any]) -> float:
    """A float32 as the Python float with the fewest digits that rounds to it: 1.27, not 1.2699999809."""
    return float(str(value))
