"""Results as text: aligned tables with the name of the metric, and curves as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from ..data.store import atomic_path
from .coco_ap import COCO_METRIC, COCOResult
from .voc_ap import METRICS, Metric, VOCResult


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], decimals: int = 3) -> str:
    """Format an aligned table: first column left-aligned, others right-aligned, a rule under the header.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of rows
        As many cells as the header. Floats have ``decimals`` decimal digits, NaN and
        None become ``-``, everything else is converted by ``str``.
    decimals : int

    Raises
    ------
    ValueError
        When a row has more or fewer cells than the header.

    Examples
    --------
    >>> print(text_table(["class", "AP"], [["cat", 0.5], ["dog", None]], decimals=2))
    class    AP
    -----  ----
    cat    0.50
    dog       -
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"expected rows of {len(header)} cells like the header, got {len(row)}: {row}")
    lines = [list(header), *([_cell(value, decimals) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_align(line, widths) for line in lines)


def _cell(value: Any, decimals: int) -> str:
    if value is None or (isinstance(value, float) and isnan(value)):
        return "-"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]).rstrip()


def voc_table(result: VOCResult, metrics: Sequence[Metric] = ("voc07", "voc")) -> str:
    """Table of objects, detections and AP of each class, with the means, and a line that names classes without AP."""
    rows: list[list[Any]] = [
        [curve.name, curve.positives, len(curve.scores), *(curve.ap(metric) for metric in metrics)]
        for curve in result.curves
    ]
    objects = sum(curve.positives for curve in result.curves)
    detections = sum(len(curve.scores) for curve in result.curves)
    rows.append(["mean", objects, detections, *(result.mean_ap(metric) for metric in metrics)])
    table = text_table(["class", "objects", "detections", *(METRICS[metric] for metric in metrics)], rows)
    return table + _without_objects(result.unscored)


def coco_table(result: COCOResult) -> str:
    """Table of COCO's AP of each class with the mean, then COCO's twelve scores."""
    rows: list[list[Any]] = [[name, ap] for name, ap in result.ap.items()]
    rows.append(["mean", result.summary["AP"]])
    classes = text_table(["class", COCO_METRIC], rows) + _without_objects(result.unscored)
    return classes + "\n\n" + text_table(["COCO summary", "value"], list(result.summary.items()))


def _without_objects(names: Sequence[str]) -> str:
    return f"\nnot in the mean (no objects): {', '.join(names)}" if names else ""


def write_curves_csv(path: str | Path, result: VOCResult) -> None:
    """Write the precision-recall curves as ``class,score,recall,precision``, from the highest score down."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "score", "recall", "precision"])
        for curve in result.curves:
            for score, recall, precision in zip(curve.scores, curve.recall, curve.precision, strict=True):
                writer.writerow([curve.name, f"{score:.6g}", f"{recall:.6f}", f"{precision:.6f}"])
