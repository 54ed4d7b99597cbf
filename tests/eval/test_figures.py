"""Style of the charts, and their files."""

import ast
import os
import subprocess
import sys
import warnings
from math import log10
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import sppnet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sppnet.data.errors import InputError
from sppnet.eval.figures import Axis, check_figure_path, save_figure
from sppnet.eval.plots import Bar, Group, Line, bar_chart, line_chart

HOSTILE = ["<b>$x$ & _y", "_hidden", "$\\frac{1}{$", "two\nlines", "nul\x00", "100 % \\$ {}", "\ud800", "{猫}", ""]
CHARTS = """
from sppnet.eval.figures import Axis, save_figure
from sppnet.eval.plots import Bar, Group, Line, bar_chart, line_chart
lines = [Line("a", [1, 2, 3], [0.1, None, 0.3]), Line("<b>$x$ & _y", [1, 2, 3], [3, 2, 1])]
save_figure("line.svg", line_chart("t", lines, Axis("x"), Axis("y", log=True)))
save_figure("line.png", line_chart("t", lines, Axis("x"), Axis("y", log=True)))
groups = [Group("g", [Bar("a", 1.0), Bar("b", 20.0)]), Group("h", [Bar("b", 2.0)])]
save_figure("bar.svg", bar_chart("t", groups, Axis("s", log=True)))
save_figure("bar.png", bar_chart("t", groups, Axis("s", log=True)))
import sys
assert "matplotlib.pyplot" not in sys.modules
"""


def ticks(axis):
    """Values and texts of an axis's ticks inside its range."""
    low, high = axis.get_view_interval()
    values = axis.get_majorticklocs()
    texts = axis.get_major_formatter().format_ticks(values)
    return [(value, text) for value, text in zip(values, texts, strict=True) if low <= value <= high]


def drawn_ticks(low, high, **options):
    """The texts of the y axis's ticks of a line from ``low`` to ``high``."""
    figure = line_chart("t", [Line("a", [0, 1], [low, high])], Axis("x"), Axis("y", **options))
    return [text for _, text in ticks(figure.axes[0].yaxis)]


