"""Common style of all charts, and their files: the same data give the same bytes on every machine.

Neither pyplot nor a display is needed, and the caller's matplotlib settings do not change. Matplotlib is imported when
a chart is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import InputError
from ..data.store import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Suffixes of the files that :func:`save_figure` writes.
SUFFIXES = (".svg", ".png")

PIXEL = 1 / 96  # inches
_WIDTH = 720 * PIXEL
LEGEND_ROWS = 24  # names in one column
_LEGEND_LINE = 18 * PIXEL
_CHARACTER = 7.5 * PIXEL  # its usual width
_LONGEST = 40  # characters of a name; longer ones are cut
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    # Matplotlib includes the first font and measures text with it. A browser uses the first one that it has.
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9.0,
    "text.color": "#333",
    "text.parse_math": False,  # a class name may be "$x$"
    "figure.constrained_layout.w_pad": 8 * PIXEL,
    "figure.constrained_layout.h_pad": 8 * PIXEL,
    "axes.edgecolor": "#333",
    "axes.labelcolor": "#333",
    "xtick.color": "#333",
    "ytick.color": "#333",
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.75,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.color": "white",
    "hatch.linewidth": 0.6,
    "path.simplify_threshold": 0.4,  # keeps the file of a curve over ten thousand detections small
    "svg.fonttype": "none",  # text stays text: files are small, searchable and readable by screen readers
    "svg.hashsalt": "sppnet",
    "savefig.dpi": 150.0,
}


def number(value: float) -> str:
    """Shortest text of a value, with commas between thousands."""
    return f"{value:,.10g}"


@dataclass(frozen=True)
class Axis:
    """Label, range and scale of an axis.

    Attributes
    ----------
    label : str
    covers : (low, high), optional
        The axis includes these values and all data.
    log : bool
        Logarithmic; it shows only positive values.
    whole : bool
        Ticks only at whole numbers.
    write : function
        Returns the text of a value.
    """

    label: str
    covers: tuple[float, float] | None = None
    log: bool = False
    whole: bool = False
    write: Callable[[float], str] = number

    def __post_init__(self) -> None:
        if self.covers is not None and not (0 if self.log else -inf) < self.covers[0] < self.covers[1] < inf:
            kind = "logarithmic axis needs a range with 0 <" if self.log else "axis needs a range with"
            raise ValueError(f"{kind} low < high, got {self.covers[0]} and {self.covers[1]}")

    def shows(self, value: float | None) -> bool:
        """Whether the axis can show a value: it is finite and, on a logarithmic axis, positive."""
        return value is not None and isfinite(value) and (value > 0 or not self.log)


def save_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure as SVG or PNG, by the path's suffix, atomically.

    The file contains no date and no version, so the same figure gives the same bytes.

    Raises
    ------
    ValueError
        When the path ends in neither .svg nor .png.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"expected a path that ends in {' or '.join(SUFFIXES)}, got {path}")
    nothing: dict[str, Any] = {"Date": None, "Creator": None} if suffix == ".svg" else {"Software": None}
    with house_style(), atomic_path(path) as temporary, warnings.catch_warnings():
        if suffix == ".svg":
            # An SVG stores text as text, so only the viewer's fonts need these glyphs.
            warnings.filterwarnings("ignore", "Glyph .* missing from (current )?font", UserWarning)
        figure.savefig(temporary, format=suffix[1:], metadata=nothing)


def check_figure_path(path: Path, option: str) -> None:
    """Check before long work that :func:`save_figure` can write a path.

    Raises
    ------
    InputError
        When it cannot; the message names the option of the path.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{option} writes SVG or PNG; expected a name that ends in .svg or .png, not {path}")


@contextmanager
def house_style() -> Iterator[None]:
    """Inside the context matplotlib has our settings, whatever the user's matplotlibrc; afterwards the user's again."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def empty_figure(title: str, names: Sequence[str], height: float) -> tuple[Figure, Axes]:
    """Create a figure large enough for its legend, and its axes."""
    from matplotlib.figure import Figure

    columns = ceil(len(names) / LEGEND_ROWS)
    longest = max((len(plain(name)) for name in names), default=0)
    width = max(_WIDTH, 0.7 * _WIDTH + columns * (0.5 + _CHARACTER * longest))
    rows = ceil(len(names) / max(1, columns))
    figure = Figure((width, max(height, rows * _LEGEND_LINE + 0.9)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plain(title, floor(0.8 * width / _CHARACTER)), loc="left", fontsize=11.0, color="#111")
    return figure, axes


def plain(name: str, longest: int = _LONGEST) -> str:
    """Text on one line, shortened if it is too long, without characters that SVG does not allow."""
    line = "".join(sign if sign.isprintable() else " " for sign in name)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def draw_legend(axes: Axes, handles: Sequence[Any], names: Iterable[str]) -> None:
    """Draw the legend beside the axes, in columns."""
    if not handles:
        return
    legend = axes.legend(
        handles,
        # Placeholders: matplotlib leaves out names that begin with an underscore.
        ["-"] * len(handles),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        frameon=False,
        handlelength=2.8,
        ncols=ceil(len(handles) / LEGEND_ROWS),
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(plain(name))


def set_up(axes: Axes, across: bool, axis: Axis) -> None:
    """Set scale, range, label and ticks: at 1, 2 and 5 times powers of ten, over several decades only at powers."""
    from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

    covers = axis.covers
    low, high = axes.dataLim.intervalx if across else axes.dataLim.intervaly
    if covers is None and not low <= high:  # no data
        covers = (1.0, 10.0) if axis.log else (0.0, 1.0)
    elif covers is None and axis.log and high < 1.001 * low:
        covers = (low / 2, high * 2)
    if covers is not None:
        axes.update_datalim([(value, value) for value in covers], updatex=across, updatey=not across)
    (axes.set_xscale if across else axes.set_yscale)("log" if axis.log else "linear")
    axes.autoscale_view(scalex=across, scaley=not across)
    drawn = axes.xaxis if across else axes.yaxis
    low, high = drawn.get_view_interval()

    def write(value: float, _: int | None = None) -> str:
        # Summed steps accumulate rounding errors, so zero may be a tiny number.
        return plain(axis.write(0.0 if not axis.log and abs(value) < 1e-9 * (high - low) else float(value)))

    locator: Locator = MaxNLocator(7, steps=[1, 2, 5, 10], integer=axis.whole, min_n_ticks=1)
    if axis.log:
        locator = LogLocator(subs=(1.0, 2.0, 5.0) if high <= 1000 * low else (1.0,))
    drawn.set_major_locator(locator)
    drawn.set_minor_locator(NullLocator())
    drawn.set_major_formatter(FuncFormatter(write))
    drawn.set_label_text(plain(axis.label))
