"""Grouped bar charts as small SVG files, in the look of the line charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

from .svg import (
    COLOURS,
    LEGEND_LINE,
    TOP,
    WIDTH,
    Axis,
    Frame,
    Scale,
    legend,
    legend_width,
    page,
    round_logarithmic_range,
    text,
    text_width,
)
from .svg import x_axis as draw_x_axis

__all__ = ["Axis", "Bar", "Group", "bar_chart"]

_BAR, _PITCH = 12, 15  # thickness of a bar, and from one to the next
_BETWEEN_GROUPS = 12


@dataclass(frozen=True)
class Bar:
    """One bar: bars of the same name have the same colour in every group."""

    name: str
    value: float


@dataclass(frozen=True)
class Group:
    """Bars that stand together under one name; it may lack some that other groups have."""

    name: str
    bars: Sequence[Bar]


def bar_chart(title: str, groups: Sequence[Group], x: Axis) -> str:
    """The text of an SVG file with horizontal bars, group under group, each bar's value at its end, and a legend.

    Parameters
    ----------
    title : str
    groups : sequence of Group
        Drawn in this order, from the top; the legend has the bars' names in the order of their first appearance.
    x : Axis
        ``x.write`` makes the text at the bars' ends too. Bars start at zero, on a logarithmic axis at its left end,
        by default the power of ten below the smallest value. A bar that leaves a range given here is cut at its
        edge. There is no bar for a value that is not finite, or not positive on a logarithmic axis.

    Examples
    --------
    >>> groups = [Group("fc", [Bar("SPP", 0.02), Bar("R-CNN", 3.1)]), Group("warping", [Bar("R-CNN", 1.2)])]
    >>> bar_chart("Time", groups, Axis("seconds", log=True))[:4]
    '<svg'
    """
    names = list(dict.fromkeys(bar.name for group in groups for bar in group.bars))
    shown = [[bar for bar in group.bars if x.shows(bar.value)] for group in groups]
    values = [bar.value for bars in shown for bar in bars]
    heights = [_PITCH * max(1, len(bars)) + _BETWEEN_GROUPS for bars in shown]
    frame = Frame(
        left=max(64.0, 20 + text_width(group.name for group in groups)),
        right=WIDTH - 16 - legend_width(names),
        bottom=TOP + max(sum(heights), LEGEND_LINE * len(names), 2 * _PITCH),
    )
    scale = Scale(x, *_cover(x, values), frame.left, frame.right - 10 - text_width(map(x.write, values)))
    parts = draw_x_axis(scale, frame)
    top = frame.top
    for group, bars, height in zip(groups, shown, heights, strict=True):
        parts.append(text(frame.left - 8, top + height / 2 + 4, group.name, anchor="end"))
        for place, bar in enumerate(bars):
            parts += _draw(bar, top + _BETWEEN_GROUPS / 2 + _PITCH * place, scale, _fill(names.index(bar.name)))
        top += height
    return page(title, frame, [*parts, *legend(names, frame, _mark)])


def _cover(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """The axis's range, or else one from zero or, on a logarithmic axis, from a power of ten below all values."""
    if axis.range is not None:
        return axis.range
    if not axis.log:
        return axis.cover([0.0, *values])
    below = 10.0 ** (ceil(log10(min(values, default=1.0))) - 1)
    return below, round_logarithmic_range(below, max(values, default=1.0))[1]


def _draw(bar: Bar, top: float, scale: Scale, fill: str) -> list[str]:
    """A bar and its value."""

    def inside(value: float) -> float:
        return scale.at(min(max(value, scale.low), scale.high))

    left, right = sorted((scale.start if scale.axis.log else inside(0.0), inside(bar.value)))
    middle = top + _BAR / 2
    return [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_BAR}" {fill}/>',
        text(right + 5, middle + 4, scale.axis.write(bar.value)),
    ]


def _mark(place: int, left: float, middle: float) -> str:
    return f'<rect x="{left:.1f}" y="{middle - 5:.1f}" width="20" height="10" {_fill(place)}/>'


def _fill(place: int) -> str:
    """A colour; those of the first round again, pale, when there are more bars."""
    pale = "" if place < len(COLOURS) else ' fill-opacity="0.45"'
    return f'fill="{COLOURS[place % len(COLOURS)]}"{pale}'
