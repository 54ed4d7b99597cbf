"""Tables, CSV and charts, read back."""

import csv
from xml.etree import ElementTree

import numpy as np
import pytest
from sppnet.eval.chart import Axis, Line, line_chart, precision_recall_chart, ticks
from sppnet.eval.coco_ap import SUMMARY_NAMES, COCOResult
from sppnet.eval.report import coco_table, text_table, voc_table, write_curves_csv
from sppnet.eval.voc_ap import PrecisionRecall, VOCResult

SVG = "{http://www.w3.org/2000/svg}"
CAT = PrecisionRecall("cat", 2, np.array([0.9, 0.5, 0.25]), np.array([0.5, 0.5, 1.0]), np.array([1, 0.5, 2 / 3]))
COW = PrecisionRecall("cow & calf", 0, np.zeros(0), np.zeros(0), np.zeros(0))
RESULT = VOCResult((CAT, COW))


def test_text_table_aligns_and_marks_what_is_missing():
    table = text_table(["class", "AP", "n"], [["cat", 0.5, 12], ["horse-ish", float("nan"), None]], decimals=2)
    assert table.splitlines() == [
        "class        AP   n",
        "---------  ----  --",
        "cat        0.50  12",
        "horse-ish     -   -",
    ]
    assert text_table(["a", "b"], []).splitlines() == ["a  b", "-  -"]
    with pytest.raises(ValueError, match="rows of 2 cells like the header, got 1"):
        text_table(["a", "b"], [["only"]])


def test_voc_table_names_its_metrics_and_the_classes_without_objects():
    lines = voc_table(RESULT).splitlines()
    assert lines[0].split("  ")[-2:] == ["VOC07 11-point AP", "VOC area AP"]
    assert lines[2].split() == ["cat", "2", "3", "0.848", "0.833"]
    assert lines[3].split() == ["cow", "&", "calf", "0", "0", "-", "-"]
    assert lines[4].split() == ["mean", "2", "3", "0.848", "0.833"]
    assert lines[5] == "not in the mean, for want of objects to find: cow & calf"


def test_coco_table_names_its_metric():
    result = COCOResult(dict.fromkeys(SUMMARY_NAMES, 0.25), {"cat": 0.25, "dog": float("nan")})
    table = coco_table(result)
    assert "COCO AP@[.5:.95]" in table.splitlines()[0]
    assert "not in the mean, for want of objects to find: dog" in table
    assert [line.split()[0] for line in table.splitlines()[-12:]] == list(SUMMARY_NAMES)


def test_curves_csv_reads_back(tmp_path):
    write_curves_csv(tmp_path / "curves.csv", RESULT)
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["cat"] * 3
    for column, values in (("score", CAT.scores), ("recall", CAT.recall), ("precision", CAT.precision)):
        np.testing.assert_allclose([float(row[column]) for row in rows], values, atol=1e-6)


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
