"""Several detectors as one: planted lists, equal models, classes in another order, no detections."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_model
from reference.combination import combine as slow_combine
from sppnet import CombinedDetector, SPPDetector
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError, MisuseWarning
from sppnet.detector.detection.calibration import Calibration
from sppnet.detector.detection.combination import combine
from sppnet.detector.options import DetectOptions

IMAGE = np.zeros((60, 60, 3), np.uint8)
NAMES = ("a", "b")


def items(found):
    """A list of detections as (class name, score, box)."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return [(found.class_names[label], score, tuple(box)) for label, score, box in rows]


def listed(names, *rows):
    """Detections from (class name, score, box) rows."""
    if not rows:
        return Detections.empty(names)
    labels, scores, boxes = zip(*rows, strict=True)
    return Detections(boxes, scores, [names.index(label) for label in labels], names)


class Planted:
    """A detector that finds what it was told to, and remembers what it was asked."""

    def __init__(self, found, scorer="svm", scores=None, **options):
        self.found, self.scores, self.asked = found, scores, []
        self.class_names = found.class_names
        self.bundle = SimpleNamespace(detection=DetectOptions(**options), scorer=scorer)

    def propose(self, image):
        return np.full((1, 4), len(self.found), np.float32)

    def maps(self, image):
        return image

    def score_on(self, maps, windows):
        return self.scores

    def detect_on(self, maps, windows, threshold):
        self.asked.append((maps, threshold, windows))
        return self.found


# --- the union ---------------------------------------------------------------------------------------------------

# Few different corners and scores: equal boxes, ties, shared edges and boxes without area are the rule.
CORNER = st.integers(0, 5)
BOX = st.tuples(CORNER, CORNER, CORNER, CORNER)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), BOX), max_size=10)
LISTS = st.lists(st.tuples(st.permutations("abc"), ROWS), min_size=1, max_size=3)


@settings(deadline=None)
@given(LISTS, st.sampled_from([0.0, 0.3, 1 / 3, 0.5, 1.0]), st.integers(1, 4))
def test_the_union_is_that_of_the_slow_twin(lists, nms, max_per_class):
    found = [listed(tuple(names), *rows) for names, rows in lists]
    combined = combine(found, nms, max_per_class)
    assert items(combined) == slow_combine([items(part) for part in found], nms, max_per_class)
    assert combined.class_names == tuple(lists[0][0])


def test_the_union_of_long_lists_is_that_of_the_slow_twin():
    rng = np.random.default_rng(0)
    found = []
    for names in (("a", "b", "c"), ("c", "a", "b")):
        corners = rng.uniform(0, 100, (150, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 60, (150, 2))])
        found.append(Detections(boxes, rng.normal(size=150), rng.integers(0, 3, 150), names).nms(0.3))
    expected = slow_combine([items(part) for part in found], 0.3, 10)
    assert 10 < len(expected) <= 30
    assert items(combine(found, 0.3, 10)) == expected


def test_the_better_of_two_overlapping_boxes_stays_whichever_model_found_it():
    here, almost, there = (0, 0, 10, 10), (0, 0, 10, 9), (30, 30, 40, 40)
    first = listed(NAMES, ("a", 0.9, here), ("b", 0.2, there))
    second = listed(NAMES, ("b", 0.7, there), ("a", 0.5, almost), ("b", 0.4, almost), ("a", -0.1, there))
    expected = [("a", 0.9, here), ("b", 0.7, there), ("b", 0.4, almost), ("a", -0.1, there)]
    for found in ([first, second], [second, first]):
        assert items(combine(found, 0.3, 100)) == items(listed(NAMES, *expected))


def test_of_equal_detections_that_of_the_first_list_stays():
    first, second = listed(NAMES, ("a", 0.5, (0, 0, 10, 10))), listed(NAMES, ("a", 0.5, (0, 0, 10, 9)))
    assert items(combine([first, second], 0.3, 100)) == items(first)
    assert items(combine([second, first], 0.3, 100)) == items(second)


