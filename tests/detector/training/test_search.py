"""The search of options: what it tries, what counts as better, and what chance may bring."""

import numpy as np
import pytest
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.search import search
from sppnet.eval.voc_ap import Judged

#: Number of images, with an object each.
IMAGES = 40


def judged(found):
    """One class: in image i an object, which is found if ``found[i]``, before anything wrong."""
    images = np.flatnonzero(found)
    right = np.ones(len(images), bool)
    scores = -np.arange(len(images), dtype=float)
    return [Judged("a", np.ones(IMAGES, np.int64), scores, right, images, np.zeros(len(images), np.int64))]


def found(first, end):
    """Which images' objects are found: those from ``first`` to ``end - 1``."""
    return (np.arange(IMAGES) >= first) & (np.arange(IMAGES) < end)


class Judge:
    """Judges plans by a function from an option's value to the objects found; remembers what it was asked."""

    def __init__(self, name, outcomes):
        self.name, self.outcomes, self.asked = name, outcomes, []

    def __call__(self, plans):
        self.asked.append([plan.choice(self.name) for plan in plans])
        return [judged(self.outcomes[plan.choice(self.name)]) for plan in plans]


def test_the_best_candidate_is_taken_if_its_gain_is_sure():
    judge = Judge("C", {0.001: found(0, 20), 0.003: found(0, 28), 0.01: found(0, 34)})
    plan, trials = search(TrainPlan(), [{"C": (0.001, 0.003, 0.01)}], judge, seed=0)
    assert plan == TrainPlan().changed(C=0.01)
    assert judge.asked == [[0.001, 0.003, 0.01]]
    assert [trial.ap for trial in trials[0]] == pytest.approx([20 / 40, 28 / 40, 34 / 40])
    assert [trial.gain for trial in trials[0]] == pytest.approx([0, 8 / 40, 14 / 40])
    # Here the gain is the share of the images in which only one finds the object: its standard error is known.
    for trial in trials[0]:
        expected = np.sqrt(trial.gain * (1 - trial.gain) / IMAGES)
        assert trial.error == pytest.approx(expected, rel=0.25)


def test_a_gain_that_chance_may_bring_changes_nothing():
    # Found in 21 images that the first misses, missed in 20 that it finds.
    judge = Judge("C", {0.001: found(0, 19), 0.01: found(19, 40)})
    plan, trials = search(TrainPlan(), [{"C": (0.001, 0.01)}], judge, seed=0)
    assert plan == TrainPlan()
    assert trials[0][1].gain == pytest.approx(2 / 40)
    assert trials[0][1].error == pytest.approx(np.sqrt(1 / IMAGES), rel=0.25)
    assert not trials[0][1].counts


def test_of_equal_candidates_the_plan_as_it_is_stays():
    judge = Judge("C", {0.001: found(0, 20), 0.01: found(0, 20)})
    plan, _ = search(TrainPlan(), [{"C": (0.01, 0.001)}], judge, seed=0)
    assert plan == TrainPlan()
    assert judge.asked == [[0.001, 0.01]]


def test_a_round_tries_all_combinations_from_the_choice_of_the_one_before():
    judge = Judge("C", {0.001: found(0, 10), 0.01: found(0, 30)})
    rounds = [{"C": (0.01,)}, {"regressions": (1, 2), "ridge": (300.0, 1000.0)}]
    plan, trials = search(TrainPlan(), rounds, judge, seed=0)
    assert judge.asked == [[0.001, 0.01], [0.01] * 4]
    assert [dict(trial.values) for trial in trials[1]] == [
        {"regressions": 2, "ridge": 1000.0},
        {"regressions": 1, "ridge": 300.0},
        {"regressions": 1, "ridge": 1000.0},
        {"regressions": 2, "ridge": 300.0},
    ]
    assert plan == TrainPlan().changed(C=0.01)


def test_a_class_with_few_objects_does_not_make_a_sure_gain_unsure():
    """A second class, of two objects that neither finds: halves without them have the mean of the other class."""
    few = Judged("b", np.isin(np.arange(IMAGES), [3, 30]).astype(np.int64), *(np.zeros(0, np.int64) for _ in range(4)))

    def judge(plans):
        return [[*judged(found(0, 20)), few], [*judged(found(0, 34)), few]]

    plan, trials = search(TrainPlan(), [{"C": (0.01,)}], judge, seed=0)
    assert plan == TrainPlan().changed(C=0.01)
    assert 0 < trials[0][1].error < trials[0][1].gain


def test_without_any_object_nothing_is_sure():
    def judge(plans):
        nothing = Judged("a", np.zeros(IMAGES, np.int64), *(np.zeros(0, np.int64) for _ in range(4)))
        return [[nothing] for _ in plans]

    plan, trials = search(TrainPlan(), [{"C": (0.01,)}], judge, seed=0)
    assert plan == TrainPlan()
    assert trials[0][1].error == np.inf
