"""Scores of classifiers: planted answers, exact references, scikit-learn, and ties."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import classification as slow
from sklearn.metrics import average_precision_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from sppnet.eval.classification import (
    SingleLabelResult,
    classification_ap,
    classification_table,
    evaluate_single,
    mean_class_accuracy,
    top_k_accuracy,
)
from sppnet.eval.voc_ap import METRICS

NAMES = ("cat", "cow", "dog")
# Right, right, cow taken for dog, cow taken for dog, dog taken for cat.
SCORES = np.array([[9, 1, 0], [9, 1, 0], [1, 2, 3], [0, 5, 6], [7, 1, 5]], np.float32)
LABELS = np.array([0, 0, 1, 1, 2])


def untied(images, classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.permutation(images * classes).reshape(images, classes) / 7, rng.integers(classes, size=images)


def test_planted_accuracies():
    assert top_k_accuracy(SCORES, LABELS, 1) == 2 / 5
    assert top_k_accuracy(SCORES, LABELS, 2) == 1.0
    assert mean_class_accuracy(SCORES, LABELS) == pytest.approx(1 / 3)  # 1, 0, 0


def test_a_class_that_does_not_occur_has_no_part_in_the_mean():
    assert mean_class_accuracy(SCORES[:4], LABELS[:4]) == 0.5
    assert mean_class_accuracy(SCORES[:2], LABELS[:2]) == 1.0


def test_a_tie_with_the_true_class_counts_against_it():
    even = np.zeros((4, 3))
    assert [top_k_accuracy(even, LABELS[:4], k) for k in (1, 2, 3)] == [0.0, 0.0, 1.0]
    assert mean_class_accuracy(even, LABELS[:4]) == 0.0
    assert top_k_accuracy(np.array([[0, 1, 1, 2]]), np.array([1]), 2) == 0.0
    assert top_k_accuracy(np.array([[0, 1, 1, 2]]), np.array([1]), 3) == 1.0


def test_of_more_places_than_classes_every_image_is_right():
    assert top_k_accuracy(SCORES, LABELS, 5) == 1.0


def test_without_images_there_is_no_accuracy():
    nothing, none = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(top_k_accuracy(nothing, none, 1))
        assert np.isnan(mean_class_accuracy(nothing, none))
        result = evaluate_single(nothing, none, NAMES)
        assert result.to_dict() == {
            "images": 0,
            "top1": None,
            "top5": None,
            "mean_class": None,
            "accuracy": dict.fromkeys(NAMES),
        }
        assert result.confused_pairs(3) == []
        assert "not in the mean (no images): cat, cow, dog" in classification_table(result)
        assert evaluate_single(np.zeros((0, 0)), none, ()).images == 0


@pytest.mark.parametrize("classes", [2, 3, 7, 30])
def test_equals_scikit_learn_without_ties(classes):
    scores, labels = untied(200, classes)
    known = list(range(classes))
    for k in range(1, min(classes, 7)):
        if classes > 2:  # of two classes scikit-learn wants one column
            expected = top_k_accuracy_score(labels, scores, k=k, labels=known)
            assert top_k_accuracy(scores, labels, k) == pytest.approx(expected, abs=1e-15)
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert mean_class_accuracy(scores, labels) == pytest.approx(expected, abs=1e-15)
    result = evaluate_single(scores, labels, list(map(str, known)))
    np.testing.assert_array_equal(result.confusion, confusion_matrix(labels, scores.argmax(axis=1), labels=known))
    assert result.mean_class == pytest.approx(expected, abs=1e-15)


# Few different scores make ties common, the lowest possible one included.
values = st.sampled_from([-np.inf, 0, 1, 2])


@st.composite
def answers(draw, target):
    """Scores (N, C) and for each image, or each image and class, a target."""
    classes, images = draw(st.integers(1, 7)), draw(st.integers(1, 12))
    rows = st.lists(st.lists(values, min_size=classes, max_size=classes), min_size=images, max_size=images)
    return draw(rows), draw(target(images, classes))


def one_label(images, classes):
    return st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)


def several(images, classes):
    row = st.lists(st.sampled_from([-1, 0, 1]), min_size=classes, max_size=classes)
    return st.lists(row, min_size=images, max_size=images)


@settings(max_examples=150, deadline=None)
@given(answers(one_label))
def test_equals_the_exact_twin_with_ties(answer):
    rows, known = answer
    scores, labels = np.array(rows, np.float32), np.array(known)
    classes = scores.shape[1]
    result = evaluate_single(scores, labels, [str(index) for index in range(classes)])
    for k in range(1, classes + 1):
        assert top_k_accuracy(scores, labels, k) == pytest.approx(float(slow.top_k(rows, known, k)), abs=1e-12)
    assert mean_class_accuracy(scores, labels) == pytest.approx(float(slow.mean_class(rows, known)), abs=1e-12)
    assert result.mean_class == pytest.approx(float(slow.mean_class(rows, known)), abs=1e-12)
    assert result.top1 == pytest.approx(float(slow.top_k(rows, known, 1)), abs=1e-12)
    assert result.top5 == pytest.approx(float(slow.top_k(rows, known, 5)), abs=1e-12)
    confusion = np.zeros((classes, classes), np.int64)
    for row, label in zip(rows, known, strict=True):
        confusion[label, slow.taken_for(row, label)] += 1
    np.testing.assert_array_equal(result.confusion, confusion)


def test_a_result_in_figures():
    result = evaluate_single(SCORES, LABELS, NAMES)
    assert (result.images, result.top1, result.top5) == (5, 0.4, 1.0)
    assert result.accuracies == {"cat": 1.0, "cow": 0.0, "dog": 0.0}
    assert result.confused_pairs(9) == [("cow", "dog", 2), ("dog", "cat", 1)]
    assert result.confused_pairs(1) == [("cow", "dog", 2)]
    assert result.confused_pairs(0) == []
    assert json.loads(json.dumps(result.to_dict()))["accuracy"] == {"cat": 1.0, "cow": 0.0, "dog": 0.0}


def test_equally_frequent_errors_come_in_the_order_of_the_classes():
    confusion = np.array([[5, 0, 1], [1, 0, 2], [0, 1, 9]])
    pairs = SingleLabelResult(NAMES, confusion, 1.0).confused_pairs(3)
    assert pairs == [("cow", "dog", 2), ("cat", "dog", 1), ("cow", "cat", 1)]


def test_planted_average_precision():
    """Cat: right, wrong, right. Dog: never shown. Cow: its wrong image is ignored."""
    scores = np.array([[3, 1, 0], [2, 3, 0], [1, 2, 0]], np.float32)
    targets = np.array([[1, 0, 0], [0, -1, 0], [1, 1, 0]], np.int8)
    result = classification_ap(scores, targets, NAMES)
    assert result.ap("voc")["cat"] == pytest.approx(0.5 + 0.5 * 2 / 3, abs=1e-15)
    assert result.ap("voc07")["cat"] == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-15)
    assert result.ap("voc")["cow"] == 1.0
    assert result.curves[1].scores.tolist() == [2, 1]
    assert result.unscored == ("dog",)
    assert result.mean_ap("voc07") == pytest.approx(((6 + 5 * 2 / 3) / 11 + 1) / 2, abs=1e-15)


def test_among_equal_scores_the_earlier_image_comes_first():
    def ap_of(targets):
        return classification_ap(np.zeros((len(targets), 1)), np.array(targets)[:, None], ["cat"]).ap("voc")["cat"]

    assert ap_of([1, 0]) == 1.0
    assert ap_of([0, 1]) == 0.5
    # Enough images for an unstable sort to mix them up.
    assert ap_of([0] * 99 + [1]) == 1 / 100


def test_scores_are_not_rounded():
    close = np.array([[0.5], [np.nextafter(0.5, 1)]])
    assert classification_ap(close, np.array([[0], [1]]), ["cat"]).ap("voc")["cat"] == 1.0


@settings(max_examples=150, deadline=None)
@given(answers(several))
def test_average_precision_equals_the_exact_twin_with_ties(answer):
    rows, known = answer
    scores, targets = np.array(rows, np.float32), np.array(known, np.int8)
    names = [str(index) for index in range(scores.shape[1])]
    result = classification_ap(scores, targets, names)
    for metric in METRICS:
        for index, name in enumerate(names):
            expected = slow.ap(scores[:, index].tolist(), targets[:, index].tolist(), metric)
            if expected is None:
                assert np.isnan(result.ap(metric)[name])
            else:
                assert result.ap(metric)[name] == pytest.approx(float(expected), abs=1e-12)


def test_area_is_scikit_learns_on_a_curve_that_only_falls():
    """scikit-learn's area is not interpolated; where precision never rises again with recall both are the same."""
    scores = -np.arange(60.0)[:, None]
    targets = np.array([1] * 20 + [0] * 40)[:, None]
    targets[[5, 30]] = targets[[30, 5]]
    flat = classification_ap(scores[:5], np.ones((5, 1), int), ["a"]).ap("voc")["a"]
    assert flat == average_precision_score(np.ones(5), scores[:5, 0]) == 1.0
    ours = classification_ap(scores, targets, ["a"]).ap("voc")["a"]
    theirs = average_precision_score(targets[:, 0], scores[:, 0])
    # The dip at the sixth image is filled up by the best precision further on, 19 of 20.
    precision = np.cumsum(targets[:, 0]) / np.arange(1, 61)
    dip = (np.maximum.accumulate(precision[::-1])[::-1] - precision)[targets[:, 0] == 1].sum() / 20
    assert ours == pytest.approx(theirs + dip, abs=1e-12)
    assert dip > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_area_equals_scikit_learns_when_interpolated(seed):
    """scikit-learn's step-wise sum over its own curve, with each precision raised to the best at a higher recall."""
    from sklearn.metrics import precision_recall_curve

    scores, _ = untied(80, 3, seed)
    targets = np.random.default_rng(seed).integers(-1, 2, size=scores.shape)
    result = classification_ap(scores, targets, NAMES)
    for index, name in enumerate(NAMES):
        counted = targets[:, index] >= 0
        precision, recall, _ = precision_recall_curve(targets[counted, index], scores[counted, index])
        # From the highest recall down, and with a last point (recall 0, precision 1) that is no image.
        best = np.maximum.accumulate(precision[:-1])
        expected = np.sum((recall[:-1] - recall[1:]) * best)
        assert result.ap("voc")[name] == pytest.approx(expected, abs=1e-12)
        assert result.ap("voc")[name] >= average_precision_score(targets[counted, index], scores[counted, index])


