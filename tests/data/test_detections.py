import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.nms import class_nms

NAMES = ("cat", "dog", "Kuh, braun")


@pytest.fixture
def found():
    boxes = [[0, 0, 10, 20], [1, 0, 10, 20], [0.1, 5.25, 30, 40], [7, 7, 8, 8]]
    return Detections(boxes, [0.9, 1.27, -0.5, 0.1], [1, 1, 0, 2], NAMES)


@pytest.fixture
def probable(found):
    """The same with probabilities, not in the order of the scores."""
    return replace(found, probabilities=[0.7, 0.25, 0.1, 0.9])


def same(a, b):
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.class_names == b.class_names
    assert (a.probabilities is None) == (b.probabilities is None)
    if a.probabilities is not None:
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_types_are_kept_fixed(found):
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert found.class_names == NAMES
    with pytest.raises(AttributeError):
        found.boxes = found.boxes


def test_indexing_selects(found):
    assert found[found.scores > 0.5].labels.tolist() == [1, 1]
    assert found[[2, 0]].labels.tolist() == [0, 1]
    assert found[1:].scores.tolist() == found.scores[1:].tolist()
    assert found[-1].labels.tolist() == [2]
    assert found[np.int64(2)].boxes.shape == (1, 4)
    assert [one.labels[0] for one in found] == [1, 1, 0, 2]
    for nothing in (found[[]], found[found.scores > 9], found[0:0], Detections.empty(NAMES)):
        assert len(nothing) == 0
        assert nothing.boxes.shape == (0, 4)
        assert nothing.labels.dtype == np.int64
        assert nothing.class_names == NAMES
    with pytest.raises(IndexError):
        found[4]
    with pytest.raises(IndexError):
        found[np.array([True, False])]


def test_nms_is_by_class_and_best_first(found):
    kept = found.nms(0.5)
    assert kept.scores.tolist() == np.float32([1.27, 0.1, -0.5]).tolist()
    same(kept, found[class_nms(found.boxes, found.scores, found.labels, 0.5)])
    assert len(Detections.empty(NAMES).nms(0.3)) == 0


def test_probabilities_go_with_their_detections(probable):
    assert probable.probabilities.dtype == np.float32
    assert probable[probable.scores > 0.5].probabilities.tolist() == np.float32([0.7, 0.25]).tolist()
    assert probable[-1].probabilities.tolist() == np.float32([0.9]).tolist()
    assert probable[[]].probabilities.shape == (0,)
    # The best first, by their scores: 1.27, which suppresses 0.9, then 0.1 and -0.5.
    assert probable.nms(0.5).probabilities.tolist() == np.float32([0.25, 0.9, 0.1]).tolist()
    same(Detections.concatenate([probable[:1], probable[[]], probable[1:]]), probable)
    without = replace(probable, probabilities=None)
    assert Detections.concatenate([probable, without]).probabilities is None
    assert Detections.concatenate([without, probable]).probabilities is None


def test_concatenate(found):
    same(Detections.concatenate([found[:1], Detections.empty(NAMES), found[1:]]), found)
    with pytest.raises(ValueError, match="classes must agree"):
        Detections.concatenate([found, Detections.empty(["cat"])])
    with pytest.raises(ValueError, match="at least one"):
        Detections.concatenate([])


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (np.zeros((2, 5)), [1, 1], [0, 0], r"boxes must have shape \(N, 4\), not \(2, 5\)"),
        (np.zeros((2, 4)), [1], [0, 0], r"scores must have shape \(2,\), one for each box, not \(1,\)"),
        (np.zeros((2, 4)), [1, 1], [0], r"labels must have shape \(2,\), one for each box, not \(1,\)"),
        (np.zeros((1, 4)), [1], [0.5], "labels must be integers, not float64"),
        (np.zeros((2, 4)), [1, 1], [0, 3], "labels must be from 0 to 2, .* not from 0 to 3"),
        (np.zeros((1, 4)), [1], [-1], "not from -1 to -1"),
    ],
)
def test_what_does_not_fit_is_refused(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels, NAMES)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5], r"probabilities must have shape \(2,\), one for each box, not \(1,\)"),
        ([0.5, 1.5], "from 0 to 1, not 1.5"),
        ([-0.25, 0.5], "from 0 to 1, not -0.25"),
        ([0.5, np.nan], "from 0 to 1, not nan"),
    ],
)
def test_probabilities_that_are_none_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        Detections(np.zeros((2, 4)), [1, 1], [0, 0], NAMES, probabilities)


FLOATS = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None)
@given(st.data(), st.integers(0, 5), st.booleans())
def test_records_lose_nothing(data, count, with_probabilities):
    shares = arrays(np.float32, count, elements=st.floats(0, 1, width=32))
    found = Detections(
        data.draw(arrays(np.float32, (count, 4), elements=FLOATS)),
        data.draw(arrays(np.float32, count, elements=FLOATS)),
        data.draw(arrays(np.int64, count, elements=st.integers(0, 2))),
        NAMES,
        data.draw(shares) if with_probabilities and count else None,
    )
    same(Detections.from_records(json.loads(json.dumps(found.to_records())), NAMES), found)


def test_records_are_short(found):
    assert found[1].to_records() == [{"label": "dog", "score": 1.27, "box": [1.0, 0.0, 10.0, 20.0]}]
    probable = replace(found[1], probabilities=[0.25])
    expected = {"label": "dog", "score": 1.27, "probability": 0.25, "box": [1.0, 0.0, 10.0, 20.0]}
    assert probable.to_records() == [expected]
    assert list(probable.to_records()[0]) == list(expected)
    assert Detections.from_records([*found[:1].to_records(), expected], NAMES).probabilities is None
    with pytest.raises(ValueError, match="missing 'score'"):
        Detections.from_records([{"label": "cat", "box": [0, 0, 1, 1]}], NAMES)


def test_save_by_suffix(tmp_path, found):
    found.save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    same(Detections.from_records(content["detections"], content["classes"]), found)
    found.save(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["dog", "dog", "cat", "Kuh, braun"]
    assert [[np.float32(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows] == found.boxes.tolist()
    assert [np.float32(row["score"]) for row in rows] == found.scores.tolist()
    found[[]].save(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == "label,score,x1,y1,x2,y2\n"
    with pytest.raises(InputError, match=r"saved as \.json or \.csv, not \.txt"):
        found.save(tmp_path / "a.txt")


def test_probabilities_are_saved(tmp_path, probable):
    probable.save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    same(Detections.from_records(content["detections"], content["classes"]), probable)
    probable[1].save(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "label,score,probability,x1,y1,x2,y2\ndog,1.27,0.25,1.0,0.0,10.0,20.0\n"
