"""LabelMe's JSON files, one beside each photograph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .cleaning import Tally
from .errors import InputError
from .label_files import read_label_json
from .voc import Annotation

#: Shapes with an inside; others (points, lines) bound no object.
_AREAS = ("rectangle", "polygon", "circle", "mask", "rotation", "oriented_rectangle", "")


def is_labelme(path: Path) -> bool:
    """Whether a file is one of LabelMe's."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
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
    names, boxes = [], []
    try:
        for shape in content["shapes"]:
            kind = str(shape.get("shape_type") or "")
            if kind not in _AREAS:
                tally.add(f"LabelMe's shape {kind!r} without an inside, left out", path.name)
                continue
            boxes.append(_box(kind, np.array(shape["points"], np.float64)))
            names.append(str(shape["label"]).strip())
            if not names[-1]:
                raise ValueError("a shape has no label")
        height, width = int(content.get("imageHeight") or 0), int(content.get("imageWidth") or 0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not one of LabelMe's files ({problem})") from None
    return Annotation(
        filename=Path(str(content.get("imagePath") or "").replace("\\", "/")).name,
        size=(height, width) if height > 0 and width > 0 else None,
        names=tuple(names),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        difficult=np.zeros(len(names), bool),
    )


def _box(kind: str, points: Any) -> list[float]:
    """x1, y1, x2, y2 around a shape."""
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ValueError(f"a shape has the points {points.tolist()}; expected two or more of x and y")
    if kind == "circle":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return [*(points[0] - radius).tolist(), *(points[0] + radius).tolist()]
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
