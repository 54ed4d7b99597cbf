"""Threshold, suppression, cap and regression, on answers known by construction."""

import numpy as np
from sppnet.detector.config import DetectOptions
from sppnet.detector.postprocess import finish, select

WINDOWS = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 50, 50]], np.float32)
SCORES = np.array([[0.9, -2.0], [0.8, 0.5], [-0.2, 0.7], [-1.6, 0.1]], np.float32)


def test_select_suppresses_within_a_class_only():
    rows, labels = select(WINDOWS, SCORES, DetectOptions())
    assert list(zip(labels.tolist(), rows.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 2), (1, 1), (1, 3)]


def test_cap_counts_for_each_class():
    rows, labels = select(WINDOWS, SCORES, DetectOptions(max_per_class=1))
    assert list(zip(labels.tolist(), rows.tolist(), strict=True)) == [(0, 0), (1, 2)]


def test_finish_orders_by_score_and_applies_the_threshold():
    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), threshold=0.3)
    np.testing.assert_array_equal(found.scores, np.array([0.9, 0.7, 0.5], np.float32))
    np.testing.assert_array_equal(found.labels, [0, 1, 1])
    np.testing.assert_array_equal(found.boxes, WINDOWS[[0, 2, 1]])


def test_regression_moves_clips_and_suppresses_again():
    def onto_each_other(rows, labels):
        """Every window of class 1 is carried to the window in row 2."""
        shift = np.zeros((len(rows), 4), np.float32)
        centres = (WINDOWS[:, :2] + WINDOWS[:, 2:]) / 2
        sizes = WINDOWS[:, 2:] - WINDOWS[:, :2]
        moved = labels == 1
        shift[moved, :2] = (centres[2] - centres[rows[moved]]) / sizes[rows[moved]]
        return shift

    found = finish(WINDOWS, SCORES, (60, 60), ("a", "b"), DetectOptions(), -np.inf, onto_each_other)
    assert (found.labels == 1).sum() == 1
    np.testing.assert_array_equal(found.boxes[found.labels == 1], WINDOWS[[2]])

    def outwards(rows, labels):
        return np.tile(np.array([0, 0, 1.5, 1.5], np.float32), (len(rows), 1))

    wide = finish(WINDOWS, SCORES, (32, 35), ("a", "b"), DetectOptions(nms=1.0), -np.inf, outwards)
    assert wide.boxes[:, 0].min() >= 0
    assert wide.boxes[:, 2].max() <= 35
    assert wide.boxes[:, 3].max() <= 32


def test_no_windows_give_no_detections():
    found = finish(WINDOWS[:0], SCORES[:0], (60, 60), ("a", "b"), DetectOptions(), -np.inf)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.class_names == ("a", "b")
