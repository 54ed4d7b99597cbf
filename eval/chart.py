"""Line charts as small SVG files: every browser shows them, and they need no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from math import ceil, floor, isfinite, log10

from .voc_ap import METRICS, Metric, VOCResult

# Okabe and Ito's colours, which stay apart for colour-blind readers too; after them the same ones dashed.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "6 3", "2 3")

_WIDTH, _HEIGHT = 720, 440
_LEFT, _TOP, _BOTTOM = 64, 44, 52
_LEGEND_LINE = 18
_CHARACTER = 6.6  # the usual width of a 12-pixel sans-serif character


@dataclass(frozen=True)
class Line:
    """One line of a chart: points from left to right; one that is not finite leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} needs as many x as y, got {len(self.x)} and {len(self.y)}")


@dataclass(frozen=True)
class Axis:
    """What an axis is called and what it covers; without a range it covers the data."""

    label: str
    range: tuple[float, float] | None = field(default=None)


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """The text of an SVG file with axes, grid, lines and, beside them, a legend.

    Parameters
    ----------
    title : str
    lines : sequence of Line
        Drawn in this order; the legend keeps it.
    x, y : Axis
        Points outside a range given there are drawn outside the frame's edge.
    """
    legend_width = 40 + _CHARACTER * max((len(line.name) for line in lines), default=0)
    right = _WIDTH - 16 - legend_width
    bottom = max(_HEIGHT - _BOTTOM, _TOP + _LEGEND_LINE * len(lines))
    x_low, x_high = x.range or _cover([value for line in lines for value in line.x])
    y_low, y_high = y.range or _cover([value for line in lines for value in line.y])

    def across(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * (right - _LEFT)

    def down(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - _TOP)

    height = bottom + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="26" font-size="15" fill="#111">{escape(title)}</text>',
    ]
    for value in ticks(x_low, x_high):
        parts.append(_segment(across(value), _TOP, across(value), bottom))
        parts.append(f'<text x="{across(value):.1f}" y="{bottom + 17}" text-anchor="middle">{_number(value)}</text>')
    for value in ticks(y_low, y_high):
        parts.append(_segment(_LEFT, down(value), right, down(value)))
        parts.append(f'<text x="{_LEFT - 7}" y="{down(value) + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    parts.append(
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right:.1f}" fill="none" stroke="#333"/>'
        f'<text x="{(_LEFT + right) / 2:.1f}" y="{bottom + 38}" text-anchor="middle">{escape(x.label)}</text>'
        f'<text transform="translate(18 {(_TOP + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    for number, line in enumerate(lines):
        points = [
            (across(a), down(b)) if isfinite(a) and isfinite(b) else None for a, b in zip(line.x, line.y, strict=True)
        ]
        stroke = _stroke(number)
        parts.append(f'<path d="{_path(points)}" fill="none" stroke-linejoin="round" {stroke}/>')
        middle = _TOP + 8 + _LEGEND_LINE * number
        parts.append(f'<path d="M{right + 14:.1f} {middle}h20" fill="none" {stroke}/>')
        parts.append(f'<text x="{right + 40:.1f}" y="{middle + 4}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from ``low`` to ``high``, steps of 1, 2 or 5 times a power of ten, about ``most`` of them."""
    if not low < high:
        raise ValueError(f"expected low < high, got {low} and {high}")
    magnitude = 10.0 ** floor(log10((high - low) / most))
    step = next(m * magnitude for m in (1, 2, 5, 10) if (high - low) / (m * magnitude) <= most)
    # Multiples of the step, rounded to its decimals: added-up steps drift. The edges may be
    # off by a rounding error, and + 0.0 makes a negative zero an ordinary one.
    decimals = max(0, -floor(log10(step)))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(number * step, decimals) + 0.0 for number in range(first, last + 1)]


def precision_recall_chart(result: VOCResult, metric: Metric) -> str:
    """The precision-recall curve of each class that has objects, with its AP in the legend, as SVG text."""
    lines = [
        Line(f"{curve.name} {curve.ap(metric):.3f}", curve.recall.tolist(), curve.precision.tolist())
        for curve in result.curves
        if curve.positives
    ]
    title = f"Precision and recall; legend: {METRICS[metric]}"
    return line_chart(title, lines, Axis("recall", (0.0, 1.0)), Axis("precision", (0.0, 1.0)))


def _cover(values: Sequence[float]) -> tuple[float, float]:
    """The smallest range that holds all finite values, widened where that is a single point."""
    finite = [value for value in values if isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if low == high:
        margin = 0.5 * abs(low) or 0.5
        return low - margin, high + margin
    return low, high


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


def _stroke(number: int) -> str:
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="1.8"{dashes}'


def _segment(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#e4e4e4"/>'


def _number(value: float) -> str:
    return f"{value:g}"