def test_the_cap_counts_the_union_of_a_class_and_its_best():
    boxes = [(20 * n, 0, 20 * n + 10, 10) for n in range(5)]
    first = listed(NAMES, ("a", 5, boxes[0]), ("a", 3, boxes[1]), ("b", -1, boxes[0]))
    second = listed(NAMES, ("a", 4, boxes[2]), ("a", 2, boxes[3]))
    assert [score for _, score, _ in items(combine([first, second], 0.3, 2))] == [5, 4, -1]


def test_nothing_found_by_one_or_by_all():
    empty, one = Detections.empty(("b", "a")), listed(NAMES, ("b", 1.0, (0, 0, 5, 5)))
    assert items(combine([one, empty], 0.3, 100)) == items(combine([empty, one], 0.3, 100)) == items(one)
    none = combine([empty, Detections.empty(NAMES)], 0.3, 100)
    assert (len(none), none.boxes.shape, none.class_names) == (0, (0, 4), ("b", "a"))


# --- the detector ------------------------------------------------------------------------------------------------


def test_all_models_see_the_windows_of_the_first_and_the_same_threshold():
    first = Planted(listed(NAMES, ("a", 1.0, (0, 0, 5, 5))))
    second = Planted(listed(NAMES, ("a", 2.0, (0, 0, 5, 5)), ("b", 1.5, (9, 9, 20, 20))))
    combined = CombinedDetector([first, second])
    assert items(combined.detect(IMAGE)) == items(second.found)
    combined.detect(IMAGE, threshold=0.25, windows=[[-5, -5, 30, 500]])
    for model in (first, second):
        (_, own, proposed), (_, given_threshold, given_windows) = model.asked
        assert own is None  # each applies its own
        np.testing.assert_array_equal(proposed, np.full((1, 4), len(first.found)))
        assert given_threshold == 0.25
        np.testing.assert_array_equal(given_windows, [[0, 0, 30, 60]])


def test_the_first_model_rules_over_the_union():
    one, other = listed(NAMES, ("a", 1.0, (0, 0, 10, 10))), listed(NAMES, ("a", 2.0, (0, 0, 10, 7)))
    strict, lenient = Planted(one, nms=0.5), Planted(other, nms=0.9)
    assert len(CombinedDetector([strict, lenient]).detect(IMAGE)) == 1
    assert len(CombinedDetector([lenient, strict]).detect(IMAGE)) == 2
    assert len(CombinedDetector([Planted(other, nms=0.9, max_per_class=1), strict]).detect(IMAGE)) == 1


def test_classes_in_another_order_become_the_first_models():
    first = Planted(listed(("a", "b"), ("b", 1.0, (0, 0, 5, 5))), scores=np.array([[1, -1], [0, 2]], np.float32))
    second = Planted(listed(("b", "a"), ("b", 2.0, (9, 9, 20, 20))), scores=np.array([[5, 0], [1, 3]], np.float32))
    combined = CombinedDetector([first, second])
    assert combined.class_names == ("a", "b")
    found = combined.detect(IMAGE)
    assert found.class_names == ("a", "b")
    assert [name for name, _, _ in items(found)] == ["b", "b"]
    combined.set_image(IMAGE)
    np.testing.assert_array_equal(combined.score_windows(np.zeros((2, 4))), [[1, 5], [3, 2]])


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("b", "c"), "model 3 lacks a and adds c"),
        (("b",), "model 3 lacks a$"),
        (("a", "b", "c", "d"), "model 3 adds c, d$"),
    ],
)
def test_different_classes_are_refused(names, difference):
    models = [Planted(Detections.empty(found)) for found in (("a", "b"), ("b", "a"), names)]
    with pytest.raises(InputError, match=f"^combined models must have the same classes: {difference}"):
        CombinedDetector(models)


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="at least one detector, not 0"):
        CombinedDetector([])


