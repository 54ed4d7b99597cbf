"""Recall and MABO against the slow reference and on planted cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import recall as reference
from sppnet.eval.recall import THRESHOLDS, best_overlaps, recall_and_mabo


def some_boxes(rng, count):
    corners = rng.integers(0, 20, (count, 2))
    return np.concatenate([corners, corners + rng.integers(1, 12, (count, 2))], axis=1).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(0, 4), most=st.integers(0, 6))
def test_figures_are_those_of_the_slow_twin(seed, images, most):
    rng = np.random.default_rng(seed)
    proposals = [some_boxes(rng, rng.integers(0, most + 1)) for _ in range(images)]
    boxes = [some_boxes(rng, rng.integers(0, most + 1)) for _ in range(images)]
    labels = [rng.integers(0, 3, len(some)) for some in boxes]
    difficult = [rng.random(len(some)) < 0.3 for some in boxes]
    found = recall_and_mabo(proposals, boxes, labels, difficult)
    recall, mabo = reference.recall_and_mabo(proposals, boxes, labels, difficult, THRESHOLDS)
    assert found.objects == sum(int((~hard).sum()) for hard in difficult)
    assert found.proposals == sum(map(len, proposals))
    assert found.images == images
    if mabo is None:
        assert math.isnan(found.mabo)
        assert all(math.isnan(share) for share in found.recall.values())
        assert found.to_dict()["mabo"] is None
    else:
        assert found.recall == recall
        assert found.mabo == pytest.approx(mabo, abs=1e-12)


def test_planted_overlaps():
    # Class 0: overlaps 1 and 0.5. Class 1: 0.8, and a difficult object that nobody finds.
    boxes = [np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), np.array([[0, 0, 10, 10], [50, 50, 60, 60]])]
    labels = [np.array([0, 0]), np.array([1, 1])]
    difficult = [np.array([False, False]), np.array([False, True])]
    proposals = [np.array([[0, 0, 10, 10], [20, 0, 25, 10]]), np.array([[0, 0, 8, 10]])]
    found = recall_and_mabo(proposals, boxes, labels, difficult)
    assert found.recall == pytest.approx({0.5: 1, 0.7: 2 / 3, 0.8: 2 / 3})
    assert found.average_best_overlap == pytest.approx({0: 0.75, 1: 0.8})
    assert found.mabo == pytest.approx(0.775)
    assert found.objects == 3
    assert found.to_dict() == {
        "recall": {"0.5": 1.0, "0.7": pytest.approx(2 / 3), "0.8": pytest.approx(2 / 3)},
        "mabo": pytest.approx(0.775),
        "objects": 3,
        "proposals_per_image": 1.5,
        "images": 2,
    }


def test_a_class_with_many_objects_weighs_no_more():
    boxes = [np.array([[0, 0, 10, 10]] * 9 + [[50, 0, 60, 10]])]
    found = recall_and_mabo([np.array([[0, 0, 10, 10]])], boxes, [np.array([0] * 9 + [1])])
    assert found.mabo == pytest.approx(0.5)
    assert found.recall[0.5] == pytest.approx(0.9)


def test_without_proposals_nothing_is_found():
    overlaps = best_overlaps(np.zeros((0, 4)), np.array([[0, 0, 1, 1]]))
    assert overlaps.tolist() == [0]
    found = recall_and_mabo([np.zeros((0, 4))], [np.array([[0, 0, 1, 1]])], [np.array([4])])
    assert found.mabo == 0
    assert found.recall == {0.5: 0, 0.7: 0, 0.8: 0}
    assert found.to_dict()["proposals_per_image"] == 0


def test_lengths_must_match():
    none = np.zeros((0, 4))
    with pytest.raises(ValueError, match="of one length, not 1, 2, 1 and 1"):
        recall_and_mabo([none], [none, none], [np.zeros(0)])
    with pytest.raises(ValueError, match="an image has 1 boxes, 2 labels and 2 difficult flags"):
        recall_and_mabo([none], [np.ones((1, 4))], [np.zeros(2)])
