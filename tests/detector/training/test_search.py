"""The search of options: what it tries, what counts as better, and what chance may bring."""

import numpy as np
import pytest
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.search import search
from sppnet.eval.voc_ap import Judged

#: Images of three folds, with an object each.
SIZES = (4, 5, 4)


def judged(found):
    """One class: in image i an object, which is found if ``found[i]``, before anything wrong."""
    images = np.flatnonzero(found)
    right = np.ones(len(images), bool)
    scores = -np.arange(len(images), dtype=float)
    return [Judged("a", np.ones(sum(SIZES), np.int64), scores, right, images, np.zeros(len(images), np.int64))]


def found(*of_folds):
    """Which images' objects are found: so many of the first ones of each fold."""
    return np.concatenate([np.arange(size) < number for size, number in zip(SIZES, of_folds, strict=True)])


class Judge:
    """Judges plans by a function from an option's value to the objects found; remembers what it was asked."""

    def __init__(self, name, outcomes):
        self.name, self.outcomes, self.asked = name, outcomes, []

    def __call__(self, plans):
        self.asked.append([plan.choice(self.name) for plan in plans])
        return [judged(self.outcomes[plan.choice(self.name)]) for plan in plans]


def test_the_best_candidate_is_taken_if_it_is_better_in_all_folds():
    judge = Judge("C", {0.001: found(2, 2, 2), 0.003: found(3, 3, 3), 0.01: found(3, 4, 4)})
    plan, trials = search(TrainPlan(), [{"C": (0.001, 0.003, 0.01)}], judge, SIZES)
    assert plan == TrainPlan().changed(C=0.01)
    assert judge.asked == [[0.001, 0.003, 0.01]]
    assert [trial.ap for trial in trials[0]] == pytest.approx([6 / 13, 9 / 13, 11 / 13])
    assert [trial.gain for trial in trials[0]] == pytest.approx([0, 3 / 13, 5 / 13])
    gains = np.array([1 / 4, 2 / 5, 2 / 4])
    assert trials[0][2].error == pytest.approx(gains.std(ddof=1) / np.sqrt(3))


def test_a_gain_that_chance_may_bring_changes_nothing():
    judge = Judge("C", {0.001: found(2, 2, 2), 0.01: found(4, 1, 2)})
    plan, trials = search(TrainPlan(), [{"C": (0.001, 0.01)}], judge, SIZES)
    assert plan == TrainPlan()
    assert trials[0][1].gain > 0
    assert not trials[0][1].counts


def test_of_equal_candidates_the_plan_as_it_is_stays():
    judge = Judge("C", {0.001: found(2, 2, 2), 0.01: found(2, 2, 2)})
    plan, _ = search(TrainPlan(), [{"C": (0.01, 0.001)}], judge, SIZES)
    assert plan == TrainPlan()
    assert judge.asked == [[0.001, 0.01]]


def test_a_round_tries_all_combinations_from_the_choice_of_the_one_before():
    judge = Judge("C", {0.001: found(1, 1, 1), 0.01: found(3, 3, 3)})
    rounds = [{"C": (0.01,)}, {"regressions": (1, 2), "ridge": (300.0, 1000.0)}]
    plan, trials = search(TrainPlan(), rounds, judge, SIZES)
    assert judge.asked == [[0.001, 0.01], [0.01] * 4]
    assert [dict(trial.values) for trial in trials[1]] == [
        {"regressions": 2, "ridge": 1000.0},
        {"regressions": 1, "ridge": 300.0},
        {"regressions": 1, "ridge": 1000.0},
        {"regressions": 2, "ridge": 300.0},
    ]
    assert plan == TrainPlan().changed(C=0.01)


def test_folds_without_an_object_are_left_out():
    def judge(plans):
        one, better = judged(found(2, 2, 0)), judged(found(3, 3, 0))
        for (of_class,) in (one, better):
            of_class.objects[-SIZES[-1] :] = 0
        return [one, better]

    plan, trials = search(TrainPlan(), [{"C": (0.01,)}], judge, SIZES)
    assert plan == TrainPlan().changed(C=0.01)
    assert trials[0][1].error == pytest.approx(abs(1 / 4 - 1 / 5) / 2)
