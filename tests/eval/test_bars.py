"""Bar charts: what they draw, read back from the SVG."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from sppnet.eval.bars import Axis, Bar, Group, bar_chart

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Group("decoding", [Bar("SPP", 0.002), Bar("R-CNN", 0.002)]),
    Group("warping", [Bar("R-CNN", 20.0)]),
    Group("total", [Bar("SPP", 0.2), Bar("compressed", 0.05), Bar("R-CNN", 20.0)]),
]


def texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def drawn_bars(svg):
    """Left edge, top, width and colour of each bar, then those of the legend's marks, in the order drawn."""
    rectangles = [rect for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect") if rect.get("x")]
    read = [(*(float(rect.get(key)) for key in ("x", "y", "width")), rect.get("fill")) for rect in rectangles]
    heights = [rect.get("height") for rect in rectangles]
    bars = heights.count("12")
    return read[:bars], read[bars:]


def test_bars_on_a_logarithmic_axis_start_at_the_power_of_ten_below_the_smallest():
    bars, _ = drawn_bars(bar_chart("t", GROUPS, Axis("s", log=True)))
    assert len({left for left, *_ in bars}) == 1
    widths = [width for _, _, width, _ in bars]
    decade = widths[2] - widths[3]  # 20 to 0.2 are two
    assert widths[0] == widths[1] == pytest.approx(0.30103 * decade / 2, abs=0.2)  # 0.001 to 0.002
    assert widths[2] == widths[5] == max(widths)


def test_a_bar_that_is_a_power_of_ten_itself_can_be_seen():
    bars, _ = drawn_bars(bar_chart("t", [Group("g", [Bar("a", 0.1), Bar("b", 1.0)])], Axis("s", log=True)))
    assert bars[1][2] == pytest.approx(2 * bars[0][2], abs=0.2)
    assert bars[0][2] > 50


def test_bars_on_a_linear_axis_start_at_zero():
    bars, _ = drawn_bars(bar_chart("t", [Group("g", [Bar("a", 4), Bar("b", 2), Bar("c", -1)])], Axis("s")))
    a, b, c = bars
    assert a[2] == pytest.approx(2 * b[2], abs=0.2)
    assert a[2] == pytest.approx(4 * c[2], abs=0.4)
    assert a[0] == b[0] == pytest.approx(c[0] + c[2], abs=0.2)
    (a, b), _ = drawn_bars(bar_chart("t", [Group("g", [Bar("a", 4), Bar("b", 2)])], Axis("s")))
    assert a[2] == pytest.approx(2 * b[2], abs=0.2)


def test_bars_of_the_same_name_have_the_colour_of_the_legend():
    svg = bar_chart("t", GROUPS, Axis("s", log=True))
    bars, marks = drawn_bars(svg)
    assert texts(svg)[-3:] == ["SPP", "R-CNN", "compressed"]
    colour = dict(zip(texts(svg)[-3:], [mark[3] for mark in marks], strict=True))
    assert len(set(colour.values())) == 3
    assert [bar[3] for bar in bars] == [colour[bar.name] for group in GROUPS for bar in group.bars]


def test_bars_do_not_overlap_and_stand_in_order():
    tops = [top for _, top, _, _ in drawn_bars(bar_chart("t", GROUPS, Axis("s", log=True)))[0]]
    steps = [after - before for before, after in pairwise(tops)]
    assert min(steps) > 12
    assert steps[1] == steps[2] > steps[0]  # the gap between groups


def test_values_stand_at_the_ends_as_the_axis_writes_them():
    svg = bar_chart("t", GROUPS, Axis("s", log=True, write=lambda value: f"{1000 * value:g} ms"))
    assert texts(svg).count("20000 ms") == 2
    assert {"2 ms", "200 ms", "50 ms"} <= set(texts(svg))


def test_what_cannot_be_shown_has_no_bar():
    group = Group("g", [Bar("a", float("nan")), Bar("b", 0.0), Bar("c", -1.0), Bar("d", 1.0)])
    assert len(drawn_bars(bar_chart("t", [group], Axis("s", log=True)))[0]) == 1
    assert len(drawn_bars(bar_chart("t", [group], Axis("s")))[0]) == 3


def test_a_bar_that_leaves_a_given_range_is_cut_at_its_edge():
    group = Group("g", [Bar("a", 1000), Bar("b", 10), Bar("c", 0.1)])
    bars, _ = drawn_bars(svg := bar_chart("t", [group], Axis("s", (1, 10), log=True)))
    assert bars[0][2] == bars[1][2] > 50
    assert bars[2][2] == 0
    assert {"1,000", "0.1"} <= set(texts(svg))


@pytest.mark.parametrize("log", [False, True])
def test_nothing_hostile_names_and_many_bars(log):
    ElementTree.fromstring(bar_chart("empty", [], Axis("x", log=log)))
    assert "none" in texts(bar_chart("empty", [Group("none", [])], Axis("x", log=log)))
    hostile = [Group("<g> & 'h'", [Bar("<&>", 1.0)])]
    found = texts(bar_chart("<b>", hostile, Axis("<x>", log=log, write=lambda value: f"<{value}>")))
    assert {"<b>", "<g> & 'h'", "<&>", "<x>", "<1.0>"} <= set(found)
    many = [Group("g", [Bar(str(number), 1.0 + number) for number in range(14)])]
    _, marks = drawn_bars(bar_chart("many", many, Axis("x", log=log)))
    assert len(marks) == 14
