import copy
import csv
import html.parser
import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError, NotCalibratedError
from sppnet.data.nms import class_nms

NAMES = ("cat", "dog", "Kuh, braun")


@pytest.fixture
def found():
    boxes = [[0, 0, 10, 20], [1, 0, 10, 20], [0.1, 5.25, 30, 40], [7, 7, 8, 8]]
    return Detections(boxes, [0.9, 1.27, -0.5, 0.1], [1, 1, 0, 2], NAMES)


@pytest.fixture
def probable(found):
    """The same with probabilities, not in the order of the scores."""
    return found.replace(probabilities=[0.7, 0.25, 0.1, 0.9])


def same(a, b):
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.class_names == b.class_names
    assert a.calibrated == b.calibrated
    if a.calibrated:
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
    without = probable.replace(probabilities=None)
    assert not Detections.concatenate([probable, without]).calibrated
    assert not Detections.concatenate([without, probable]).calibrated


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
    probable = found[1].replace(probabilities=[0.25])
    expected = {"label": "dog", "score": 1.27, "probability": 0.25, "box": [1.0, 0.0, 10.0, 20.0]}
    assert probable.to_records() == [expected]
    assert list(probable.to_records()[0]) == list(expected)
    assert not Detections.from_records([*found[:1].to_records(), expected], NAMES).calibrated
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


def test_without_probabilities_it_is_said_what_to_do(found, probable):
    assert probable.calibrated
    assert not found.calibrated
    with pytest.raises(NotCalibratedError, match="use scores, or train the model with held-out images"):
        found[found.probabilities > 0.5]
    assert not hasattr(found, "probabilities")
    assert getattr(found, "probabilities", "none") == "none"
    with pytest.raises(ValueError, match="not calibrated"):
        Detections.empty(NAMES).probabilities  # noqa: B018


def test_replace_changes_what_it_is_told_and_checks_it(found, probable):
    moved = probable.replace(boxes=probable.boxes + 1)
    np.testing.assert_array_equal(moved.boxes, probable.boxes + 1)
    assert moved.replace(boxes=probable.boxes) == probable
    with pytest.raises(ValueError, match="scores must have shape"):
        found.replace(scores=[1.0])
    with pytest.raises(TypeError, match="colour"):
        found.replace(colour="red")


def test_detections_do_not_change(found):
    for name in ("scores", "probabilities", "anything"):
        with pytest.raises(AttributeError, match=rf"cannot set '{name}'.* replace\({name}="):
            setattr(found, name, [1])


def test_copies_and_pickles_are_equal(found, probable):
    for one in (found, probable, found[[]]):
        for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert other == one
            same(other, one)


def test_equal_are_equal_values(found, probable):
    assert found == Detections(found.boxes.copy(), found.scores.tolist(), list(found.labels), list(NAMES))
    assert probable == probable[:]
    others = [
        probable,
        found[:3],
        found[::-1],
        found.replace(boxes=found.boxes + 1),
        found.replace(scores=found.scores * 2),
        found.replace(labels=[1, 1, 1, 2]),
        found.replace(class_names=("cat", "dog", "cow")),
    ]
    for other in others:
        assert found != other
    assert probable != probable.replace(probabilities=[0.7, 0.25, 0.1, 0.8])
    assert Detections.empty(NAMES) == found[[]]
    assert found != "found"
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_repr_is_short(found, probable):
    assert repr(found) == "Detections(4 objects: dog 0.90, dog 1.27, cat -0.50, Kuh, braun 0.10)"
    assert repr(probable[:2]) == "Detections(2 objects: dog 0.70, dog 0.25)"
    assert repr(found[0]) == "Detections(1 object: dog 0.90)"
    assert repr(found[[]]) == "Detections(no objects)"
    assert repr(found[[0] * 2000]) == f"Detections(2000 objects: {'dog 0.90, ' * 5}...)"


