"""LabelMe's JSON files, one beside each photograph."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from .cleaning import Tally
from .label_files import LARGEST, MALFORMED, declared_size, item_place, label_name, read_label_json, refused
from .voc import Annotation

#: Shapes with an inside; others (points, lines) bound no object.
_AREAS = ("rectangle", "polygon", "circle", "mask", "rotation", "oriented_rectangle", "")


def is_labelme(path: Path) -> bool:
    """Whether a file is one of LabelMe's."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError):
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read_labelme(path: Path, tally: Tally) -> Annotation:
    """Read the labels of one photograph; polygons and circles become the boxes around them.

    Points and lines are left out and counted in ``tally``.

    Raises
    ------
    InputError
        When the file is missing or none of LabelMe's; the message names it.
    """
    content = read_label_json(path, "LabelMe's labels of a photograph")
    names: list[str] = []
    boxes: list[list[float]] = []
    place = str(path)
    try:
        size = declared_size(content.get("imageHeight"), content.get("imageWidth"))
        for number, shape in enumerate(content["shapes"]):
            place = item_place(path, "shapes", number, shape)
            kind = str(shape.get("shape_type") or "")
            if kind not in _AREAS:
                tally.add(f"LabelMe's shape {reprlib.repr(kind)} without an inside, left out", path.name)
                continue
            boxes.append(_box(kind, np.array(shape["points"], np.float64)))
            names.append(label_name(shape["label"]).strip())
            if not names[-1]:
                raise ValueError("a shape has no label")
    except MALFORMED as error:
        raise refused(place, "one of LabelMe's files", error) from None
    return Annotation(
        filename=Path(str(content.get("imagePath") or "").replace("\\", "/")).name,
        size=size,
        names=tuple(names),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        difficult=np.zeros(len(names), bool),
    )


def _box(kind: str, points: Any) -> list[float]:
    """x1, y1, x2, y2 around a shape."""
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not (np.abs(points) < LARGEST).all():
        raise ValueError(f"a shape has the points {reprlib.repr(points.tolist())}; expected two or more of x and y")
    if kind == "circle":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return [*(points[0] - radius).tolist(), *(points[0] + radius).tolist()]
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
