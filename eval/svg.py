"""What the charts share: axes with round ticks, colours, a legend, and the SVG text around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, isfinite, log, log10

# Okabe and Ito's colours, which stay apart for colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

WIDTH = 720
TOP = 44  # of the frame, below the title
BELOW = 52  # room for the ticks and the label of the x axis
LEGEND_LINE = 18
_CHARACTER = 6.6  # the usual width of a 12-pixel sans-serif character


def number(value: float) -> str:
    """A value as short as it can be written, with commas between thousands."""
    return f"{value:,.10g}"


@dataclass(frozen=True)
class Axis:
    """What an axis is called, what it covers and how.

    Attributes
    ----------
    label : str
    range : (low, high), optional
        Without one the axis covers the data.
    log : bool
        Logarithmic: it shows positive values alone.
    write : function
        Makes the text of a value.
    """

    label: str
    range: tuple[float, float] | None = None
    log: bool = False
    write: Callable[[float], str] = number

    def __post_init__(self) -> None:
        if self.range is not None and not (0 if self.log else -inf) < self.range[0] < self.range[1]:
            kind = "logarithmic axis needs a range with 0 <" if self.log else "axis needs a range with"
            raise ValueError(f"{kind} low < high, got {self.range[0]} and {self.range[1]}")

    def shows(self, value: float) -> bool:
        """Whether there is a place for a value: it is finite and, on a logarithmic axis, positive."""
        return isfinite(value) and (value > 0 or not self.log)

    def cover(self, values: Iterable[float]) -> tuple[float, float]:
        """Its range, or else one that holds all values it can show and is more than a point."""
        if self.range is not None:
            return self.range
        shown = [value for value in values if self.shows(value)]
        if self.log:
            return round_logarithmic_range(min(shown, default=1.0), max(shown, default=10.0))
        low, high = min(shown, default=0.0), max(shown, default=1.0)
        margin = (0.5 * abs(low) or 0.5) if low == high else 0.0
        return low - margin, high + margin


@dataclass(frozen=True)
class Scale:
    """The place of an axis's values on the page: ``low`` at pixel ``start``, ``high`` at pixel ``end``."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        if self.axis.log:
            share = log(value / self.low) / log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values along it."""
        return (logarithmic_ticks if self.axis.log else ticks)(self.low, self.high)


@dataclass(frozen=True)
class Frame:
    """Where on the page the data lie, in pixels."""

    left: float
    right: float
    bottom: float
    top: float = TOP


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
    return [round(count * step, decimals) + 0.0 for count in range(first, last + 1)]


def logarithmic_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round values from ``low`` to ``high`` for a logarithmic axis, at most ``most`` of them.

    1, 2 and 5 times powers of ten over few decades, powers of ten over more, every second, third... of them over many;
    over so little that this leaves less than two, those of a linear axis.
    """
    if not 0 < low < high:
        raise ValueError(f"expected 0 < low < high, got {low} and {high}")
    inside = [value for value in _one_two_five(low, high) if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    if len(inside) < 2:
        return ticks(low, high)
    if len(inside) <= most:
        return inside
    powers = [value for value in inside if f"{value:e}".startswith("1.")]
    return powers[:: ceil(len(powers) / most)]


def round_logarithmic_range(low: float, high: float) -> tuple[float, float]:
    """The smallest range from one round value (see :func:`logarithmic_ticks`) to another that holds both values."""
    around = _one_two_five(low, high)
    first = max(place for place, value in enumerate(around) if value <= low)
    last = min(place for place, value in enumerate(around) if value >= high)
    if first == last:
        return around[first - 1], around[last + 1]
    return around[first], around[last]


def _one_two_five(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from well below ``low`` to well above ``high``."""
    exponents = range(floor(log10(low)) - 1, ceil(log10(high)) + 2)
    return [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 5)]


def text_width(texts: Iterable[str]) -> float:
    """Pixels that the longest of some texts takes, about."""
    return _CHARACTER * max(map(len, texts), default=0)


def legend_width(names: Sequence[str]) -> float:
    """Pixels that :func:`legend` takes to the right of the frame."""
    return 40 + text_width(names)


def legend(names: Sequence[str], frame: Frame, mark: Callable[[int, float, float], str]) -> list[str]:
    """The names in a column beside the frame, each after the mark that ``mark(number, left, middle)`` draws."""
    parts = []
    for place, name in enumerate(names):
        middle = frame.top + 8 + LEGEND_LINE * place
        parts.append(mark(place, frame.right + 14, middle))
        parts.append(text(frame.right + 40, middle + 4, name))
    return parts


def x_axis(scale: Scale, frame: Frame) -> list[str]:
    """Grid, ticks and label below the frame."""
    parts = []
    for value in scale.ticks:
        place = scale.at(value)
        parts.append(_segment(place, frame.top, place, frame.bottom))
        parts.append(text(place, frame.bottom + 17, scale.axis.write(value), anchor="middle"))
    middle = (frame.left + frame.right) / 2
    return [*parts, text(middle, frame.bottom + 38, scale.axis.label, anchor="middle")]


def y_axis(scale: Scale, frame: Frame) -> list[str]:
    """Grid, ticks and label to the left of the frame."""
    parts = []
    for value in scale.ticks:
        place = scale.at(value)
        parts.append(_segment(frame.left, place, frame.right, place))
        parts.append(text(frame.left - 7, place + 4, scale.axis.write(value), anchor="end"))
    label = escape(scale.axis.label)
    middle = (frame.top + frame.bottom) / 2
    return [*parts, f'<text transform="translate(18 {middle:.1f}) rotate(-90)" text-anchor="middle">{label}</text>']


def text(x: float, y: float, content: str, anchor: str = "start") -> str:
    """A line of text that starts, ends or has its middle (``anchor``) at a place."""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchored}>{escape(content)}</text>'


def page(title: str, frame: Frame, parts: Iterable[str]) -> str:
    """The text of an SVG file: the title, ``parts``, and over the grid the two lines of the axes."""
    height = f"{frame.bottom + BELOW:.0f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#333">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="{frame.left:.1f}" y="26" font-size="15" fill="#111">{escape(title)}</text>',
            *parts,
            f'<path d="M{frame.left:.1f} {frame.top}V{frame.bottom}H{frame.right:.1f}" fill="none" stroke="#333"/>',
            "</svg>",
            "",
        ]
    )


def _segment(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#e4e4e4"/>'
