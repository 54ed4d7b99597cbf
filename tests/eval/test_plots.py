"""Line and bar charts: what they draw, read back from the figure."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from sppnet.eval.figures import Axis, save_figure
from sppnet.eval.plots import COLOURS, Bar, Group, Line, bar_chart, line_chart, precision_recall_chart
from sppnet.eval.voc_ap import PrecisionRecall, VOCResult

SVG = "{http://www.w3.org/2000/svg}"
CAT = PrecisionRecall("cat", 2, np.array([0.9, 0.5, 0.25]), np.array([0.5, 0.5, 1.0]), np.array([1, 0.5, 2 / 3]))
COW = PrecisionRecall("cow & calf", 0, np.zeros(0), np.zeros(0), np.zeros(0))
RESULT = VOCResult((CAT, COW))
GROUPS = [
    Group("decoding", [Bar("SPP", 0.002), Bar("R-CNN", 0.002)]),
    Group("warping", [Bar("R-CNN", 20.0)]),
    Group("total", [Bar("SPP", 0.2), Bar("compressed", 0.05), Bar("R-CNN", 20.0)]),
]


def legend(figure):
    shown = figure.axes[0].get_legend()
    return [] if shown is None else [text.get_text() for text in shown.get_texts()]


def points(figure):
    """The points (N, 2) of each line, NaN where there is a gap."""
    return [line.get_xydata() for line in figure.axes[0].lines]


def values_beside(figure):
    """The texts at the bars' ends."""
    return [text.get_text() for text in figure.axes[0].texts]


def test_precision_recall_chart_has_a_line_and_an_ap_for_each_class_that_has_objects():
    figure = precision_recall_chart(RESULT, "voc07")
    assert legend(figure) == ["cat 0.848"]
    assert "VOC07 11-point AP" in figure.axes[0].get_title(loc="left")
    (line,) = points(figure)
    np.testing.assert_array_equal(line, np.stack([CAT.recall, CAT.precision], axis=1))
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("recall", "precision")


def test_a_line_chart_shows_what_it_was_given():
    lines = [Line("a", [0, 10], [5, 1]), Line("b", range(3), [0.5, 1.5, -2])]
    figure = line_chart("Title", lines, Axis("across"), Axis("up"))
    axes = figure.axes[0]
    np.testing.assert_array_equal(points(figure)[0], [[0, 5], [10, 1]])
    np.testing.assert_array_equal(points(figure)[1], [[0, 0.5], [1, 1.5], [2, -2]])
    assert legend(figure) == ["a", "b"]
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("Title", "across", "up")


def test_missing_values_are_gaps():
    line = Line("a", [0, 1, 2, 3, 4], [1, None, float("nan"), float("inf"), 5])
    (drawn,) = points(line_chart("t", [line], Axis("x"), Axis("y")))
    gap = float("nan")
    np.testing.assert_array_equal(drawn, [[0, 1], [1, gap], [2, gap], [3, gap], [4, 5]])


def test_logarithmic_axes_leave_gaps_where_values_are_not_positive():
    line = Line("a", [1, 2, 3, 0, 5, 6, 7, 8], [1, 2, -3, 4, 5, 6, float("inf"), 8])
    figure = line_chart("t", [line], Axis("x", log=True), Axis("y", log=True))
    assert np.isfinite(points(figure)[0]).all(axis=1).tolist() == [1, 1, 0, 0, 1, 1, 0, 1]
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")


def test_one_axis_may_be_logarithmic_and_writes_its_ticks_in_its_own_way(tmp_path):
    line = Line("a", [1, 10, 100], [0, -5, -10])
    figure = line_chart("t", [line], Axis("x", log=True, write=lambda value: f"{value:g} MP"), Axis("y"))
    save_figure(tmp_path / "a.svg", figure)
    texts = [text.text for text in ElementTree.parse(tmp_path / "a.svg").iter(f"{SVG}text")]
    assert [text for text in texts if text.endswith(" MP")] == [f"{n} MP" for n in (1, 2, 5, 10, 20, 50, 100)]
    assert "-10" in texts