def svg_texts(path):
    return [text.text or "" for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_data_give_the_same_bytes_whatever_the_users_settings_are(tmp_path):
    """In two processes, one of which has other defaults, another salt of hashes and another year."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "matplotlibrc").write_text(
        "font.size: 20\nlines.linewidth: 5\nsvg.hashsalt: other\nsvg.fonttype: path\nfont.family: serif\n"
        "axes.facecolor: black\nsavefig.dpi: 30\nsavefig.bbox: tight\ntext.parse_math: True\ntext.usetex: True\n"
    )
    path = str(Path(sppnet.__file__).parent.parent)
    for folder, more in zip(folders, ({}, {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}), strict=True):
        environment = {**os.environ, "PYTHONPATH": path, **more}
        subprocess.run([sys.executable, "-c", CHARTS], cwd=folder, env=environment, check=True)
    for name in ("line.svg", "line.png", "bar.svg", "bar.png"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    text = (folders[0] / "line.svg").read_text()
    assert "<dc:date>" not in text
    assert matplotlib.__version__ not in text


def test_the_callers_settings_stay():
    before = dict(matplotlib.rcParams)
    line_chart("t", [Line("a", [1], [1])], Axis("x"), Axis("y"))
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.hashsalt": "mine"}):
        line_chart("t", [Line("a", [1], [1])], Axis("x"), Axis("y"))
        assert (matplotlib.rcParams["lines.linewidth"], matplotlib.rcParams["svg.hashsalt"]) == (9, "mine")
    assert dict(matplotlib.rcParams) == before


def test_svg_and_png_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = line_chart("t", [Line("a", [1, 2], [1, 2])], Axis("x"), Axis("y"))
    save_figure(tmp_path / "new" / "a.svg", figure)
    save_figure(tmp_path / "new" / "a.PNG", figure)
    assert ElementTree.parse(tmp_path / "new" / "a.svg").getroot().tag.endswith("svg")
    with Image.open(tmp_path / "new" / "a.PNG") as image:
        assert (image.format, image.size) == ("PNG", (1125, 687))
    before = (tmp_path / "new" / "a.svg").read_bytes()
    monkeypatch.setattr(type(figure), "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_figure(tmp_path / "new" / "a.svg", figure)
    assert (tmp_path / "new" / "a.svg").read_bytes() == before
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_other_kinds_of_files_are_refused(tmp_path):
    figure = line_chart("t", [], Axis("x"), Axis("y"))
    with pytest.raises(ValueError, match=r"expected a path that ends in .svg or .png, got .*a.pdf"):
        save_figure(tmp_path / "a.pdf", figure)
    with pytest.raises(InputError, match=r"--plot writes SVG or PNG; expected a name that ends in .svg or .png, not a"):
        check_figure_path(Path("a"), "--plot")
    check_figure_path(Path("a.SVG"), "--plot")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["lines", "bars"])
def test_names_are_shown_as_they_are(name, kind, tmp_path):
    """None is a formula, a hidden label or XML; what SVG has no sign for is a space."""
    axis = Axis(name, write=lambda value: f"{name}{value:g}")
    if kind == "lines":
        figure = line_chart(name, [Line(name, [1, 2], [1, 2])], axis, axis)
    else:
        figure = bar_chart(name, [Group(name, [Bar(name, 1.0)])], axis)
    (shown,) = figure.axes[0].get_legend().get_texts()
    expected = "".join(sign if sign.isprintable() else " " for sign in name)
    assert shown.get_text() == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of signs that matplotlib's own font lacks
        save_figure(tmp_path / "a.svg", figure)
    found = svg_texts(tmp_path / "a.svg")
    at_least = 3 if kind == "lines" else 4  # title, legend, axes; names of groups
    assert found.count(expected) >= at_least or not expected
    assert any(text.startswith(expected) and text.endswith("1") for text in found)


def test_long_names_are_cut_and_leave_room_for_the_data():
    figure = line_chart("t" * 500, [Line("W" * 300, [1, 2], [1, 2])], Axis("x"), Axis("y"))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "W" * 39 + "…"
    assert axes.get_window_extent().width > 0.25 * figure.bbox.width
    assert axes.get_tightbbox().x1 <= figure.bbox.width
    assert axes.get_tightbbox().x0 >= 0


@pytest.mark.parametrize("count", [1, 20, 80])
def test_the_legend_of_many_lines_can_be_read(count):
    """Its names stand one under the other inside the figure, right of the data."""
    lines = [Line(f"diningtable {number}", [0, 1], [0, number]) for number in range(count)]
    figure = line_chart("t", lines, Axis("x"), Axis("y"))
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert len(boxes) == count
    assert all(not one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    whole = legend.get_window_extent()
    assert figure.axes[0].get_window_extent().x1 <= whole.x0
    assert whole.x1 <= figure.bbox.width
    assert whole.y0 >= 0
    assert figure.axes[0].get_window_extent().width > 0.3 * figure.bbox.width


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-0.3, 0.25, ["-0.3", "-0.2", "-0.1", "0", "0.1", "0.2"]),
        (0, 49_900, ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        (7, 7.012, ["7", "7.002", "7.004", "7.006", "7.008", "7.01", "7.012"]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert drawn_ticks(low, high) == expected


def test_ticks_are_whole_where_values_are():
    assert drawn_ticks(1, 3, whole=True) == ["1", "2", "3"]
    assert drawn_ticks(1, 1, whole=True) == ["1"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100, 10_000, [100, 200, 500, 1000, 2000, 5000, 10_000]),
        (0.3, 4, [0.5, 1, 2]),
        (0.001, 1000, [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
        (32, 38, [32, 33, 34, 35, 36, 37, 38]),
    ],
)
def test_logarithmic_ticks_are_round(low, high, expected):
    assert [float(text.replace(",", "")) for text in drawn_ticks(low, high, log=True)] == expected


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-200, 1e200), st.floats(1, 1e90))
def test_a_logarithmic_axis_holds_its_data_and_has_some_ticks(low, factor):
    high = low * factor
    figure = line_chart("t", [Line("a", [0, 1], [low, high])], Axis("x"), Axis("y", log=True))
    first, last = figure.axes[0].get_ylim()
    assert 0 < first <= low <= high <= last
    values = [value for value, _ in ticks(figure.axes[0].yaxis)]
    assert 1 <= len(values) <= 12
    if factor > 1e4:
        assert all(log10(value) == pytest.approx(round(log10(value)), abs=1e-6) for value in values)


def test_axes_refuse_ranges_that_they_cannot_show():
    with pytest.raises(ValueError, match="logarithmic axis needs a range with 0 < low < high, got 0 and 1"):
        Axis("x", (0, 1), log=True)
    with pytest.raises(ValueError, match="axis needs a range with low < high, got 1 and 1"):
        Axis("x", (1, 1))


@pytest.mark.parametrize(
    ("covers", "data", "expected"),
    [((0, 1), (0.4, 0.6), (0, 1)), ((0, 1), (-3, 0.6), (-3, 1)), ((0, 1), (0.2, 5), (0, 5)), (None, (2, 5), (2, 5))],
)
def test_an_axis_holds_its_range_and_all_data(covers, data, expected):
    figure = line_chart("t", [Line("a", [0, 1], data)], Axis("x"), Axis("y", covers))
    low, high = figure.axes[0].get_ylim()
    margin = 0.02 * (expected[1] - expected[0])
    np.testing.assert_allclose([low, high], [expected[0] - margin, expected[1] + margin])


def test_the_package_uses_no_pyplot_and_loads_matplotlib_where_it_draws():
    """So that no display, no global state, and no time of commands that draw no chart are taken."""
    package = Path(sppnet.__file__).parent
    floors = ("data", "proposals", "eval", "detector", "scripts")
    files = [path for floor in floors for path in package.glob(f"{floor}/**/*.py")]
    assert len(files) > 100
    for path in [package / "__init__.py", *files]:
        text = path.read_text(encoding="utf-8")
        assert "matplotlib.pyplot" not in text
        assert "import pyplot" not in text
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "matplotlib" not in ast.unparse(node), path
