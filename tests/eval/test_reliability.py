"""Calibration error: answers by construction, a slow reference, and undefined cases."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.calibration import expected_calibration_error as slow_error
from sppnet.data.detections import Detections
from sppnet.data.sample import Sample
from sppnet.eval.reliability import (
    AT_LEAST,
    Verdicts,
    error_lines,
    expected_calibration_error,
    reliability,
    reliability_chart,
    reliability_report,
    verdicts,
)
from sppnet.eval.voc_ap import judge_voc

# Edges of bins are the rule.
PROBABILITY = st.one_of(st.floats(0, 1), st.integers(0, 20).map(lambda n: n / 20), st.floats(0, 1, width=32))


@given(st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_the_error_is_that_of_the_slow_twin(pairs, bins):
    p, right = zip(*pairs, strict=True)
    error = expected_calibration_error(p, right, bins)
    assert error == pytest.approx(slow_error(p, right, bins), abs=1e-12)
    assert 0 <= error <= 1
    assert sum(one.count for one in reliability(p, right, bins)) == len(pairs)


def test_errors_known_by_construction():
    assert expected_calibration_error([0.5, 0.5], [True, False]) == 0
    assert expected_calibration_error([1.0, 1.0, 0.0], [True, True, False]) == 0
    assert expected_calibration_error([1.0, 0.0], [False, True]) == 1
    # Three quarters said 0.9 and half of them right, one quarter said 0.1 and wrong.
    p, right = [0.9] * 6 + [0.1] * 2, [True, False] * 3 + [False] * 2
    assert expected_calibration_error(p, right) == pytest.approx(0.75 * 0.4 + 0.25 * 0.1)
    # In one bin over- and underrated ones cancel out.
    assert expected_calibration_error([1.0, 0.0], [False, True], bins=1) == 0


def test_a_true_coin_has_a_small_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20_000)
    right = rng.uniform(size=20_000) < p
    assert expected_calibration_error(p, right) < 0.02
    assert expected_calibration_error(np.sqrt(p), right) > 0.1


def test_bins_are_half_open_and_the_last_holds_one():
    bins = reliability([0.0, 0.1, 0.3, 0.7, 1.0], [False, True, True, False, True])
    assert [one.count for one in bins] == [1, 1, 0, 1, 0, 0, 0, 1, 0, 1]
    assert (bins[3].low, bins[3].high, bins[3].mean_probability, bins[3].share_right) == (0.3, 0.4, 0.3, 1.0)
    assert np.isnan(bins[2].mean_probability)
    assert np.isnan(bins[2].share_right)


def test_nothing_to_measure():
    assert np.isnan(expected_calibration_error([], []))
    nothing = Verdicts(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
    figures = nothing.to_dict()
    assert (figures["detections"], figures["ece"], figures["shown"], figures["ece_shown"]) == (0, None, 0, None)
    assert "0 detections with a probability from 0.05 up: -" in reliability_report(nothing)
    assert [len(line.get_xdata()) for line in reliability_chart(nothing).axes[0].lines] == [2, 0]


@pytest.mark.parametrize(
    ("p", "right", "bins", "message"),
    [
        ([0.5, 0.5], [True], 10, r"for each detection, got \(2,\) and \(1,\)"),
        ([[0.5]], [[True]], 10, r"for each detection, got \(1, 1\) and \(1, 1\)"),
        ([0.5, 1.5], [True, True], 10, "from 0 to 1, got 1.5"),
        ([np.nan], [True], 10, "from 0 to 1, got nan"),
        ([0.5], [True], 0, "at least 1 bin, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(p, right, bins, message):
    with pytest.raises(ValueError, match=message):
        reliability(p, right, bins)


def test_next_to_impossible_detections_do_not_count_and_shown_ones_are_measured_apart():
    made = Verdicts(
        np.array([0.9, 0.6, AT_LEAST, 0.04, 0.0]),
        np.array([True, False, False, True, False]),
        np.array([True, False, False, False, False]),
    )
    figures = made.to_dict()
    assert figures["detections"] == 3
    assert figures["ece"] == pytest.approx((0.1 + 0.6 + 0.05) / 3)
    assert figures["shown"] == 1
    assert figures["ece_shown"] == pytest.approx(0.1)
    assert error_lines(figures) == [
        "expected calibration error of 3 detections with a probability from 0.05 up: 0.250",
        "expected calibration error of 1 detections shown by default: 0.100",
    ]
    assert "shown" not in Verdicts(made.probabilities, made.right).to_dict()


def test_the_table_and_the_chart_have_the_bins_that_are_not_empty():
    made = Verdicts(np.array([0.25, 0.25, 0.85, 0.01]), np.array([True, False, True, True]))
    lines = reliability_report(made).splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["0.2", "to", "0.3", "2", "0.250", "0.500"],
        ["0.8", "to", "0.9", "1", "0.850", "1.000"],
    ]
    assert len(lines) == 5
    axes = reliability_chart(made).axes[0]
    assert axes.get_title(loc="left") == "Reliability; expected calibration error 0.217"
    diagonal, bins = (line.get_xydata() for line in axes.lines)
    np.testing.assert_array_equal(diagonal, [[0, 0], [1, 1]])
    np.testing.assert_allclose(bins, [[0.25, 0.5], [0.85, 1.0]])


def test_verdicts_find_the_probability_of_each_detection():
    """Two classes in three images, one of them without anything."""
    names = ("dog", "cat")
    here, there = [0, 0, 10, 10], [50, 50, 60, 60]
    none = np.zeros((0, 4), np.float32)
    samples = [
        Sample("a", Path("a"), np.array([here], np.float32), np.array([0]), np.array([False])),
        Sample("b", Path("b"), none, np.zeros(0, np.int64), np.zeros(0, bool)),
        Sample("c", Path("c"), np.array([here, there], np.float32), np.array([1, 0]), np.array([False, True])),
    ]
    found = [
        Detections([there, here, here], [0.1, 3.0, 2.0], [0, 1, 0], names, [0.2, 0.9, 0.7]),
        Detections.empty(names),
        Detections([here, there, there], [1.0, 0.5, 4.0], [1, 0, 0], names, [0.6, 0.4, 0.95]),
    ]
    classes = ("dog", "cat")
    made = verdicts(found, judge_voc(found, samples, classes), [0.5, 0.8])
    # Dogs by score: the difficult one in c counts for neither of its boxes; then 2.0 and 0.1 in a.
    np.testing.assert_allclose(made.probabilities, [0.7, 0.2, 0.9, 0.6], rtol=1e-6)
    np.testing.assert_array_equal(made.right, [True, False, False, True])
    np.testing.assert_array_equal(made.shown, [True, False, True, False])
    turned = verdicts(found, judge_voc(found, samples, classes, ["cat", "dog"]))
    np.testing.assert_allclose(turned.probabilities, [0.9, 0.6, 0.7, 0.2], rtol=1e-6)
    assert turned.shown is None
    with pytest.raises(ValueError, match="expected detections with probabilities, got some without"):
        verdicts([Detections([here], [1], [0], names)], judge_voc([Detections.empty(names)], samples[:1], classes))
