import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.nms import class_nms as slow_class_nms
from reference.nms import nms as slow_nms
from sppnet.data.nms import class_nms, nms

# Few different corners and scores: equal boxes, ties, shared edges and boxes without area are the rule.
CORNER = st.integers(0, 5)
ROWS = st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER, st.integers(0, 3), st.integers(0, 2)), max_size=12)


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0]))
def test_nms_is_that_of_the_slow_twin(rows, threshold):
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes, scores, labels = table[:, :4], table[:, 4], table[:, 5].astype(np.int64)
    assert nms(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)
    assert class_nms(boxes, scores, labels, threshold).tolist() == slow_class_nms(boxes, scores, labels, threshold)


def test_nms_on_many_random_boxes():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (300, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 60, (300, 2))]).astype(np.float32)
    scores, labels = rng.normal(size=300).astype(np.float32), rng.integers(0, 4, 300)
    assert nms(boxes, scores, 0.3).tolist() == slow_nms(boxes, scores, 0.3)
    assert class_nms(boxes, scores, labels, 0.3).tolist() == slow_class_nms(boxes, scores, labels, 0.3)


def test_an_iou_of_exactly_the_threshold_is_kept():
    boxes = [[0, 0, 10, 10], [0, 5, 10, 15]]  # IoU 50 / 150
    assert nms(boxes, [1, 2], 50 / 150).tolist() == [1, 0]
    assert nms(boxes, [1, 2], 0.33).tolist() == [1]


def test_of_identical_boxes_with_identical_scores_the_first_stays():
    assert nms([[0, 0, 4, 4]] * 3, [1, 1, 1], 0.5).tolist() == [0]


def test_nothing_in_nothing_out():
    for kept in (nms([], [], 0.5), class_nms(np.zeros((0, 4)), [], [], 0.5)):
        assert kept.shape == (0,)
        assert kept.dtype == np.int64


def test_numbers_must_agree():
    with pytest.raises(ValueError, match=r"shape \(1,\) as there are 1 boxes, not \(2,\)"):
        nms([[0, 0, 1, 1]], [1, 2], 0.5)
