"""Kinds of mistakes: planted ones, and the same as the slow twin says on random ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import mistakes as reference
from sppnet.data.detections import Detections
from sppnet.data.sample import Sample
from sppnet.eval.mistakes import KINDS, MISSED, confusion, costs, explain, missed_objects, recall_by_size, to_dict

NAMES = ("cat", "dog", "cow")


def sample(*objects):
    """A photograph with objects (class, box, difficult)."""
    labels, boxes, difficult = (list(part) for part in zip(*objects, strict=True)) if objects else ([], [], [])
    return Sample(
        "a", None, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(difficult, bool)
    )


def found(*detections):
    """Detections (score, class, box)."""
    scores, labels, boxes = (list(part) for part in zip(*detections, strict=True)) if detections else ([], [], [])
    return Detections(np.array(boxes, float).reshape(-1, 4), scores, np.array(labels, np.int64), NAMES)


@pytest.fixture
def planted():
    """One detection of each kind, and one object that is missed."""
    samples = [
        sample((0, [0, 0, 40, 40], False), (1, [50, 0, 90, 40], False), (0, [0, 50, 200, 250], False)),
        sample((2, [0, 0, 20, 20], False), (0, [50, 50, 90, 90], True)),
        sample(),
    ]
    detections = [
        found(
            (0.9, 0, [0, 0, 40, 40]), (0.8, 0, [2, 0, 40, 40]), (0.7, 0, [52, 0, 90, 40]), (0.6, 1, [60, 20, 100, 60])
        ),
        found((0.5, 0, [50, 50, 90, 90]), (0.4, 1, [10, 0, 30, 20])),
        found((0.3, 0, [0, 0, 40, 40])),
    ]
    return detections, samples


def test_planted_mistakes(planted):
    explained = explain(*planted, NAMES)
    told = {
        round(float(score), 1): "right" if kind < 0 else KINDS[kind]
        for one in explained
        for score, kind in zip(one.judged.scores, one.kinds, strict=True)
    }
    assert told == {
        0.9: "right",
        0.8: "duplicate",
        0.7: "other class",
        0.6: "wrong place",
        0.4: "other class, wrong place",
        0.3: "background",
    }
    assert missed_objects(explained, planted[1]) == [(0, 1), (0, 2), (1, 0)]
    gains = costs(explained, planted[1])
    # cat: right, wrong, wrong, wrong of two objects; dog: wrong of one; cow: nothing of one.
    assert gains["wrong place"] == pytest.approx(1 / 3)  # the dog
    assert gains["other class"] == pytest.approx(1 / 3)
    assert gains["background"] == gains["duplicate"] == 0
    # The large cat and the cow are told of by nothing that counts, so that cats have one object and cows none.
    assert gains[MISSED] == pytest.approx(np.mean([1, 0]) - np.mean([0.5, 0, 0]))
    assert to_dict(explained, gains)["duplicate"] == {"count": 1, "ap_cost": 0}


def test_what_was_taken_for_what(planted):
    assert confusion(*planted, 3).tolist() == [
        [1, 0, 0, 1],  # one cat is found, one is not
        [1, 0, 0, 0],  # the dog is taken for a cat
        [0, 0, 0, 1],
        [1, 2, 0, 0],  # a cat in the empty photograph, and two dogs beside everything
    ]


def test_recall_by_size(planted):
    is_found, objects = recall_by_size(explain(*planted, NAMES), planted[1], 3)
    assert objects.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert is_found.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_what_is_shown_alone(planted):
    shown = [one.above(one.judged.scores, 0.65) for one in explain(*planted, NAMES)]
    assert [len(one.kinds) for one in shown] == [3, 0, 0]
    assert missed_objects(shown, planted[1]) == [(0, 1), (0, 2), (1, 0)]


def test_nothing_at_all():
    explained = explain([], [], NAMES)
    assert all(np.isnan(value) for value in costs(explained, []).values())
    assert missed_objects(explained, []) == []
    assert confusion([], [], 3).tolist() == np.zeros((4, 4)).tolist()


sides = st.integers(0, 12)
boxes = st.tuples(sides, sides, sides, sides).map(lambda b: [b[0], b[1], b[0] + b[2] + 1, b[1] + b[3] + 1])
images = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2), boxes), max_size=5),
        st.lists(st.tuples(st.integers(0, 2), boxes, st.booleans()), max_size=4),
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(images, st.randoms())
def test_the_slow_twin_says_the_same(drawn, random):
    # Different scores: the order of equal ones is nobody's promise.
    scores = list(range(1, 1 + sum(len(one) for one, _ in drawn)))
    random.shuffle(scores)
    told = [([(scores.pop(), *one) for one in detections], objects) for detections, objects in drawn]
    detections = [found(*one) for one, _ in told]
    samples = [sample(*objects) for _, objects in told]
    explained = explain(detections, samples, NAMES)
    first = np.cumsum([0, *(len(one.boxes) for one in samples)])
    ours = {
        (int(score), label, "right" if kind < 0 else KINDS[kind], int(about))
        for label, one in enumerate(explained)
        for score, kind, about in zip(one.judged.scores, one.kinds, one.objects, strict=True)
    }
    theirs = {
        (score, label, kind, -1 if about is None else int(first[about[0]] + about[1]))
        for score, label, kind, about in reference.explain(told, 3)
    }
    assert ours == theirs
    if any(not flag for _, objects in drawn for _, _, flag in objects):
        gains = costs(explained, samples)
        for kind in (*KINDS, MISSED):
            assert gains[kind] == pytest.approx(reference.cost(told, 3, kind), abs=1e-12, nan_ok=True)