def test_a_point_without_neighbours_has_a_marker():
    """It would be invisible: a line is drawn from one point to the next."""
    y = [None if place in (50, 52) else 1.0 for place in range(100)]
    figure = line_chart("t", [Line("a", range(100), y), Line("b", [3], [2.0])], Axis("x"), Axis("y"))
    long, single = (line.get_markevery() for line in figure.axes[0].lines)
    assert 51 in long
    assert 5 < len(long) < 20
    assert not {50, 52} & set(long)
    assert single == [0]


def test_long_lines_are_small_files_but_keep_their_extremes(tmp_path):
    x = np.linspace(0, 1, 50_000)
    y = np.sin(40 * x)
    y[31_234] = 3.0
    figure = line_chart("t", [Line("a", x.tolist(), y.tolist())], Axis("x"), Axis("y", (-1, 3)))
    save_figure(tmp_path / "a.svg", figure)
    assert (tmp_path / "a.svg").stat().st_size < 100_000
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    longest = max((path.get("d") for path in root.iter(f"{SVG}path")), key=len)
    pairs = longest.replace("M", "").split("L")
    assert 100 < len(pairs) < 3000
    top = min(float(pair.split()[1]) for pair in pairs)
    place = figure.axes[0].transData.transform((0, 3.0))[1]
    height = float(root.get("height").removesuffix("pt"))
    assert top == pytest.approx(height - place * 72 / figure.dpi, abs=0.2)


def test_a_chart_of_nothing(tmp_path):
    for log in (False, True):
        axis = Axis("x", log=log)
        for lines in ([], [Line("a", [], [])], [Line("a", [0], [None])]):
            figure = line_chart("empty", lines, axis, axis)
            assert legend(figure) == [line.name for line in lines]
            save_figure(tmp_path / "a.svg", figure)
        for groups in ([], [Group("none", [])], [Group("zero", [Bar("a", 0.0)])]):
            figure = bar_chart("empty", groups, axis)
            assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [group.name for group in groups]
            save_figure(tmp_path / "a.svg", figure)


def test_a_line_needs_as_many_x_as_y():
    with pytest.raises(ValueError, match="line 'a' needs as many x as y, got 2 and 1"):
        Line("a", [1, 2], [1])


def test_twenty_lines_differ_in_colour_and_dashes_and_without_colours_too():
    figure = line_chart("t", [Line(str(n), [0, 1], [0, n]) for n in range(20)], Axis("x"), Axis("y"))
    lines = figure.axes[0].lines
    dashes = [str(line._dash_pattern) for line in lines]
    assert len({(to_hex(line.get_color()), dash) for line, dash in zip(lines, dashes, strict=True)}) == 20
    assert len({(line.get_marker(), dash) for line, dash in zip(lines, dashes, strict=True)}) == 20


# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009:
# linear RGB as seen without red, without green and without blue cones.
SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", SEEN)
def test_colour_blind_readers_tell_the_colours_apart(kind):
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(SEEN[kind]).T).clip(0, 1)
    lab = lab_of(seen)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    # Two CIELAB units are a difference that can just be seen.
    assert distances[np.triu_indices(len(COLOURS), 1)].min() > 10