class _Cells(html.parser.HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(text)


def cells(found):
    parser = _Cells()
    parser.feed(found._repr_html_())
    parser.close()
    assert parser.open == []
    return parser.rows


def test_a_notebook_shows_a_table(found, probable):
    head, *rows = cells(probable)
    assert head == ["label", "score", "probability", "x1", "y1", "x2", "y2"]
    assert rows[0] == ["dog", "0.9", "0.7", "0", "0", "10", "20"]
    assert [row[0] for row in rows] == ["dog", "dog", "cat", "Kuh, braun"]
    assert cells(found)[0] == ["label", "score", "x1", "y1", "x2", "y2"]
    assert cells(found[[]]) == [["label", "score", "x1", "y1", "x2", "y2"]]
    assert len(cells(found[[0] * 100])) == 21
    assert "and 80 more" in found[[0] * 100]._repr_html_()


def test_names_in_the_table_are_text_not_html():
    name = "<script>alert('cat & \"dog\"')</script>"
    nasty = Detections([[0, 0, 1, 1]], [1.0], [0], [name])
    assert "<script>" not in nasty._repr_html_()
    assert "".join(cells(nasty)[1][:-5]) == name


def test_coco_results(found):
    ours = found[[2, 3]].to_coco(7, [17, 18, 21])
    assert ours == [
        {"image_id": 7, "category_id": 17, "bbox": [0.1, 5.25, 29.9, 34.75], "score": -0.5},
        {"image_id": 7, "category_id": 21, "bbox": [7.0, 7.0, 1.0, 1.0], "score": 0.1},
    ]
    assert json.loads(json.dumps(ours)) == ours
    assert [one["category_id"] for one in found.to_coco(1)] == [2, 2, 1, 3]
    assert found[[]].to_coco(1) == []
    with pytest.raises(ValueError, match="category_ids must be 3 numbers, not 2"):
        found.to_coco(1, [1, 2])


def test_supervision_and_back(found, probable):
    supervision = pytest.importorskip("supervision")
    theirs = probable.to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, probable.boxes)
    np.testing.assert_array_equal(theirs.confidence, probable.probabilities)
    assert theirs.class_id.tolist() == [1, 1, 0, 2]
    assert theirs["class_name"].tolist() == ["dog", "dog", "cat", "Kuh, braun"]
    np.testing.assert_array_equal(found.to_supervision().confidence, found.scores)
    for one in (found, probable, found[[]], probable[[]]):
        assert Detections.from_supervision(one.to_supervision(), NAMES) == one
    # Without the list of classes, those that are there.
    assert Detections.from_supervision(probable[1:3].to_supervision()) == Detections(
        probable.boxes[1:3], probable.scores[1:3], [1, 0], ("cat", "dog"), probable.probabilities[1:3]
    )
    merged = supervision.Detections.merge([probable[:2].to_supervision(), probable[2:].to_supervision()])
    assert Detections.from_supervision(merged, NAMES) == probable


def test_supervision_keeps_nothing_of_ours(found):
    pytest.importorskip("supervision")
    theirs = found.to_supervision()
    theirs.xyxy[:] = 0
    theirs.confidence[:] = 0
    assert found.boxes.any()
    assert found.scores.any()


def test_from_supervision_of_others():
    supervision = pytest.importorskip("supervision")
    boxes = np.array([[0.0, 0, 5, 5]])
    assert Detections.from_supervision(supervision.Detections.empty()) == Detections.empty([])
    truth = supervision.Detections(xyxy=boxes, class_id=np.array([1]))
    assert Detections.from_supervision(truth, NAMES) == Detections(boxes, [1], [1], NAMES)
    with pytest.raises(ValueError, match="expected class_names and class_id, or data"):
        Detections.from_supervision(supervision.Detections(xyxy=boxes), NAMES)
    with pytest.raises(ValueError, match="labels must be from 0 to 0"):
        Detections.from_supervision(truth, ["cat"])


def test_supervision_is_not_required(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="needs the package supervision: pip install supervision"):
        found.to_supervision()
