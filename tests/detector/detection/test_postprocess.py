"""Threshold, suppression, cap and regression, on answers known by construction."""

from dataclasses import replace

import numpy as np
import pytest
from reference.calibration import sigmoid
from reference.postprocess import finish as slow_finish
from sppnet.detector.detection.calibration import Calibration
from sppnet.detector.detection.postprocess import finish, select
from sppnet.detector.options import RCNN_DETECTION, DetectOptions

WINDOWS = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]], np.float32)
SCORES = np.array([[0.9, -2.0], [0.8, 0.5], [-0.2, 0.7], [-1.6, 0.1]], np.float32)


def looking(regress, rescore=None):
    """What ``finish`` asks, of a function for the deltas and one for the scores."""
    return lambda boxes, labels, scored: (regress(boxes, labels), rescore(boxes, labels) if scored else None)


def test_select_suppresses_within_a_class_only():
    rows, labels = select(WINDOWS, SCORES, -1.5, 0.3, 100)
    assert list(zip(labels.tolist(), rows.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 2), (1, 1), (1, 3)]


def test_cap_counts_for_each_class():
    rows, labels = select(WINDOWS, SCORES, -1.5, 0.3, 1)
    assert list(zip(labels.tolist(), rows.tolist(), strict=True)) == [(0, 0), (1, 2)]


def test_finish_orders_by_score_and_applies_the_threshold():
    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), threshold=0.3)
    np.testing.assert_array_equal(found.scores, np.array([0.9, 0.7, 0.5], np.float32))
    np.testing.assert_array_equal(found.labels, [0, 1, 1])
    np.testing.assert_array_equal(found.boxes, WINDOWS[[0, 2, 1]])


def test_regression_moves_clips_and_suppresses_again():
    def onto_each_other(boxes, labels):
        """Every window of class 1 is carried to the window in row 2."""
        shift = np.zeros((len(boxes), 4), np.float32)
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        moved = labels == 1
        shift[moved, :2] = (25 - centres[moved]) / sizes[moved]
        return shift

    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), RCNN_DETECTION, -np.inf, looking(onto_each_other))
    assert (found.labels == 1).sum() == 1
    np.testing.assert_array_equal(found.boxes[found.labels == 1], WINDOWS[[2]])

    def outwards(boxes, labels):
        return np.tile(np.array([0, 0, 1.5, 1.5], np.float32), (len(boxes), 1))

    wide = finish(
        WINDOWS,
        SCORES,
        (32, 35),
        ("a", "b"),
        replace(RCNN_DETECTION, nms_before=1.0, nms=1.0),
        -np.inf,
        looking(outwards),
    )
    assert wide.boxes[:, 0].min() >= 0
    assert wide.boxes[:, 2].max() <= 35
    assert wide.boxes[:, 3].max() <= 32


def test_a_box_is_regressed_from_where_it_was_moved_to():
    def to_the_right(boxes, labels):
        """By one and a half widths, at last out of the image."""
        return np.tile(np.array([1.5, 0, 0, 0], np.float32), (len(boxes), 1))

    def lefts(times):
        options = replace(RCNN_DETECTION, nms_before=1.0, nms=1.0, regressions=times)
        found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), options, -np.inf, looking(to_the_right))
        return sorted(found.boxes[found.labels == 0, 0].tolist())

    # Class a keeps all windows but the last.
    assert [lefts(times) for times in range(3)] == [[0, 0, 20], [15, 15, 35], [30, 30, 50]]
    # What has left the image is gone, and is asked for no more.
    assert [lefts(times) for times in (3, 5)] == [[45, 45], []]


def test_no_windows_give_no_detections():
    found = finish(WINDOWS[:0], SCORES[:0], (60, 60), ("a", "b"), DetectOptions(), -np.inf)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.class_names == ("a", "b")


CALIBRATION = Calibration((2.0, 1.0), (0.0, -1.0), (0.5, 0.4))


def test_calibrated_detections_have_probabilities_and_keep_their_order():
    plain = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), -np.inf)
    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), -np.inf, calibration=CALIBRATION)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    assert not plain.calibrated
    expected = [sigmoid((2 * s, s - 1)[k]) for s, k in zip(found.scores.tolist(), found.labels.tolist(), strict=True)]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)


def test_the_threshold_of_calibrated_detections_is_a_probability_each_class_may_have_its_own():
    def kept(threshold):
        found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), threshold, calibration=CALIBRATION)
        return found.labels.tolist()

    # Of class a the scores 0.9, -0.2 are 86 % and 40 % sure, of class b 0.7, 0.5, 0.1 are 43 %, 38 % and 29 %.
    assert kept(0.41) == [0, 1]
    assert kept(CALIBRATION.thresholds) == [0, 1]
    assert kept((0.3, 0.9)) == [0, 0]
    assert kept((0.9, 0.0)) == [1, 1, 1]
    assert kept(1.0) == []
    # One that is just as probable is left out, in float32 as it is said.
    edge = CALIBRATION.probabilities(np.float32([0.9]), [0])[0]
    assert kept(float(edge)) == []
    assert len(kept(float(np.nextafter(edge, np.float32(0))))) == 1