def test_average_precision_of_nothing():
    result = classification_ap(np.zeros((0, 3)), np.zeros((0, 3), np.int8), NAMES)
    assert result.unscored == NAMES
    assert np.isnan(result.mean_ap("voc07"))
    assert classification_ap(np.zeros((4, 0)), np.zeros((4, 0), np.int8), ()).curves == ()


def test_arguments_are_not_changed():
    scores, labels, targets = SCORES.copy(), LABELS.copy(), np.eye(3, dtype=np.int8)[LABELS]
    evaluate_single(scores, labels, NAMES)
    mean_class_accuracy(scores, labels)
    classification_ap(scores, targets, NAMES)
    np.testing.assert_array_equal(scores, SCORES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(targets, np.eye(3)[LABELS])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_k_accuracy(SCORES, LABELS, 0)
    with pytest.raises(ValueError, match=r"shapes \(N, C\) and \(N,\), got \(5, 3\) and \(4,\)"):
        top_k_accuracy(SCORES, LABELS[:4], 1)
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 1 to 3"):
        mean_class_accuracy(SCORES, LABELS + 1)
    with pytest.raises(ValueError, match="scores must be numbers, got 15 NaN among 15"):
        evaluate_single(SCORES * np.nan, LABELS, NAMES)
    with pytest.raises(ValueError, match=r"scores must have shape \(N, 2\), got \(5, 3\)"):
        evaluate_single(SCORES, LABELS, NAMES[:2])
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(5, 3\) and \(5,\)"):
        classification_ap(SCORES, LABELS, NAMES)
    with pytest.raises(ValueError, match=r"shape \(N, 2\), got \(5, 3\) and \(5, 3\)"):
        classification_ap(SCORES, np.zeros((5, 3)), NAMES[:2])
    with pytest.raises(ValueError, match=r"targets must be 1, 0 or -1, got \[2\]"):
        classification_ap(SCORES, np.full((5, 3), 2), NAMES)
    with pytest.raises(ValueError, match="got 1 NaN among 1"):
        classification_ap(np.array([[np.nan]]), np.ones((1, 1)), NAMES[:1])


def test_the_table_of_a_single_label_result():
    assert classification_table(evaluate_single(SCORES[:4], LABELS[:4], NAMES)).splitlines() == [
        "class  images  accuracy",
        "-----  ------  --------",
        "cat         2     1.000",
        "cow         2     0.000",
        "dog         0         -",
        "mean        4     0.500",
        "not in the mean (no images): dog",
        "",
        "accuracy over all images  value",
        "------------------------  -----",
        "top-1                     0.500",
        "top-3                     1.000",
        "",
        "class  taken for  images",
        "-----  ---------  ------",
        "cow          dog       2",
    ]


def test_the_table_without_an_error_ends_with_the_figures():
    lines = classification_table(evaluate_single(np.eye(6), np.arange(6), tuple("abcdef"))).splitlines()
    assert lines[-2:] == ["top-1                     1.000", "top-5                     1.000"]


def test_the_table_of_average_precisions_names_its_metrics():
    targets = np.eye(3, dtype=np.int8)[LABELS[:4]]
    assert classification_table(classification_ap(SCORES[:4], targets, NAMES)).splitlines() == [
        "class  images  VOC07 11-point AP  VOC area AP",
        "-----  ------  -----------------  -----------",
        "cat         2              1.000        1.000",
        "cow         2              1.000        1.000",
        "dog         0                  -            -",
        "mean        4              1.000        1.000",
        "not in the mean (no images): dog",
    ]
