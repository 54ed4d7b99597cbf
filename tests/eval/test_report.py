"""Tables and CSV, read back."""

import csv

import numpy as np
import pytest
from sppnet.eval.coco_ap import SUMMARY_NAMES, COCOResult
from sppnet.eval.report import coco_table, text_table, voc_table, write_curves_csv
from sppnet.eval.voc_ap import PrecisionRecall, VOCResult

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
    assert lines[5] == "not in the mean (no objects): cow & calf"


def test_coco_table_names_its_metric():
    result = COCOResult(dict.fromkeys(SUMMARY_NAMES, 0.25), {"cat": 0.25, "dog": float("nan")})
    table = coco_table(result)
    assert "COCO AP@[.5:.95]" in table.splitlines()[0]
    assert "not in the mean (no objects): dog" in table
    assert [line.split()[0] for line in table.splitlines()[-12:]] == list(SUMMARY_NAMES)


def test_curves_csv_reads_back(tmp_path):
    write_curves_csv(tmp_path / "curves.csv", RESULT)
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["cat"] * 3
    for column, values in (("score", CAT.scores), ("recall", CAT.recall), ("precision", CAT.precision)):
        np.testing.assert_allclose([float(row[column]) for row in rows], values, atol=1e-6)
