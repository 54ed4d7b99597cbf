"""Platt scaling: minimal loss for any scores, and sensible results for classes with few detections."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.calibration import best_expected_f1 as slow_expected_f1
from reference.calibration import f1_above, platt_gradient, sigmoid
from sppnet.data.errors import InputError
from sppnet.detector.detection.calibration import (
    FEWEST,
    LARGEST_SCORE,
    LEAST_THRESHOLD,
    PRIOR_SLOPE,
    PRIOR_THRESHOLD,
    Calibration,
    best_expected_f1,
    cross_fitted,
    platt,
    weight_of_wrong,
)
from sppnet.eval.reliability import Verdicts
from sppnet.eval.voc_ap import Judged


def judged(scores, right, images=None, objects=None):
    """A class's judged detections, by default all of one image in which all objects are found."""
    scores, right = np.asarray(scores, float), np.asarray(right, bool)
    images = np.zeros(len(scores), np.int64) if images is None else np.asarray(images)
    objects = np.array([right.sum()]) if objects is None else np.asarray(objects)
    order = np.argsort(-scores, kind="stable")
    return Judged("a", objects, scores[order], right[order], images[order], np.arange(len(scores))[order])


def drawn(seed, count, slope=2.0, intercept=-1.0, images=10, centre=0.0):
    """Scores that are right with the probability of a known sigmoid."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(centre, 1, count)
    right = rng.uniform(size=count) < 1 / (1 + np.exp(-(slope * scores + intercept)))
    where = rng.integers(0, images, count)
    return judged(scores, right, where, np.bincount(where, right, images).astype(int) + 1)


def test_a_known_sigmoid_is_found():
    one, other = drawn(0, 20_000), drawn(1, 20_000, slope=0.5, intercept=1.0)
    found = Calibration.fit([one, other])
    np.testing.assert_allclose(found.slopes, [2, 0.5], rtol=0.06)
    np.testing.assert_allclose(found.intercepts, [-1, 1], atol=0.06)


SCORES = st.one_of(st.floats(-5, 5, width=32), st.integers(-2, 2).map(float), st.sampled_from([1e30, -1e30, 900.0]))


@settings(deadline=None)
@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=2, max_size=60))
def test_the_gradient_of_platts_loss_is_zero(pairs):
    scores, right = np.array([score for score, _ in pairs]), np.array([hit for _, hit in pairs])
    slope, intercept = platt(scores, right)
    cut = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)
    by_slope, by_intercept = platt_gradient(cut.tolist(), right.tolist(), slope, intercept)
    scale = np.abs(cut).max() or 1.0
    assert abs(by_slope) < 1e-7 * scale
    assert abs(by_intercept) < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_a_class_has_the_least_loss_and_keeps_the_ranking(seed):
    one = drawn(seed, 200)
    found = Calibration.fit([one])
    gradient = platt_gradient(one.scores, one.right, found.slopes[0], found.intercepts[0])
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    p = found.probabilities(one.scores, np.zeros(200, int))
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, [sigmoid(found.slopes[0] * s + found.intercepts[0]) for s in one.scores], rtol=1e-6)
    assert (np.diff(p) <= 0).all()


NASTY = {
    "nothing at all": ([], []),
    "one right": ([0.3], [1]),
    "one wrong": ([0.3], [0]),
    "all right": (np.linspace(-1, 1, 50), np.ones(50)),
    "all wrong": (np.linspace(-1, 1, 50), np.zeros(50)),
    "equal scores": (np.full(50, 0.1), np.arange(50) % 2),
    "parted by the score": (np.linspace(-1, 1, 50), np.arange(50) >= 25),
    "the wrong way round": (np.linspace(-1, 1, 50), np.arange(50) < 25),
    "infinite": ([np.inf, -np.inf, 0.5] * 20, [1, 0, 1] * 20),
    "infinite the wrong way round": ([np.inf, -np.inf] * 20, [0, 1] * 20),
    "huge": ([3e38, -3e38, 1e30, 0.1, 0.2] * 20, [1, 0, 1, 0, 1] * 20),
    "tiny": (np.linspace(0, 1e-30, 60), np.arange(60) % 3 > 0),
    "close together": (5 + np.linspace(0, 1e-6, 60), np.arange(60) >= 33),
}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("beside", [False, True])
def test_whatever_the_detections_probabilities_are_numbers_and_rank_alike(name, beside):
    scores, right = NASTY[name]
    one = judged(scores, right)
    found = Calibration.fit([one, drawn(0, 300)] if beside else [one])
    p = found.probabilities(one.scores, np.zeros(len(one.scores), int))
    assert np.isfinite(p).all()
    assert (np.diff(p) <= 0).all()
    # Platt's targets: never quite sure, so the mean of what is said is that of what is true, drawn to the middle.
    count = int(np.sum(right))
    aims = np.where(one.right, (count + 1) / (count + 2), 1 / (len(one.right) - count + 2))
    if len(p) and name not in ("infinite", "infinite the wrong way round", "huge"):
        assert p.mean() == pytest.approx(aims.mean(), abs=1e-6)
    if one.right.any():
        assert (p > np.float32(found.thresholds[0])).any()
    else:
        assert found.thresholds[0] == PRIOR_THRESHOLD
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_class_with_little_to_learn_from_takes_the_slope_of_all():
    many, few = drawn(0, 400), drawn(1, 40, intercept=-2)
    few = judged(few.scores, few.right & (np.cumsum(few.right) < FEWEST), few.images, few.objects)
    backwards = judged(np.linspace(-1, 1, 50), np.arange(50) < 25)
    none = judged([], [])
    found = Calibration.fit([many, few, backwards, none])
    scores = np.concatenate([part.scores for part in (many, few, backwards)])
    right = np.concatenate([part.right for part in (many, few, backwards)])
    together = platt(scores, right)
    assert found.slopes[0] == platt(many.scores, many.right)[0]
    assert found.slopes[1:] == (together[0],) * 3
    for label, part in ((1, few), (2, backwards)):
        _, by_intercept = platt_gradient(part.scores, part.right, together[0], found.intercepts[label])
        assert abs(by_intercept) < 1e-9
    assert found.intercepts[3] == together[1]
    assert found.thresholds[3] == PRIOR_THRESHOLD


@pytest.mark.parametrize("seed", range(4))
def test_wrong_detections_that_weigh_two_are_there_twice(seed):
    some, few = drawn(seed, 300), judged([0.5, 0.1, -0.5], [1, 0, 0])
    twice = []
    for one in (some, few):
        of = np.repeat(np.arange(len(one.scores)), np.where(one.right, 1, 2))
        twice.append(Judged("a", one.objects, one.scores[of], one.right[of], one.images[of], one.places[of]))
    found, expected = Calibration.fit([some, few], wrong_weight=2.0), Calibration.fit(twice)
    for name in ("slopes", "intercepts", "thresholds"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    assert found.intercepts[0] < Calibration.fit([some, few]).intercepts[0]


@pytest.mark.parametrize(
    ("objects", "weight"), [([1, 3, 1], 2.0), ([1, 1, 0, 2, 1], 4 / 3), ([1, 0, 1], 1.0), ([0, 0], 1.0), ([], 1.0)]
)
def test_wrong_detections_weigh_more_where_photographs_without_objects_are_missing(objects, weight):
    one = judged([], [], objects=np.array(objects, int))
    assert weight_of_wrong([one]) == pytest.approx(weight)
    # A set made up with such photographs would have the same: each shows two wrong detections for one elsewhere.
    if objects and weight > 1:
        without = objects.count(0)
        missing = (len(objects) - 3 * without) / 2
        there = len(objects) + without
        assert (there + 2 * missing) / there == pytest.approx(weight)
    assert weight_of_wrong([one, one]) == 1


def test_without_enough_of_anything_scores_are_log_odds():
    found = Calibration.fit([judged([], []), judged([0.5, -0.5], [1, 0])])
    assert found.slopes == (PRIOR_SLOPE, PRIOR_SLOPE)
    nothing = Calibration.fit([judged([], [])])
    assert nothing == Calibration((PRIOR_SLOPE,), (0.0,), (PRIOR_THRESHOLD,))
    np.testing.assert_allclose(nothing.probabilities([0.0, np.log(3)], [0, 0]), [0.5, 0.75])
    assert Calibration.fit([]) == Calibration((), (), ())


PAIRS = st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0.01, 3)), max_size=30)


@given(PAIRS, st.floats(0.1, 50))
def test_the_best_expected_f1_is_that_of_the_best_cut(pairs, objects):
    p, weights = (np.array([pair[place] for pair in pairs], float) for place in (0, 1))
    found = best_expected_f1(p, weights, objects)
    assert found == pytest.approx(slow_expected_f1(p.tolist(), weights.tolist(), objects))


@given(PAIRS.filter(bool), st.floats(0.1, 50))
def test_half_of_the_best_expected_f1_is_the_best_threshold(pairs, objects):
    p, weights = (np.array([pair[place] for pair in pairs], float) for place in (0, 1))
    best = best_expected_f1(p, weights, objects)
    shown = p > best / 2
    taken = 2 * (weights * p)[shown].sum() / (weights[shown].sum() + objects)
    # Weights may count more than the objects that there are; F1 is cut to 1 then.
    assert best == 1 or taken == pytest.approx(best, abs=1e-6)


def test_thresholds_are_half_of_the_best_expected_f1():
    classes = [drawn(1, 3000, images=40), drawn(2, 3000, slope=5, intercept=-6, images=40)]
    found = Calibration.fit(classes)
    for label, one in enumerate(classes):
        p = found.probabilities(one.scores, np.full(len(one.scores), label))
        best = max(f1_above(level, p, one.right, one.positives) for level in np.linspace(0, 1, 201))
        # Hundreds of objects: the prior says little, and what is expected comes about.
        assert found.thresholds[label] == pytest.approx(best / 2, abs=0.03)
        assert f1_above(found.thresholds[label], p, one.right, one.positives) > best - 0.02


def test_a_handful_of_objects_does_not_decide_a_threshold_alone():
    """Two classes alike but for the luck of one detection; cut where F1 was best they differed by a factor of three."""
    many = drawn(3, 2000, images=40)
    lucky = judged([2.0, 0.9, -0.9, -2.0, -2.1, -2.2], [1, 1, 1, 0, 0, 0])
    unlucky = judged([2.0, 0.9, -0.9, -2.0, -2.1, -2.2], [1, 1, 0, 0, 0, 1])
    first = Calibration.fit([many, lucky]).thresholds[1]
    second = Calibration.fit([many, unlucky]).thresholds[1]
    assert abs(first - second) < 0.05


def test_no_threshold_is_below_the_least():
    """A class whose detections are nearly all wrong is not shown by the hundred."""
    weak = judged(np.linspace(-1, 1, 400), np.arange(400) % 40 == 0, objects=[300])
    assert Calibration.fit([weak]).thresholds == (LEAST_THRESHOLD,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (((1.0,), (0.0, 1.0), (0.5,)), "for each class, not 1, 2 and 1"),
        (((0.0,), (0.0,), (0.5,)), "positive slopes.* not 0.0, 0.0 and 0.5"),
        (((float("inf"),), (0.0,), (0.5,)), "not inf, 0.0 and 0.5"),
        (((1.0,), (float("nan"),), (0.5,)), "not 1.0, nan and 0.5"),
        (((1.0,), (0.0,), (1.5,)), "thresholds from 0 to 1, not 1.0, 0.0 and 1.5"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Calibration(*values)


def test_cross_fitting_measures_each_image_with_what_the_others_taught():
    classes = [drawn(0, 300, images=12), drawn(1, 200, images=12, intercept=-2)]
    made = Verdicts.joined(cross_fitted(classes, folds=3))
    expected = [[], []]
    for fold in range(3):
        others = [
            judged(one.scores[one.images % 3 != fold], one.right[one.images % 3 != fold], None, [0]) for one in classes
        ]
        objects = [int(one.objects[np.arange(12) % 3 != fold].sum()) for one in classes]
        others = [judged(part.scores, part.right, None, [count]) for part, count in zip(others, objects, strict=True)]
        taught = Calibration.fit(others)
        for label, one in enumerate(classes):
            for score, hit in zip(one.scores[one.images % 3 == fold], one.right[one.images % 3 == fold], strict=True):
                p = taught.probabilities([score], [label])[0]
                expected[label].append((float(p), bool(hit), bool(p > taught.thresholds[label])))
    p, right, shown = map(list, zip(*expected[0], *expected[1], strict=True))
    np.testing.assert_allclose(made.probabilities, p, rtol=1e-6)
    assert made.right.tolist() == right
    assert made.shown.tolist() == shown
    assert len(p) == 500


def test_cross_fitting_needs_two_images():
    assert cross_fitted([]) is None
    assert cross_fitted([drawn(0, 20, images=1)]) is None
    (made,) = cross_fitted([drawn(0, 20, images=2)])
    assert len(made.probabilities) == 20


def test_cross_fitted_probabilities_are_true_and_their_error_is_honest():
    """On many detections the error is small; on noise it is not the zero that the fit itself would show."""
    (made,) = cross_fitted([drawn(0, 20_000, images=200)])
    assert made.to_dict()["ece"] < 0.03
    classes = [drawn(seed, 24, images=12) for seed in range(8)]
    fitted = Calibration.fit(classes)
    in_sample = np.concatenate([fitted.probabilities(one.scores, np.full(24, k)) for k, one in enumerate(classes)])
    right = np.concatenate([one.right for one in classes])
    made = Verdicts.joined(cross_fitted(classes))

    def loss(p, hits):
        return -np.mean(np.log(np.where(hits, p, 1 - p)))

    assert loss(made.probabilities, made.right) > loss(in_sample.astype(float), right)
