"""COCO AP: planted answers, agreement with our own curves, and edge cases where pycocotools fails."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sppnet.data.detections import Detections
from sppnet.data.sample import Sample
from sppnet.eval.coco_ap import SUMMARY_NAMES, evaluate_coco
from sppnet.eval.voc_ap import evaluate_voc

NAMES = ("cat", "dog")


def one(expected):
    """pycocotools adds the smallest float to each denominator: its best precision is 1 - 2e-16."""
    return pytest.approx(expected, abs=1e-12)


def sample(name, boxes, labels, difficult=None):
    return Sample(
        name,
        Path(f"{name}.jpg"),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool) if difficult is None else np.array(difficult, bool),
    )


def test_perfect_detections_score_one():
    samples = [sample("a", [[0, 0, 20, 20], [50, 50, 250, 250]], [0, 1])]
    found = [Detections([[0, 0, 20, 20], [50, 50, 250, 250]], [0.5, 0.6], [0, 1], NAMES)]
    result = evaluate_coco(found, samples, NAMES)
    assert result.ap == one({"cat": 1.0, "dog": 1.0})
    assert tuple(result.summary) == SUMMARY_NAMES
    assert {name for name, value in result.summary.items() if np.isnan(value)} == {"APm", "ARm"}
    assert [result.summary[name] for name in ("AP", "APs", "APl")] == one([1.0] * 3)
    assert result.to_dict()["summary"]["APm"] is None


def test_an_iou_of_72_hundredths_passes_five_of_ten_thresholds():
    samples = [sample("a", [[0, 0, 100, 100]], [0])]
    result = evaluate_coco([Detections([[0, 0, 100, 72]], [1], [0], NAMES)], samples, NAMES)
    assert result.ap["cat"] == one(0.5)  # 0.5, 0.55, 0.6, 0.65, 0.7
    assert result.summary["AP50"] == one(1.0)
    assert result.summary["AP75"] == 0.0
    assert np.isnan(result.ap["dog"])
    assert result.unscored == ("dog",)


def test_difficult_objects_are_neither_missed_nor_wrong():
    samples = [sample("a", [[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0], [False, True])]
    found = [Detections([[100, 100, 150, 150], [0, 0, 50, 50]], [0.9, 0.5], [0, 0], NAMES)]
    assert evaluate_coco(found, samples, NAMES).ap["cat"] == one(1.0)


def test_nothing_found_and_nothing_to_find():
    samples = [sample("a", [[0, 0, 50, 50]], [0]), sample("b", [], [])]
    assert evaluate_coco([Detections.empty(NAMES)] * 2, samples, NAMES).ap["cat"] == 0.0
    nothing = evaluate_coco([Detections([[0, 0, 5, 5]], [1], [0], NAMES)], samples[1:], NAMES)
    assert np.isnan(nothing.summary["AP"])
    assert evaluate_coco([], [], NAMES).to_dict()["map"] is None


def test_classes_are_matched_by_name():
    samples = [sample("a", [[0, 0, 50, 50], [0, 0, 20, 20]], [0, 1])]
    found = [Detections([[0, 0, 50, 50], [3, 3, 9, 9]], [1, 2], [1, 0], ("horse", "cat"))]
    assert evaluate_coco(found, samples, NAMES, classes=["cat"]).ap == one({"cat": 1.0})
    assert evaluate_coco(found, samples, NAMES).ap == one({"cat": 1.0, "dog": 0.0})


def test_prints_nothing(capsys):
    evaluate_coco([Detections.empty(NAMES)], [sample("a", [[0, 0, 50, 50]], [0])], NAMES)
    assert capsys.readouterr() == ("", "")


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one Detections for each of 0 samples, got 1"):
        evaluate_coco([Detections.empty(NAMES)], [], NAMES)
    with pytest.raises(ValueError, match="cannot score class 'bird': the samples have cat, dog"):
        evaluate_coco([], [], NAMES, classes=["bird"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 9), unique=True, max_size=6), st.lists(st.integers(0, 9), max_size=8)),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_agrees_with_our_own_curve_at_an_iou_of_a_half(images, random):
    """Objects far apart and no ties: VOC's and COCO's matching are the same there, and only the sums differ.

    COCO's sum takes the interpolated precision at 101 recalls.
    """
    places = [[100 * number, 0, 100 * number + 50, 50] for number in range(10)]
    total = sum(len(found) for _, found in images)
    scores = random.sample(range(1000), total)
    samples, detections = [], []
    for number, (objects, found) in enumerate(images):
        samples.append(sample(str(number), [places[place] for place in objects], [0] * len(objects)))
        mine = [scores.pop() for _ in found]
        detections.append(Detections([places[place] for place in found], mine, [0] * len(found), NAMES))
    coco = evaluate_coco(detections, samples, NAMES, classes=["cat"])
    curve = evaluate_voc(detections, samples, NAMES, classes=["cat"]).curves[0]
    if curve.positives == 0:
        assert np.isnan(coco.summary["AP50"])
        return
    levels = np.linspace(0, 1, 101)
    best = [curve.precision[curve.recall >= level].max(initial=0.0) for level in levels]
    assert coco.summary["AP50"] == one(np.mean(best))