def test_scores_of_different_kinds_are_warned_of_once(recwarn):
    svm, softmax = Planted(Detections.empty(NAMES)), Planted(Detections.empty(NAMES), "softmax")
    CombinedDetector([svm, svm])
    CombinedDetector([softmax, softmax])
    assert len(recwarn) == 0
    CombinedDetector([svm, softmax]).detect(IMAGE)
    warning = recwarn.pop(MisuseWarning)
    assert str(warning.message) == "scores of different kinds are compared directly: model 1 svm, model 2 softmax"
    assert warning.filename == __file__
    assert len(recwarn) == 0


@pytest.mark.usefixtures("messages")
def test_a_command_says_it_each_time_as_a_line(capsys):
    for _ in range(2):
        svm, softmax = Planted(Detections.empty(NAMES)), Planted(Detections.empty(NAMES), "softmax")
        CombinedDetector([svm, softmax])
        assert capsys.readouterr().err == (
            "warning: scores of different kinds are compared directly: model 1 svm, model 2 softmax\n"
        )


# --- real models -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundles(features):
    """Two models with random SVMs and regressors, their classes in different orders."""

    def make(seed, names):
        intercepts = torch.tensor([[0.1, 0, 0, 0.1]]).repeat(3, 1)
        return random_model(names, features, seed, windows=100, boxes=0.01, box_intercepts=intercepts)

    return make(0, ("a", "b", "c")), make(1, ("c", "a", "b"))


@pytest.fixture(scope="module")
def models(bundles):
    return [SPPDetector(bundle) for bundle in bundles]


@pytest.fixture(scope="module")
def photograph():
    return np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)


@pytest.mark.parametrize("regressed", [True, False])
def test_equal_models_find_what_one_finds(bundles, photograph, regressed):
    bundle = bundles[0] if regressed else replace(bundles[0], box_weights=None, box_intercepts=None)
    detector = SPPDetector(bundle)
    for threshold in (None, -10):
        alone = detector.detect(photograph, threshold)
        assert len(alone)
        for models in ([detector], [detector, detector]):
            assert items(CombinedDetector(models).detect(photograph, threshold)) == items(alone)


def test_two_models_find_the_union_of_their_lists(models, photograph):
    found = CombinedDetector(models).detect(photograph, threshold=-10)
    windows = models[0].propose(photograph)
    lists = [items(model.detect(photograph, -10, windows)) for model in models]
    assert items(found) == slow_combine(lists, 0.3, 100)
    assert 0 < len({item for item in items(found) if item in lists[1]}) < len(found)


def test_each_model_shows_from_its_own_threshold(bundles, models, photograph):
    silent = SPPDetector(replace(bundles[0], detection=replace(bundles[0].detection, show_above=1e9)))
    found = CombinedDetector([silent, models[1]]).detect(photograph)
    alone = models[1].detect(photograph, windows=silent.propose(photograph))
    assert len(alone)
    assert sorted(items(found)) == sorted(items(alone))


def test_scores_are_the_best_of_the_models(bundles, photograph):
    models = [SPPDetector(bundle) for bundle in bundles]  # that have seen no image yet
    combined = CombinedDetector(models)
    windows = np.array([[5, 5, 60, 50], [30, 10, 110, 79]], np.float32)
    with pytest.raises(RuntimeError, match="set_image"):
        combined.score_windows(windows)
    combined.set_image(photograph)
    scores = combined.score_windows(windows)
    for model in models:
        with pytest.raises(RuntimeError, match="set_image"):
            model.score_windows(windows)  # their own image is theirs
        model.set_image(photograph)
    first, second = (model.score_windows(windows) for model in models)
    np.testing.assert_array_equal(scores, np.maximum(first, second[:, [1, 2, 0]]))
    assert scores.dtype == np.float32
    assert combined.score_windows(np.zeros((0, 4))).shape == (0, 3)


