"""Line charts: what they draw, read back from the SVG."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sppnet.eval.chart import Axis, Line, line_chart, precision_recall_chart
from sppnet.eval.svg import logarithmic_ticks, round_logarithmic_range, ticks
from sppnet.eval.voc_ap import PrecisionRecall, VOCResult

SVG = "{http://www.w3.org/2000/svg}"
CAT = PrecisionRecall("cat", 2, np.array([0.9, 0.5, 0.25]), np.array([0.5, 0.5, 1.0]), np.array([1, 0.5, 2 / 3]))
COW = PrecisionRecall("cow & calf", 0, np.zeros(0), np.zeros(0), np.zeros(0))
RESULT = VOCResult((CAT, COW))


def drawn_lines(svg):
    """The points of each data line of a chart, in pixels, one list for each stretch between gaps."""
    paths = [path for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if path.get("stroke-linejoin")]
    return [
        [[tuple(map(float, point.split())) for point in stretch.split("L")] for stretch in path.get("d").split("M")[1:]]
        for path in paths
    ]


def test_precision_recall_chart_is_xml_with_a_line_and_an_ap_for_each_class_that_has_objects():
    svg = precision_recall_chart(RESULT, "voc07")
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "cat 0.848" in texts
    assert any("VOC07 11-point AP" in text for text in texts)
    assert not any("cow" in text for text in texts)
    assert len(drawn_lines(svg)) == 1


def test_line_chart_puts_points_where_they_belong():
    ((first, last),) = drawn_lines(line_chart("t", [Line("a", [0, 10], [5, 1])], Axis("x"), Axis("y")))[0]
    ((middle, _),) = drawn_lines(line_chart("t", [Line("a", [5, 10], [3, 1])], Axis("x", (0, 10)), Axis("y", (1, 5))))[
        0
    ]
    assert first[0] < last[0]
    assert first[1] < last[1]  # SVG counts downwards: the higher value is nearer to the top
    np.testing.assert_allclose(middle, np.mean([first, last], axis=0), atol=0.11)


def test_line_chart_leaves_gaps_where_values_are_not_finite():
    (stretches,) = drawn_lines(
        line_chart("t", [Line("a", [0, 1, 2, 3, 4], [1, 2, float("nan"), 4, 5])], Axis("x"), Axis("y"))
    )
    assert [len(stretch) for stretch in stretches] == [2, 2]


def test_line_chart_thins_long_lines_but_keeps_their_extremes():
    x = np.linspace(0, 1, 50_000)
    y = np.sin(40 * x)
    y[31_234] = 3.0
    svg = line_chart("t", [Line("a", x.tolist(), y.tolist())], Axis("x"), Axis("y", (-1, 3)))
    ((points,),) = drawn_lines(svg)
    assert len(points) < 3000
    top = min(height for _, height in points)
    assert sum(height == top for _, height in points) == 1
    assert top == min(
        height
        for _, height in drawn_lines(line_chart("t", [Line("a", [0, 1], [3, 0])], Axis("x"), Axis("y", (-1, 3))))[0][0]
    )


def test_line_chart_of_nothing_and_of_hostile_names():
    ElementTree.fromstring(line_chart("empty", [], Axis("x"), Axis("y")))
    svg = line_chart("<b> & 'c'", [Line("<&>", [1.0], [2.0])], Axis("<x>"), Axis("&y"))
    assert "<&>" in [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    with pytest.raises(ValueError, match="line 'a' needs as many x as y, got 2 and 1"):
        Line("a", [1, 2], [1])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.3, 0.25, [-0.3, -0.2, -0.1, 0, 0.1, 0.2]),
        (0, 49_900, [0, 10_000, 20_000, 30_000, 40_000]),
        (7, 7.012, [7, 7.002, 7.004, 7.006, 7.008, 7.01, 7.012]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected
    assert all(str(value) != "-0.0" for value in ticks(low, high))


def test_ticks_refuse_an_empty_range():
    with pytest.raises(ValueError, match="expected low < high, got 1 and 1"):
        ticks(1, 1)


def test_logarithmic_axes_make_a_power_law_straight():
    x = [1, 3, 10, 40, 1000]
    squares = Line("squares", x, [value**2 for value in x])
    ((points,),) = drawn_lines(line_chart("t", [squares], Axis("x", log=True), Axis("y", log=True)))
    across, down = np.array(points).T
    np.testing.assert_allclose((across - across[0]) / (across[-1] - across[0]), np.log10(x) / 3, atol=1e-3)
    np.testing.assert_allclose((down - down[0]) / (down[-1] - down[0]), np.log10(x) / 3, atol=1e-3)


def test_logarithmic_axes_leave_gaps_where_values_are_not_positive():
    line = Line("a", [1, 2, 3, 0, 5, 6, 7, 8], [1, 2, -3, 4, 5, 6, float("inf"), 8])
    (stretches,) = drawn_lines(line_chart("t", [line], Axis("x", log=True), Axis("y", log=True)))
    assert [len(stretch) for stretch in stretches] == [2, 2, 1]
    ElementTree.fromstring(line_chart("empty", [Line("a", [0], [-1])], Axis("x", log=True), Axis("y", log=True)))


def test_one_axis_may_be_logarithmic_and_writes_its_ticks_in_its_own_way():
    line = Line("a", [1, 10, 100], [0, -5, -10])
    svg = line_chart("t", [line], Axis("x", log=True, write=lambda value: f"{value:g} MP"), Axis("y"))
    ((points,),) = drawn_lines(svg)
    np.testing.assert_allclose(points[1], np.mean([points[0], points[2]], axis=0), atol=0.11)
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert [text for text in texts if text.endswith(" MP")] == [f"{n} MP" for n in (1, 2, 5, 10, 20, 50, 100)]
    assert "-10" in texts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100, 10_000, [100, 200, 500, 1000, 2000, 5000, 10_000]),
        (0.3, 4, [0.5, 1, 2]),
        (0.001, 1000, [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
        (1e-8, 1e8, [1e-8, 1e-5, 1e-2, 1e1, 1e4, 1e7]),
        (31, 38, [32, 34, 36, 38]),
    ],
)
def test_logarithmic_ticks_are_round(low, high, expected):
    assert logarithmic_ticks(low, high) == expected


@given(st.floats(1e-200, 1e200), st.floats(1, 1e90))
def test_a_logarithmic_axis_holds_its_data_between_round_values(low, factor):
    high = low * factor
    first, last = round_logarithmic_range(low, high)
    assert first <= low <= high <= last
    # A step of 1, 2, 5 is at most a factor 2.5.
    assert low / first < 2.5 * (1 + 1e-9)
    assert last / high < 2.5 * (1 + 1e-9)
    marks = logarithmic_ticks(first, last)
    assert 2 <= len(marks) <= 8
    assert all(first * (1 - 1e-9) <= mark <= last * (1 + 1e-9) for mark in marks)
    assert marks == sorted(set(marks))


def test_axes_refuse_ranges_that_they_cannot_show():
    with pytest.raises(ValueError, match="logarithmic axis needs a range with 0 < low < high, got 0 and 1"):
        Axis("x", (0, 1), log=True)
    with pytest.raises(ValueError, match="axis needs a range with low < high, got 1 and 1"):
        Axis("x", (1, 1))
    with pytest.raises(ValueError, match="expected 0 < low < high, got 0 and 1"):
        logarithmic_ticks(0, 1)