def test_probabilities_survive_regression_and_suppression():
    still = finish(
        WINDOWS,
        SCORES,
        (60, 60),
        ("a", "b"),
        RCNN_DETECTION,
        -np.inf,
        looking(lambda boxes, labels: np.zeros((len(boxes), 4), np.float32)),
        calibration=CALIBRATION,
    )
    np.testing.assert_array_equal(still.probabilities, CALIBRATION.probabilities(still.scores, still.labels))
    assert len(still) == 5
    none = finish(WINDOWS[:0], SCORES[:0], (60, 60), ("a", "b"), DetectOptions(), 0.5, calibration=CALIBRATION)
    assert none.probabilities.shape == (0,)


# --- boxes that are scored again, and vote ----------------------------------------------------------------------------


def crowd(seed, count=60):
    """Random overlapping windows and scores, and functions of a box and its label for deltas and scores."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (count, 2))
    windows = np.concatenate([corners, corners + rng.uniform(2, 40, (count, 2))], axis=1).astype(np.float32)
    scores = rng.normal(-0.5, 1, (count, 2)).astype(np.float32)
    mix = rng.normal(0, 1, (2, 4, 5)) / 100

    def regress(boxes, labels):
        return np.einsum("nkc,nc->nk", mix[labels, :, :4], np.sin(boxes)).astype(np.float32) * 10

    def rescore(boxes, labels):
        return np.cos(boxes.sum(axis=1) + labels).astype(np.float32)

    return windows, scores, regress, rescore


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"voting": 1.0},
        {"rescored": False},
        {"regressions": 0},
        {"regressions": 3, "nms_before": 0.9, "voting": 0.2},
        {"nms_before": 0.3, "max_per_class": 4},
        {"max_per_class_before": 9, "max_per_class": 2, "nms": 0.8},
        {"regressions": 0, "max_per_class_before": 1, "max_per_class": 3},
        {"keep_above": 5.0},
    ],
)
def test_against_loops_over_single_boxes(seed, changes):
    windows, scores, regress, rescore = crowd(seed)
    options = DetectOptions(**changes)
    found = finish(windows, scores, (80, 90), ("a", "b"), options, -np.inf, looking(regress, rescore))
    expected = slow_finish(windows, scores, (80, 90), options, regress, rescore)
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.labels, [label for _, label, _ in expected])
    np.testing.assert_allclose(found.scores, [score for _, _, score in expected], atol=1e-5)
    np.testing.assert_allclose(found.boxes, np.reshape([box for box, _, _ in expected], (-1, 4)), atol=1e-3)


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
@pytest.mark.parametrize("options", [RCNN_DETECTION, DetectOptions(), replace(RCNN_DETECTION, voting=0.5)])
def test_a_higher_threshold_leaves_the_same_detections(options, calibration):
    windows, scores, regress, rescore = crowd(7)
    rest = {"look": looking(regress, rescore), "calibration": calibration}
    every = finish(windows, scores, (80, 90), ("a", "b"), options, -np.inf, **rest)
    values = every.scores if calibration is None else every.probabilities
    level = float(np.median(values))
    some = finish(windows, scores, (80, 90), ("a", "b"), options, level, **rest)
    assert some.to_records() == every[values > np.float32(level)].to_records()
    assert 0 < len(some) < len(every)


def test_without_regression_windows_stay_as_they_are():
    expected = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), RCNN_DETECTION, -np.inf).to_records()
    today = DetectOptions(keep_above=RCNN_DETECTION.keep_above)
    assert finish(WINDOWS, SCORES, (60, 60), ("a", "b"), today, -np.inf).to_records() == expected
    never = looking(lambda boxes, labels: 1 / 0)
    none = replace(today, regressions=0)
    assert finish(WINDOWS, SCORES, (60, 60), ("a", "b"), none, -np.inf, never).to_records() == expected


def test_boxes_of_a_class_vote_by_their_scores():
    still = looking(lambda boxes, labels: np.zeros((len(boxes), 4), np.float32))
    options = DetectOptions(nms_before=1.0, rescored=False)
    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), options, -np.inf, still)
    # 10 and 9 pixels high, 1.9 and 1.8 above -1; class b has only the latter.
    np.testing.assert_allclose(found.boxes[0], [0, 0, 10, (10 * 1.9 + 9 * 1.8) / 3.7], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes[found.labels == 1][1], WINDOWS[1])
    same = finish(WINDOWS[[0] * 7], SCORES[[0, 1, 0, 1, 0, 1, 0]] / 3, (10, 10), ("a", "b"), options, -np.inf, still)
    assert (same.boxes == WINDOWS[0]).all()  # in the image, to the last bit