def test_detection_leaves_the_image_that_was_set(models, photograph):
    combined, windows = CombinedDetector(models), [[5, 5, 60, 50]]
    combined.set_image(photograph)
    scores = combined.score_windows(windows)
    assert len(combined.detect(255 - photograph, -10))
    for model in models:
        model.set_image(255 - photograph)
    np.testing.assert_array_equal(combined.score_windows(windows), scores)
    combined.reset_image()
    with pytest.raises(RuntimeError, match="set_image"):
        combined.score_windows(windows)


def test_a_combination_moves_its_models(bundles, photograph):
    combined = CombinedDetector([SPPDetector(bundle) for bundle in bundles])
    combined.set_image(photograph)
    assert combined.to("cpu") is combined
    assert combined.device == torch.device("cpu")
    with pytest.raises(RuntimeError, match="set_image"):
        combined.score_windows([[5, 5, 60, 50]])
    with pytest.raises(InputError, match="no device 'tpu' here; expected one of cpu"):
        combined.to("tpu")


def test_no_windows_give_no_detections(models, photograph):
    found = CombinedDetector(models).detect(photograph, windows=np.zeros((0, 4)))
    assert (len(found), found.class_names) == (0, ("a", "b", "c"))


SILENT = DetectOptions(max_windows=100, show_above=1e9)
CALIBRATIONS = [
    Calibration((2.0, 1.0, 3.0), (0.0, -1.0, 0.5), (0.5, 0.3, 0.7)),
    Calibration((1.0, 4.0, 0.5), (1.0, 0.0, -0.5), (0.9, 0.6, 0.2)),
]


@pytest.fixture(scope="module")
def calibrated(bundles):
    return [SPPDetector(replace(bundle, calibration=one)) for bundle, one in zip(bundles, CALIBRATIONS, strict=True)]


def test_each_detection_has_the_probability_of_the_model_that_found_it(models, calibrated, photograph):
    both = CombinedDetector(calibrated)
    assert both.calibrated
    found, plain = both.detect(photograph, -np.inf), CombinedDetector(models).detect(photograph, -np.inf)
    assert items(found) == items(plain)  # scores rank and suppress, whatever the probabilities
    windows = both.propose(photograph)
    said = {}
    for model in calibrated:
        alone = model.detect(photograph, -np.inf, windows)
        said |= dict(zip(items(alone), alone.probabilities.tolist(), strict=True))
    assert found.probabilities.tolist() == [said[item] for item in items(found)]
    assert (np.diff(found.probabilities) > 0).any()


@pytest.mark.parametrize("threshold", [None, 0.6])
def test_each_calibrated_model_applies_the_threshold_to_its_own_probabilities(calibrated, photograph, threshold):
    both = CombinedDetector(calibrated)
    windows = both.propose(photograph)
    lists = [items(model.detect(photograph, threshold, windows)) for model in calibrated]
    found = both.detect(photograph, threshold)
    assert all(lists)
    assert items(found) == slow_combine(lists, 0.3, 100)
    with pytest.raises(ValueError, match="from 0 to 1, not -1"):
        both.detect(photograph, -1)


def test_beside_a_model_without_probabilities_none_has_one(models, calibrated, photograph):
    mixed = CombinedDetector([models[0], calibrated[1]])
    assert not mixed.calibrated
    windows = mixed.propose(photograph)
    found = mixed.detect(photograph, 0.5)
    # The one compares 0.5 with its scores, the other with its probabilities.
    lists = [items(model.detect(photograph, 0.5, windows)) for model in mixed.detectors]
    assert items(found) == slow_combine(lists, 0.3, 100)
    assert not found.calibrated
    # Also where the one finds nothing.
    nothing = CombinedDetector([SPPDetector(replace(models[0].bundle, detection=SILENT)), calibrated[1]])
    assert len(nothing.detect(photograph)) > 0
    assert not nothing.detect(photograph).calibrated
