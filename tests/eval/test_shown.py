"""What is shown at a threshold, against counting; the best threshold against trying all of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sppnet.eval.shown import shown_above, shown_table
from sppnet.eval.voc_ap import Judged

LEVEL = st.one_of(st.floats(0, 1, width=32), st.integers(0, 4).map(lambda n: n / 4))


def judged(right, objects, name="cat"):
    count = len(right)
    empty = np.zeros(count, np.int64)
    return Judged(name, np.array([objects]), np.linspace(1, 0, count), np.array(right, bool), empty, empty)


def counted(pairs, objects, threshold):
    """Shown, right, and F1, by counting."""
    above = [is_right for level, is_right in pairs if level > threshold]
    return len(above), sum(above), 2 * sum(above) / (len(above) + objects)


@given(st.lists(st.tuples(LEVEL, st.booleans()), max_size=30), st.integers(0, 5), LEVEL)
def test_it_counts_and_finds_the_best(pairs, more, threshold):
    right = [is_right for _, is_right in pairs]
    levels, objects = np.array([level for level, _ in pairs], np.float64), sum(right) + more
    found = shown_above(judged(right, objects), levels, threshold)
    if objects == 0:
        assert (found.recall, found.f1, found.best_f1) == (None, None, None)
        return
    shown, hits, f1 = counted(pairs, objects, threshold)
    assert (found.shown, found.right, found.f1) == (shown, hits, pytest.approx(f1))
    assert found.recall == pytest.approx(hits / objects)
    assert found.precision == (pytest.approx(hits / shown) if shown else None)
    tried = [counted(pairs, objects, level)[2] for level in [-1, *levels]]
    if any(right):
        assert found.best_f1 == pytest.approx(max(tried))
        assert counted(pairs, objects, found.best_threshold)[2] == pytest.approx(found.best_f1)
    else:
        assert found.best_threshold is found.best_f1 is None


def test_the_table_and_the_dict():
    some = shown_above(judged([1, 0, 1], 4), np.array([0.9, 0.6, 0.3]), 0.5)
    none = shown_above(judged([], 0, "dog"), np.zeros(0), 0.5)
    assert shown_table([some, none]).splitlines()[2:] == [
        "cat           0.50      2      1      0.500   0.250  0.333    0.571   0.30",
        "dog           0.50      0      0          -       -      -        -      -",
    ]
    assert json.loads(json.dumps(some.to_dict())) == {
        "objects": 4,
        "threshold": 0.5,
        "shown": 2,
        "right": 1,
        "precision": 0.5,
        "recall": 0.25,
        "f1": pytest.approx(1 / 3),
        "best_threshold": pytest.approx(0.3, abs=1e-5),
        "best_f1": pytest.approx(4 / 7),
    }