def lab_of(linear):
    """CIELAB of linear sRGB, D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_bars_on_a_logarithmic_axis_start_at_the_power_of_ten_below_the_smallest():
    axes = bar_chart("t", GROUPS, Axis("s", log=True)).axes[0]
    assert axes.get_xscale() == "log"
    np.testing.assert_allclose([bar.get_x() for bar in axes.patches], 0.001)
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(ends, [bar.value for group in GROUPS for bar in group.bars])
    assert axes.get_xlim()[0] == pytest.approx(0.001)
    assert axes.get_xlim()[1] > 20


def test_a_bar_that_is_a_power_of_ten_itself_can_be_seen():
    axes = bar_chart("t", [Group("g", [Bar("a", 0.1), Bar("b", 1.0)])], Axis("s", log=True)).axes[0]
    assert axes.get_xlim()[0] == pytest.approx(0.01)


def test_bars_on_a_linear_axis_start_at_zero():
    axes = bar_chart("t", [Group("g", [Bar("a", 4), Bar("b", 2), Bar("c", -1)])], Axis("s")).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 4), (0, 2), (0, -1)]
    assert axes.get_xlim()[0] <= -1
    assert axes.get_xlim()[1] > 4


def test_bars_of_the_same_name_look_like_the_legend():
    figure = bar_chart("t", GROUPS, Axis("s", log=True))
    assert legend(figure) == ["SPP", "R-CNN", "compressed"]
    marks = figure.axes[0].get_legend().get_patches()
    look = {name: (mark.get_facecolor(), mark.get_hatch()) for name, mark in zip(legend(figure), marks, strict=True)}
    assert len({colour for colour, _ in look.values()}) == len({hatch for _, hatch in look.values()}) == 3
    drawn = [(bar.get_facecolor(), bar.get_hatch()) for bar in figure.axes[0].patches]
    assert drawn == [look[bar.name] for group in GROUPS for bar in group.bars]


def test_bars_do_not_overlap_and_stand_in_order_beside_their_groups_name():
    axes = bar_chart("t", GROUPS, Axis("s", log=True)).axes[0]
    assert axes.yaxis_inverted()
    tops = [bar.get_y() for bar in axes.patches]
    steps = [after - before for before, after in pairwise(tops)]
    assert min(steps) > axes.patches[0].get_height()
    assert steps[1] == steps[2] > steps[0]  # the gap between groups
    assert [label.get_text() for label in axes.get_yticklabels()] == ["decoding", "warping", "total"]
    middles = [top + axes.patches[0].get_height() / 2 for top in tops]
    np.testing.assert_allclose(axes.get_yticks(), [np.mean(middles[:2]), middles[2], np.mean(middles[3:])], atol=2)


def test_values_stand_at_the_ends_as_the_axis_writes_them():
    figure = bar_chart("t", GROUPS, Axis("s", log=True, write=lambda value: f"{1000 * value:g} ms"))
    assert values_beside(figure) == ["2 ms", "2 ms", "20000 ms", "200 ms", "50 ms", "20000 ms"]
    for text, bar in zip(figure.axes[0].texts, figure.axes[0].patches, strict=True):
        assert text.xy == (pytest.approx(bar.get_x() + bar.get_width()), bar.get_y() + bar.get_height() / 2)
    figure.draw_without_rendering()
    right = figure.axes[0].get_window_extent().x1
    assert all(text.get_window_extent().x1 < right for text in figure.axes[0].texts)


def test_what_cannot_be_shown_has_no_bar():
    group = Group("g", [Bar("a", float("nan")), Bar("b", 0.0), Bar("c", -1.0), Bar("d", 1.0)])
    assert values_beside(bar_chart("t", [group], Axis("s", log=True))) == ["1"]
    assert values_beside(bar_chart("t", [group], Axis("s"))) == ["0", "-1", "1"]


def test_the_axis_of_bars_holds_its_range():
    axes = bar_chart("t", [Group("g", [Bar("a", 1000), Bar("b", 10)])], Axis("s", (1, 10_000), log=True)).axes[0]
    low, high = axes.get_xlim()
    assert low <= 1
    assert high >= 10_000


def test_fourteen_bars_look_different():
    figure = bar_chart("many", [Group("g", [Bar(str(number), 1.0 + number) for number in range(14)])], Axis("x"))
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in figure.axes[0].patches}) == 14
    assert len(legend(figure)) == 14
