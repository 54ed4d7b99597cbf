"""Line charts as small SVG files: every browser shows them, and they need no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from .svg import BELOW, COLOURS, LEGEND_LINE, TOP, WIDTH, Axis, Frame, Scale, legend, legend_width, page, text_width
from .svg import x_axis as draw_x_axis
from .svg import y_axis as draw_y_axis
from .voc_ap import METRICS, Metric, VOCResult

__all__ = ["Axis", "Line", "line_chart", "precision_recall_chart"]

_DASHES = ("", "6 3", "2 3")  # the colours are used again, dashed, when there are more lines
_HEIGHT = 440


@dataclass(frozen=True)
class Line:
    """One line of a chart: points from left to right; one that its axes cannot show leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} needs as many x as y, got {len(self.x)} and {len(self.y)}")


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """The text of an SVG file with axes, grid, lines and, beside them, a legend.

    Parameters
    ----------
    title : str
    lines : sequence of Line
        Drawn in this order; the legend keeps it. Values that are not finite, or not positive on a logarithmic axis,
        leave gaps.
    x, y : Axis
        Points outside a range given there are drawn outside the frame's edge.
    """
    names = [line.name for line in lines]
    bottom = max(_HEIGHT - BELOW, TOP + LEGEND_LINE * len(lines))
    down = Scale(y, *y.cover(value for line in lines for value in line.y), bottom, TOP)
    left = max(64.0, 37 + text_width(map(y.write, down.ticks)))
    frame = Frame(left, WIDTH - 16 - legend_width(names), bottom)
    across = Scale(x, *x.cover(value for line in lines for value in line.x), frame.left, frame.right)
    parts = [*draw_x_axis(across, frame), *draw_y_axis(down, frame)]
    for place, line in enumerate(lines):
        points = [
            (across.at(a), down.at(b)) if x.shows(a) and y.shows(b) else None
            for a, b in zip(line.x, line.y, strict=True)
        ]
        parts.append(f'<path d="{_path(points)}" fill="none" stroke-linejoin="round" {_stroke(place)}/>')
    return page(title, frame, [*parts, *legend(names, frame, _mark)])


def precision_recall_chart(result: VOCResult, metric: Metric) -> str:
    """The precision-recall curve of each class that has objects, with its AP in the legend, as SVG text."""
    lines = [
        Line(f"{curve.name} {curve.ap(metric):.3f}", curve.recall.tolist(), curve.precision.tolist())
        for curve in result.curves
        if curve.positives
    ]
    title = f"Precision and recall; legend: {METRICS[metric]}"
    return line_chart(title, lines, Axis("recall", (0.0, 1.0)), Axis("precision", (0.0, 1.0)))


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path through the points; None lifts the pen."""
    commands = []
    for drawn, stretch in groupby(points, key=lambda point: point is not None):
        if drawn:
            spots = [f"{x:.1f} {y:.1f}" for x, y in _thin([point for point in stretch if point is not None])]
            commands.append("M" + "L".join(spots))
    return "".join(commands)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that can be seen: of neighbours in the same column of pixels the first, lowest, highest and last.

    A curve over ten thousand detections stays a small file and looks the same.
    """
    kept = []
    for _, group in groupby(points, key=lambda point: round(point[0])):
        column = list(group)
        heights = [y for _, y in column]
        places = {0, heights.index(min(heights)), heights.index(max(heights)), len(column) - 1}
        kept += [column[place] for place in sorted(places)]
    return kept


def _mark(place: int, left: float, middle: float) -> str:
    return f'<path d="M{left:.1f} {middle}h20" fill="none" {_stroke(place)}/>'


def _stroke(place: int) -> str:
    dash = _DASHES[place // len(COLOURS) % len(_DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-width="1.8"{dashes}'
