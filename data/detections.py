"""Detections: the objects that a detector found in one image."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array
from .boxes import as_boxes
from .errors import InputError, NotCalibratedError
from .nms import class_nms
from .store import atomic_path, write_json

# How many detections a line and a table show, before "and more".
_IN_LINE = 5
_IN_TABLE = 20


class Detections:
    """The objects found in one image: boxes, scores, classes and, from a calibrated model, probabilities.

    Index them like an array: by a mask, indices, a slice or one index. Detections are equal if their values are equal.
    A notebook shows them as a table.

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
        Probability that each detection is correct, from 0 to 1; kept as float32. None if the model is not calibrated.

    Raises
    ------
    ValueError
        When shapes do not agree, a label is not a valid index or a probability is not between 0 and 1.

    Examples
    --------
    >>> found = Detections([[0, 0, 10, 20], [5, 5, 9, 9]], [0.9, 0.2], [1, 0], ("cat", "dog"))
    >>> found
    Detections(2 objects: dog 0.90, cat 0.20)
    >>> found[found.scores > 0.5].to_records()
    [{'label': 'dog', 'score': 0.9, 'box': [0.0, 0.0, 10.0, 20.0]}]
    >>> found.calibrated
    False
    """

    boxes: Array
    scores: Array
    labels: Array
    class_names: tuple[str, ...]
    _probabilities: Array | None

    def __init__(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike,
        class_names: Sequence[str],
        probabilities: ArrayLike | None = None,
    ) -> None:
        boxes = as_boxes(boxes)
        names = (class_names,) if isinstance(class_names, str) else tuple(class_names)
        scores = np.asarray(scores, np.float32)
        labels = np.asarray(labels)
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
        if probabilities is not None:
            probabilities = np.asarray(probabilities, np.float32)
            if probabilities.shape != (len(boxes),):
                raise ValueError(
                    f"probabilities must have shape ({len(boxes)},), one for each box, not {probabilities.shape}"
                )
            wrong = ~((probabilities >= 0) & (probabilities <= 1))
            if wrong.any():
                raise ValueError(f"probabilities must be from 0 to 1, not {probabilities[wrong][0]}")
        vars(self).update(boxes=boxes, scores=scores, labels=labels, class_names=names, _probabilities=probabilities)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot set {name!r}: detections do not change; use replace({name}=...)")

    @property
    def calibrated(self) -> bool:
        """Whether the detections have probabilities as well as scores."""
        return self._probabilities is not None

    @property
    def probabilities(self) -> Array:
        """Probability that each detection is correct, float32 (N,), from 0 to 1.

        Raises
        ------
        NotCalibratedError
            When the model gives no probabilities (``calibrated`` is False).
        """
        if self._probabilities is None:
            raise NotCalibratedError(
                "these detections have no probabilities, as the model is not calibrated: "
                "use scores, or train the model with held-out images"
            )
        return self._probabilities

    @property
    def _shown(self) -> Array:
        """The number shown beside a class: the probability, or the score if there is none."""
        return self.probabilities if self.calibrated else self.scores

    def replace(self, **changes: Any) -> Detections:
        """A copy with some of the constructor's arguments changed.

        Examples
        --------
        >>> found = Detections([[0, 0, 10, 20]], [1.5], [0], ["cat"])
        >>> found.replace(probabilities=[0.75])
        Detections(1 object: cat 0.75)
        """
        values = {name: vars(self)[name] for name in ("boxes", "scores", "labels", "class_names")}
        return Detections(**{**values, "probabilities": self._probabilities, **changes})

    #: Called by ``copy.replace``.
    __replace__ = replace

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.class_names == other.class_names
            and self.calibrated == other.calibrated
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self._shown, other._shown)
        )

    # Detections compare by value and contain arrays, which have no hash.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "Detections(no objects)"
        shown = [
            f"{self.class_names[label]} {value:.2f}"
            for label, value in zip(self.labels[:_IN_LINE], self._shown[:_IN_LINE], strict=True)
        ]
        more = ["..."] * (len(self) > _IN_LINE)
        return f"Detections({len(self)} object{'s' * (len(self) > 1)}: {', '.join([*shown, *more])})"

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        columns = record_columns(self.calibrated)
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = [
            "".join(
                f"<td>{html.escape(cell) if isinstance(cell, str) else f'{cell:.4g}'}</td>"
                for cell in record_cells(record, columns)
            )
            for record in self[:_IN_TABLE].to_records()
        ]
        table = f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
        more = f"<p>and {len(self) - _IN_TABLE} more</p>" * (len(self) > _IN_TABLE)
        return f"<p>{len(self)} object{'s' * (len(self) != 1)}</p>{table}{more}"

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Detections:
        """No detections of these classes."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), tuple(class_names))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Join several results over the same classes; keeps probabilities only if all parts have them.

        Raises
        ------
        ValueError
            When ``parts`` is empty, or the parts' classes differ.
        """
        if not parts:
            raise ValueError("concatenate needs at least one Detections, to know the classes")
        for part in parts:
            if part.class_names != parts[0].class_names:
                raise ValueError(f"classes must agree: {parts[0].class_names} and {part.class_names}")
        probabilities = [part.probabilities for part in parts if part.calibrated]
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
        """Select detections by a mask, indices, a slice or one index; returns new Detections."""
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
            index = index.astype(np.int64) if index.size == 0 and index.dtype != bool else index
        probabilities = self.probabilities[index] if self.calibrated else None
        return Detections(self.boxes[index], self.scores[index], self.labels[index], self.class_names, probabilities)

    def nms(self, threshold: float) -> Detections:
        """Apply greedy non-maximum suppression within each class; best detections first."""
        return self[class_nms(self.boxes, self.scores, self.labels, threshold)]

    def to_records(self) -> list[dict[str, Any]]:
        """One ``{"label", "score", "probability", "box"}`` for each detection, in plain Python types.

        "probability" is present only if the detections have probabilities. Each number is the shortest decimal that
        reads back as the same float32.
        """
        said: list[dict[str, float]] = [{}] * len(self)
        if self.calibrated:
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
        """The inverse of :meth:`to_records`; with probabilities if there are records and all of them have one.

        Raises
        ------
        ValueError
            When a record lacks label, score or box, or its label is not in ``class_names``.
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

    def draw(self, image: Any, truth: Detections | None = None) -> NDArray[np.uint8]:
        """Draw a box and a tag for each detection on a copy of the image: class and probability, or else score.

        Parameters
        ----------
        image : path, PIL image or uint8 array
            An array is RGB (H, W, 3) or grey (H, W).
        truth : Detections, optional
            Objects as they are labelled, drawn dashed and below the detections; their scores say nothing. Their classes
            have the colours of the detections' if ``class_names`` begin alike.

        Returns
        -------
        RGB uint8 array (H, W, 3)
            The best detection is on top. Line width and text scale with the image; tags stay inside it.

        Examples
        --------
        >>> found = Detections([[10, 20, 50, 60]], [0.9], [0], ["cat"])
        >>> found.draw(np.zeros((80, 100, 3), np.uint8)).shape
        (80, 100, 3)
        """
        from .draw import draw_boxes

        order = np.argsort(self.scores, kind="stable")
        tags = [f"{self.class_names[self.labels[i]]} {self._shown[i]:.2f}" for i in order]
        if truth is None:
            return draw_boxes(image, self.boxes[order], self.labels[order], tags)
        labelled = [f"{truth.class_names[label]}, labelled" for label in truth.labels]
        boxes, labels = (
            np.concatenate([truth.boxes, self.boxes[order]]),
            np.concatenate([truth.labels, self.labels[order]]),
        )
        return draw_boxes(image, boxes, labels, [*labelled, *tags], np.arange(len(boxes)) < len(truth))

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Results of one image in COCO's format, as ``pycocotools.COCO.loadRes`` accepts them.

        Parameters
        ----------
        image_id : int
            COCO's id of the image (``COCODataset.image_ids``).
        category_ids : sequence of int, optional
            COCO's id of each class (``COCODataset.category_ids``); by default 1, 2, ... in the order of the classes.

        Returns
        -------
        list of dict
            ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) and ``score``, in plain Python types.

        Raises
        ------
        ValueError
            When the numbers of classes and category ids differ.

        Examples
        --------
        >>> Detections([[10, 20, 50, 30]], [1.5], [0], ["cat"]).to_coco(image_id=7, category_ids=[17])
        [{'image_id': 7, 'category_id': 17, 'bbox': [10.0, 20.0, 40.0, 10.0], 'score': 1.5}]
        """
        if category_ids is None:
            category_ids = range(1, len(self.class_names) + 1)
        if len(category_ids) != len(self.class_names):
            raise ValueError(f"category_ids must be {len(self.class_names)} numbers, not {len(category_ids)}")
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [decimal(value) for value in (*box[:2], *size)],
                "score": decimal(score),
            }
            for label, score, box, size in zip(self.labels, self.scores, self.boxes, sizes, strict=True)
        ]

    def to_supervision(self) -> Any:
        """Convert to ``supervision.Detections``, for its annotators, trackers and metrics.

        Returns
        -------
        supervision.Detections
            If the model is calibrated, ``confidence`` is the probability and ``data["score"]`` the score; otherwise
            ``confidence`` is the score. ``data["class_name"]`` holds the class names.

        Raises
        ------
        InputError
            When the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise InputError("to_supervision needs the package supervision: pip install supervision") from None
        data: dict[str, Any] = {"class_name": np.array([self.class_names[label] for label in self.labels], str)}
        if self.calibrated:
            data["score"] = self.scores.copy()
        return supervision.Detections(
            xyxy=self.boxes.copy(), confidence=self._shown.copy(), class_id=self.labels.copy(), data=data
        )

    @classmethod
    def from_supervision(cls, found: Any, class_names: Sequence[str] | None = None) -> Detections:
        """Convert from ``supervision.Detections``, also those of other libraries; inverts :meth:`to_supervision`.

        Parameters
        ----------
        found : supervision.Detections
            Its ``confidence`` becomes the score, or 1 without confidence. If ``data["score"]`` exists, it is the score
            and ``confidence`` the probability.
        class_names : sequence of str, optional
            The names that ``class_id`` indexes. By default the distinct names in ``data["class_name"]``, sorted.

        Raises
        ------
        ValueError
            When the classes are unknown, or an id is not an index into ``class_names``.
        """
        if class_names is not None:
            names, labels = tuple(class_names), found.class_id
        elif "class_name" in found.data:
            said = [str(name) for name in found.data["class_name"]]
            names = tuple(sorted(set(said)))
            labels = np.array([names.index(name) for name in said], np.int64)
        else:
            names, labels = (), None
        if labels is None:
            if len(found):
                raise ValueError("unknown classes: expected class_names and class_id, or data['class_name']")
            labels = np.zeros(0, np.int64)
        confidence = np.ones(len(found), np.float32) if found.confidence is None else found.confidence
        if "score" in found.data:
            return cls(found.xyxy, found.data["score"], labels, names, confidence)
        return cls(found.xyxy, confidence, labels, names)

    def save(self, path: str | Path) -> None:
        """Write a ``.json`` file (``classes`` and ``detections``) or a ``.csv`` file (label, score, x1, y1, x2, y2).

        A column "probability" follows the scores if the detections have probabilities.

        Raises
        ------
        InputError
            When the suffix is neither.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, {"classes": list(self.class_names), "detections": self.to_records()})
        elif path.suffix == ".csv":
            with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                columns = record_columns(self.calibrated)
                writer.writerow(columns)
                writer.writerows(record_cells(record, columns) for record in self.to_records())
        else:
            raise InputError(f"{path}: detections are saved as .json or .csv, not {path.suffix or 'without suffix'}")


def record_columns(with_probabilities: bool) -> list[str]:
    """Column names of a CSV file of detections."""
    return ["label", "score", *["probability"] * with_probabilities, "x1", "y1", "x2", "y2"]


def record_cells(record: dict[str, Any], columns: Sequence[str]) -> list[Any]:
    """CSV cells of a record of :meth:`Detections.to_records` under these columns; a missing value is an empty cell."""
    flat = {**record, **dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))}
    return [flat.get(name, "") for name in columns]


def decimal(value: np.floating[Any]) -> float:
    """The Python float with the fewest digits that rounds to a float32: 1.27, not 1.2699999809."""
    return float(str(value))
