"""VOC average precision: planted answers, an exact reference, and each rule."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.voc_ap import voc_ap as oracle
from sppnet.data.detections import Detections
from sppnet.data.sample import Sample
from sppnet.eval.voc_ap import METRICS, Judged, average_precision, evaluate_voc, judge, judge_voc, precision_recall

OBJECT = [10, 10, 30, 30]
ELSEWHERE = [100, 100, 120, 120]


def curve(images, min_iou=0.5):
    """The curve for images given as ([(box, score), ...], [(box, difficult), ...])."""
    return precision_recall(
        [np.array([box for box, _ in found], np.float32).reshape(-1, 4) for found, _ in images],
        [np.array([score for _, score in found], np.float32) for found, _ in images],
        [np.array([box for box, _ in truths], np.float32).reshape(-1, 4) for _, truths in images],
        [np.array([hard for _, hard in truths], bool) for _, truths in images],
        min_iou,
    )


def aps(images):
    result = curve(images)
    return result.ap("voc07"), result.ap("voc")


def test_perfect_detections_score_one():
    assert aps([([(OBJECT, 0.9)], [(OBJECT, False)])] * 3) == (1.0, 1.0)


def test_nothing_found_scores_zero():
    assert aps([([], [(OBJECT, False)])]) == (0.0, 0.0)
    assert aps([([(ELSEWHERE, 0.9)], [(OBJECT, False)])]) == (0.0, 0.0)


def test_one_wrong_before_one_right_scores_half():
    assert aps([([(ELSEWHERE, 0.9), (OBJECT, 0.8)], [(OBJECT, False)])]) == (0.5, 0.5)


def test_half_of_the_objects_found_tells_the_metrics_apart():
    # Recall stops at 1/2: levels 0, 0.1, ..., 0.5 have precision 1, the five above have none.
    images = [([(OBJECT, 0.9)], [(OBJECT, False), (ELSEWHERE, False)])]
    assert aps(images) == pytest.approx((6 / 11, 0.5), abs=1e-15)


def test_right_wrong_right_by_hand():
    # Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    images = [([(OBJECT, 3), ([0, 50, 9, 60], 2), (ELSEWHERE, 1)], [(OBJECT, False), (ELSEWHERE, False)])]
    assert aps(images) == pytest.approx(((6 + 5 * 2 / 3) / 11, 0.5 + 0.5 * 2 / 3), abs=1e-15)


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_recall_of_exactly_a_level_reaches_it(tenths):
    """Steps of 0.1 that are added up miss 3/10; the levels must be exact."""
    recall = np.array([tenths / 10])
    assert average_precision(recall, np.ones(1), "voc07") == pytest.approx((tenths + 1) / 11, abs=1e-15)


def test_a_second_box_on_an_object_is_wrong():
    images = [([(OBJECT, 0.9), (OBJECT, 0.8), (ELSEWHERE, 0.7)], [(OBJECT, False), (ELSEWHERE, False)])]
    np.testing.assert_allclose(curve(images).precision, [1, 1 / 2, 2 / 3])


def test_a_box_is_judged_by_the_object_it_overlaps_most_even_if_that_is_taken():
    """VOC's rule; COCO's would give the second box the object beside it."""
    left, right = [0, 0, 20, 10], [4, 0, 24, 10]
    nearer_left = [1, 0, 21, 10]
    images = [([(left, 0.9), (nearer_left, 0.8)], [(left, False), (right, False)])]
    np.testing.assert_array_equal(curve(images).recall, [0.5, 0.5])


def test_difficult_objects_are_neither_missed_nor_wrong():
    images = [([(ELSEWHERE, 0.9), (ELSEWHERE, 0.85), (OBJECT, 0.8)], [(OBJECT, False), (ELSEWHERE, True)])]
    result = curve(images)
    assert result.positives == 1
    np.testing.assert_array_equal(result.precision, [1.0])
    assert result.ap("voc") == 1.0


def test_an_overlap_of_exactly_half_is_a_find():
    half, less = [10, 10, 30, 20], [10, 10, 30, 19]
    assert curve([([(half, 1)], [(OBJECT, False)])]).ap("voc") == 1.0
    assert curve([([(less, 1)], [(OBJECT, False)])]).ap("voc") == 0.0
    assert curve([([(less, 1)], [(OBJECT, False)])], min_iou=0.45).ap("voc") == 1.0


def test_an_overlap_of_exactly_half_is_a_find_in_the_largest_images():
    """Two thirds of each in common: half of the union, which single precision makes 0.49999997 at this size."""
    truth, shifted = [0, 0, 6003, 4001], [2001, 0, 8004, 4001]
    assert curve([([(shifted, 1)], [(truth, False)])]).ap("voc") == 1.0


def test_areas_are_those_of_the_plus_one_convention():
    """1-based inclusive 1..10 against 1..5: 10 and 5 pixels, an IoU of exactly 1/2."""
    assert curve([([([0, 0, 5, 1], 1)], [([0, 0, 10, 1], False)])]).ap("voc") == 1.0


def test_equal_scores_keep_the_order_of_images_and_detections():
    right_first = [([(OBJECT, 1), (ELSEWHERE, 1)], [(OBJECT, False)])]
    wrong_first = [([(ELSEWHERE, 1), (OBJECT, 1)], [(OBJECT, False)])]
    assert curve(right_first).ap("voc") == 1.0
    assert curve(wrong_first).ap("voc") == 0.5
    earlier_image = [([(ELSEWHERE, 1)], []), ([(OBJECT, 1)], [(OBJECT, False)])]
    assert curve(earlier_image).ap("voc") == 0.5
    assert curve(earlier_image[::-1]).ap("voc") == 1.0


def test_scores_are_not_rounded():
    close = [np.nextafter(np.float32(0.5), np.float32(1)), np.float32(0.5)]
    images = [([(ELSEWHERE, close[1]), (OBJECT, close[0])], [(OBJECT, False)])]
    assert curve(images).ap("voc") == 1.0


def test_without_ground_truth_there_is_no_ap():
    for images in ([], [([], [])], [([(OBJECT, 1)], [])], [([(OBJECT, 1)], [(OBJECT, True)])]):
        result = curve(images)
        assert result.positives == 0
        assert np.isnan(result.ap("voc07"))
        assert np.isnan(result.ap("voc"))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"same shape \(N,\), got \(2,\) and \(3,\)"):
        average_precision(np.zeros(2), np.zeros(3), "voc")
    with pytest.raises(ValueError, match="one of voc07, voc, got 'coco'"):
        average_precision(np.zeros(2), np.zeros(2), "coco")
    with pytest.raises(ValueError, match="one entry for each image, got 1 boxes, 1 scores, 0 truths"):
        precision_recall([np.zeros((0, 4))], [np.zeros(0)], [], [])
    with pytest.raises(ValueError, match="1 NaN among 2"):
        precision_recall([np.zeros((2, 4))], [np.array([1, np.nan])], [np.zeros((0, 4))], [np.zeros(0, bool)])


# Small frames and few scores make overlaps of exactly one half, ties and repeats common.
boxes = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 5), st.integers(0, 5)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)
image = st.tuples(
    st.lists(st.tuples(boxes, st.integers(0, 6)), max_size=6), st.lists(st.tuples(boxes, st.booleans()), max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(image, max_size=4))
def test_equals_the_exact_oracle(images):
    result = curve(images)
    for metric in METRICS:
        expected = oracle(
            [[box for box, _ in found] for found, _ in images],
            [[score for _, score in found] for found, _ in images],
            [[box for box, _ in truths] for _, truths in images],
            [[hard for _, hard in truths] for _, truths in images],
            metric,
        )
        if expected is None:
            assert np.isnan(result.ap(metric))
        else:
            assert result.ap(metric) == pytest.approx(float(expected), abs=1e-12)


def sample(name, boxes, labels, difficult=None):
    return Sample(
        name,
        Path(f"{name}.jpg"),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool) if difficult is None else np.array(difficult, bool),
    )


SAMPLES = [sample("a", [OBJECT, ELSEWHERE], [0, 1]), sample("b", [OBJECT], [1]), sample("c", [], [])]
NAMES = ("cat", "dog", "cow")


def test_evaluate_voc_scores_each_class_on_its_own():
    found = [
        Detections([OBJECT, ELSEWHERE, OBJECT], [0.9, 0.8, 0.95], [0, 1, 1], NAMES),
        Detections.empty(NAMES),
        Detections([OBJECT], [0.1], [2], NAMES),
    ]
    result = evaluate_voc(found, SAMPLES, NAMES)
    assert result.ap("voc")["cat"] == 1.0
    assert result.ap("voc")["dog"] == 0.25  # wrong, right, one missed
    assert np.isnan(result.ap("voc")["cow"])
    assert result.unscored == ("cow",)
    assert result.mean_ap("voc") == 0.625
    assert result.to_dict("voc") == {"map": 0.625, "ap": {"cat": 1.0, "dog": 0.25, "cow": None}}


def test_evaluate_voc_matches_classes_by_name():
    """A detector with other classes in another order; 'dog' it does not know, so both dogs are missed."""
    found = [Detections([OBJECT, OBJECT], [0.9, 0.8], [1, 0], ("horse", "cat"))] + [Detections.empty(["cat"])] * 2
    result = evaluate_voc(found, SAMPLES, NAMES, classes=["dog", "cat"])
    assert result.ap("voc07") == {"dog": 0.0, "cat": 1.0}


def test_evaluate_voc_of_nothing():
    result = evaluate_voc([], [], NAMES)
    assert result.unscored == NAMES
    assert np.isnan(result.mean_ap("voc"))
    assert result.to_dict("voc")["map"] is None


def test_evaluate_voc_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one Detections for each of 3 samples, got 1"):
        evaluate_voc([Detections.empty(NAMES)], SAMPLES, NAMES)
    with pytest.raises(ValueError, match="cannot score class 'bird': the samples have cat, dog, cow"):
        evaluate_voc([Detections.empty(NAMES)] * 3, SAMPLES, NAMES, classes=["bird"])


def planted(scores, right, objects):
    """Judged detections, all of the first image."""
    zeros = np.zeros(len(scores), np.int64)
    return Judged("a", np.array(objects), np.array(scores, float), np.array(right, bool), zeros, np.arange(len(scores)))


@settings(max_examples=100, deadline=None)
@given(st.lists(image, max_size=4), st.integers(0, 15))
def test_judging_some_images_is_judging_them_alone(images, chosen):
    """What is right in an image does not depend on the others; numbers of images and places stay."""

    def judged(some):
        return judge(
            [np.array([box for box, _ in found], np.float32).reshape(-1, 4) for found, _ in some],
            [np.array([score for _, score in found], np.float32) for found, _ in some],
            [np.array([box for box, _ in truths], np.float32).reshape(-1, 4) for _, truths in some],
            [np.array([hard for _, hard in truths], bool) for _, truths in some],
        )

    kept = np.array([bool(chosen >> number & 1) for number in range(len(images))], bool)
    everything, some = judged(images), judged([one for one, keep in zip(images, kept, strict=True) if keep])
    among = everything.among(kept)
    assert among.positives == some.positives
    np.testing.assert_array_equal(among.scores, some.scores)
    np.testing.assert_array_equal(among.right, some.right)
    np.testing.assert_array_equal(among.images, np.flatnonzero(kept)[some.images])
    np.testing.assert_array_equal(among.places, some.places)
    for score, number, place in zip(everything.scores, everything.images, everything.places, strict=True):
        assert images[number][0][place][1] == score


def test_judged_places_are_those_among_all_classes():
    found = [
        Detections([OBJECT, ELSEWHERE, OBJECT], [0.9, 0.8, 0.95], [0, 1, 1], NAMES),
        Detections([ELSEWHERE, OBJECT], [0.1, 0.99], [0, 1], NAMES),
        Detections.empty(NAMES),
    ]
    cats, dogs, cows = judge_voc(found, SAMPLES, NAMES)
    assert (cats.name, dogs.name, cows.name) == NAMES
    assert list(zip(cats.images.tolist(), cats.places.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert list(zip(dogs.images.tolist(), dogs.places.tolist(), strict=True)) == [(1, 1), (0, 2), (0, 1)]
    assert dogs.right.tolist() == [True, False, True]
    assert dogs.objects.tolist() == [1, 1, 0]
    assert len(cows.scores) == 0
