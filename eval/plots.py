"""Line and bar charts in a common style, drawn by matplotlib.

Functions return a :class:`matplotlib.figure.Figure`, which :func:`.figures.save_figure` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10, nan
from typing import TYPE_CHECKING

import numpy as np

from ..data.arrays import Array
from .figures import LEGEND_ROWS, PIXEL, Axis, draw_legend, empty_figure, house_style, plain, set_up
from .voc_ap import METRICS, Metric, VOCResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# In print without colours, each of the seven has its own marker or hatch; the next seven lines are dashed, and so on.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_HATCHES = ("", "/////", "xxxxx", "\\\\\\\\\\", "|||||", "-----", "")


_HEIGHT = 440 * PIXEL
_BAR, _PITCH, _BETWEEN_GROUPS = 12.0, 15.0, 12.0  # pixels: thickness of a bar, bar pitch, extra space between groups


@dataclass(frozen=True)
class Line:
    """One line of a chart, points from left to right; None, or a value that the axes cannot show, leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} needs as many x as y, got {len(self.x)} and {len(self.y)}")


@dataclass(frozen=True)
class Bar:
    """One bar; bars of the same name look the same in every group."""

    name: str
    value: float


@dataclass(frozen=True)
class Group:
    """Bars under one name; a group may lack bars that other groups have."""

    name: str
    bars: Sequence[Bar]


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> Figure:
    """Draw lines with markers, and a legend beside them.

    Parameters
    ----------
    title : str
    lines : sequence of Line
        In the order of drawing and of the legend.
    x, y : Axis

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = line_chart("Training", [Line("loss", [1, 2, 3], [0.9, None, 0.4])], Axis("epoch"), Axis("loss"))
    >>> figure.axes[0].get_xlabel()
    'epoch'
    """
    with house_style():
        figure, axes = empty_figure(title, [line.name for line in lines], _HEIGHT)
        axes.grid(True)
        axes.margins(0.02)
        handles = []
        for place, line in enumerate(lines):
            colour = place % len(COLOURS)
            points = np.array(
                [(a if x.shows(a) else nan, b if y.shows(b) else nan) for a, b in zip(line.x, line.y, strict=True)]
            ).reshape(-1, 2)
            handles += axes.plot(
                *points.T,
                color=COLOURS[colour],
                linestyle=_DASHES[place // len(COLOURS) % len(_DASHES)],
                marker=_MARKERS[colour],
                markevery=_marked(points),
                linewidth=1.35,
                markersize=4.0,
                markeredgewidth=0.0,
                solid_joinstyle="round",
            )
        set_up(axes, True, x)
        set_up(axes, False, y)
        draw_legend(axes, handles, [line.name for line in lines])
    return figure


def bar_chart(title: str, groups: Sequence[Group], x: Axis) -> Figure:
    """Draw groups of horizontal bars with the value at the end of each bar, and a legend.

    Parameters
    ----------
    title : str
    groups : sequence of Group
        From top to bottom; the legend has the bars' names in the order of their first appearance.
    x : Axis
        ``x.write`` also makes the text at the bars' ends. Bars start at zero; on a logarithmic axis they start at its
        left end, the power of ten below the smallest value. A value that the axis cannot show has no bar.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> groups = [Group("fc", [Bar("SPP", 0.02), Bar("R-CNN", 3.1)]), Group("warping", [Bar("R-CNN", 1.2)])]
    >>> len(bar_chart("Time", groups, Axis("seconds", log=True)).axes[0].patches)
    3
    """
    names = list(dict.fromkeys(bar.name for group in groups for bar in group.bars))
    shown = [[bar for bar in group.bars if x.shows(bar.value)] for group in groups]
    heights = [_PITCH * max(1, len(bars)) + _BETWEEN_GROUPS for bars in shown]
    values = [bar.value for bars in shown for bar in bars] + list(x.covers or ())
    start = 10.0 ** (ceil(log10(min(values, default=1.0))) - 1) if x.log else 0.0
    height = max(sum(heights), 2 * _PITCH)
    with house_style():
        figure, axes = empty_figure(title, names, (height + 96) * PIXEL)
        axes.grid(True, axis="x")
        tops = np.cumsum([0.0, *heights])
        handles = {}
        for top, bars in zip(tops.tolist(), shown, strict=False):
            for place, bar in enumerate(bars):
                middle = top + _BETWEEN_GROUPS / 2 + _PITCH * place + _BAR / 2
                look = names.index(bar.name)
                handles[bar.name] = axes.barh(
                    middle,
                    bar.value - start,
                    _BAR,
                    left=start,
                    color=COLOURS[look % len(COLOURS)],
                    hatch=_HATCHES[look % len(COLOURS)],
                    alpha=None if look < len(COLOURS) else 0.45,  # the second seven are pale
                    linewidth=0.0,
                )
                axes.annotate(
                    plain(x.write(bar.value)),
                    (max(start, bar.value), middle),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8.0,
                )
        axes.set_ylim(height, 0.0)
        axes.set_yticks((tops[:-1] + np.diff(tops) / 2).tolist(), [plain(group.name) for group in groups])
        low, high = min([start, *values]), max([10 * start, *values])
        if low == high:
            high = 1.0
        # Space for the text at the end of the longest bar.
        axes.set_xlim(low, high * (high / low) ** 0.14 if x.log else high + 0.14 * (high - low))
        set_up(axes, True, x)
        found = [name for name in names if name in handles]
        draw_legend(axes, [handles[name] for name in found], found)
    return figure


def precision_recall_chart(result: VOCResult, metric: Metric) -> Figure:
    """Draw the precision-recall curve of each class that has objects, with its AP in the legend."""
    lines = [
        Line(f"{curve.name} {curve.ap(metric):.3f}", curve.recall.tolist(), curve.precision.tolist())
        for curve in result.curves
        if curve.positives
    ]
    title = f"Precision and recall; legend: {METRICS[metric]}"
    return line_chart(title, lines, Axis("recall", (0.0, 1.0)), Axis("precision", (0.0, 1.0)))


def _marked(points: Array) -> list[int]:
    """Indices of the points (N, 2) of a line that get a marker: all if few, else some of them and isolated ones."""
    shown = np.isfinite(points).all(axis=1)
    (places,) = np.nonzero(shown)
    if len(places) <= LEGEND_ROWS:
        return places.tolist()
    alone = shown & (np.convolve(shown, [1, 0, 1], "same") == 0)
    across = points[places, 0]
    spread = places[np.searchsorted(across, np.linspace(across[0], across[-1], 12))]
    return sorted({*spread.tolist(), *np.nonzero(alone)[0].tolist()})
