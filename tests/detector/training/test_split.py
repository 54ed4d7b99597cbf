"""Splits: folds show each class about equally often, near duplicates stay together, nothing is in two parts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sppnet.detector.options import FeatureOptions, TrainOptions
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.split import Split, choose_split


@st.composite
def tables(draw):
    """Which classes images show, and groups of images."""
    count, classes = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shown = rng.random((count, classes)) < rng.random(classes)
    return shown, rng.integers(0, draw(st.integers(1, 60)), count)


@settings(deadline=None)
@given(tables(), st.integers(2, 6), st.integers(0, 3))
def test_folds_are_whole_groups_and_together_all_images(table, folds, seed):
    shown, groups = table
    split = Split.folds(shown, groups, folds, seed)
    assert sorted(split.order) == list(range(len(shown)))
    names = set(groups.tolist())
    if len(names) < 2:
        assert split.parts == ()
        assert split.learnt == split.order
        return
    assert len(split.parts) == min(folds, len(names))
    assert sorted(split.scored) == list(range(len(shown)))
    assert split.learnt == ()
    found = [{groups[i] for i in part} for part in split.parts]
    assert all(found)
    assert sum(map(len, found)) == len(names)
    assert Split.folds(shown, groups, folds, seed) == split


def test_each_class_is_shown_equally_often():
    rng = np.random.default_rng(0)
    shown = rng.random((100, 4)) < [0.9, 0.3, 0.1, 0.05]
    for seed in range(5):
        split = Split.folds(shown, np.arange(100), 5, seed)
        counts = np.array([shown[list(part)].sum(axis=0) for part in split.parts])
        assert (counts.max(axis=0) - counts.min(axis=0) <= 2).all()
        assert {len(part) for part in split.parts} <= {19, 20, 21}
    assert len({Split.folds(shown, np.arange(100), 5, seed).parts for seed in range(5)}) == 5


@pytest.mark.parametrize(("count", "share", "number"), [(20, 0.1, 2), (20, 0.0, 0), (1, 0.5, 0), (3, 0.9, 2)])
def test_a_held_out_part_is_the_end_of_the_order(count, share, number):
    split = Split.held_out(count, share, 0)
    assert sorted(split.order) == list(range(count))
    assert split.scored == split.order[count - number :]
    assert split.learnt == split.order[: count - number]
    assert len(split.parts) == (number > 0)


def test_smaller_shares_are_parts_of_larger_ones():
    split = Split.folds(np.ones((20, 1), bool), np.arange(20), 5, 0)
    whole, half, little = (split.smaller(share, 3) for share in (1.0, 0.5, 0.01))
    assert whole == list(split.parts)
    for part, more, most in zip(split.parts, half, little, strict=True):
        assert set(part) < set(more) < set(most)
        assert (len(part), len(more), len(most)) == (4, 12, 19)


@pytest.mark.parametrize(
    ("options", "tunes", "few", "parts"),
    [
        ({}, False, 100, [4, 4, 4]),
        ({}, False, 11, [1]),
        ({}, True, 100, [1]),
        ({"folds": 2}, False, 11, [6, 6]),
        ({"held_out": 0.25}, False, 100, [3]),
        ({"held_out": 0.0}, False, 100, []),
    ],
)
def test_folds_are_for_few_photographs(scenes, monkeypatch, options, tunes, few, parts):
    monkeypatch.setattr("sppnet.detector.training.plan.FEW_IMAGES", few)
    monkeypatch.setattr("sppnet.detector.training.split.FOLDS", 3)
    plan = TrainPlan(features=FeatureOptions(kind="fc7" if tunes else "pool5"), options=TrainOptions(**options))
    split = choose_split(list(scenes), len(scenes.class_names), plan.options, plan.folded(len(scenes)))
    # Which classes the scenes show, and so the folds' last photograph, depends on numpy's version.
    sizes = [len(part) for part in split.parts]
    assert sum(sizes) == sum(parts)
    assert sizes == pytest.approx(parts, abs=1)


def test_a_photograph_that_is_there_twice_is_in_one_fold(scenes):
    samples = list(scenes)
    samples += [replace(samples[0], id="again"), replace(samples[5], id="once more")]
    split = choose_split(samples, len(scenes.class_names), TrainOptions(folds=4), folded=True)
    for part in split.parts:
        assert ((0 in part), (5 in part)) == ((12 in part), (13 in part))
