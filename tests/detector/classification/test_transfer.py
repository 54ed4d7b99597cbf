"""The protocols on rows with planted answers: which candidate is chosen, on which data, and what is read when."""

from pathlib import Path

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.detector.classification import transfer as module
from sppnet.detector.classification.representation import Representation
from sppnet.detector.classification.transfer import Candidate, Transfer, TransferResult
from sppnet.detector.learners import one_vs_rest as linear
from sppnet.detector.learners.one_vs_rest import OneVsRest, random_splits
from sppnet.eval.classification import classification_ap, mean_class_accuracy

NAMES = ("a", "b", "c")
SCALES = [Representation(scale=scale) for scale in (64, 96, 128)]


def single(prefix, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = [LabelledImage(Path(f"{prefix}{index}"), np.array([label])) for index, label in enumerate(labels)]
    return LabelledImages(images, NAMES, multi_label=False)


def several(prefix, count, seed=0):
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        states = rng.integers(0, 3, 3)
        images.append(LabelledImage(Path(f"{prefix}{index}"), np.flatnonzero(states == 1), np.flatnonzero(states == 2)))
    return LabelledImages(images, NAMES, multi_label=True)


class Planted:
    """Takes the place of ``represent_all``: rows tell the labels at one scale and nothing at the others."""

    def __init__(self, good=96, broken=(), noise=0.2):
        self.good, self.broken, self.noise, self.asked = good, broken, noise, []

    def rows_of(self, scale, image):
        # A generator of the name, so that an image has the same row whenever it is asked for.
        rng = np.random.default_rng([scale, *str(image.path).encode()])
        row = self.noise * rng.normal(size=8)
        if scale == self.good:
            row[image.labels] += 1
        return (row / np.linalg.norm(row)).astype(np.float16)

    def __call__(self, backbone, options, images, head, quiet):
        names = [image.name for image in images]
        self.asked.append((options.scale, names))
        rows = [self.rows_of(options.scale, image) for image in images if image.name not in self.broken]
        failed = {name: f"{name}: broken" for name in names if name in self.broken}
        return np.array(rows, np.float16).reshape(-1, 8), failed


@pytest.fixture
def planted(monkeypatch):
    def plant(**options):
        rows = Planted(**options)
        monkeypatch.setattr(module, "represent_all", rows)
        return rows

    return plant


def transfer_of(images, protocol="caltech101", **options):
    return Transfer(None, None, images, protocol, quiet=True, **options)


def test_the_scale_that_tells_most_is_chosen_and_the_test_seen_at_that_alone(planted):
    rows = planted()
    train, test = single("train", (20, 20, 20)), single("test", (5, 6, 7))
    found = transfer_of(train).run(SCALES, (0.1, 10.0), test)
    assert found.chosen.scale == 96
    assert found.chosen.held_out == found.test == 1
    assert found.splits == ()
    assert found.mean is found.deviation is None
    assert found.inexact == 0
    assert [(each.scale, each.C) for each in found.candidates] == [
        (scale, C) for scale in (64, 96, 128) for C in (0.1, 10.0)
    ]
    assert max(each.held_out for each in found.candidates if each.scale != 96) < 0.9
    # Everything is chosen before the test photographs are read.
    assert [scale for scale, _ in rows.asked] == [64, 96, 128, 96]
    of_train = {image.name for image in train}
    assert all(set(names) == of_train for _, names in rows.asked[:3])
    assert set(rows.asked[3][1]) == {image.name for image in test}


def test_candidates_learn_from_the_rest_and_the_last_svms_from_all(planted):
    rows = planted(noise=1.0)
    train, test = single("train", (20, 30, 25)), single("test", (9, 9, 9))
    found = transfer_of(train, held_out=0.3, seed=4).run(SCALES[1:2], (1.0,), test)

    def scored(learnt, held):
        of_learnt, of_held = (np.stack([rows.rows_of(96, image) for image in images]) for images in (learnt, held))
        svm = OneVsRest(C=1.0).fit(of_learnt, learnt.targets)
        return mean_class_accuracy(svm.decision_function(of_held), held.labels)

    assert found.chosen.held_out == scored(*train.split(0.3, 4)) < 1
    assert found.test == scored(train, test) < 1


def test_of_equal_candidates_the_first_is_chosen(planted):
    planted(noise=1e-3)
    found = transfer_of(single("train", (20, 20, 20))).run(SCALES[1:2], (10.0, 1.0, 100.0))
    assert [each.held_out for each in found.candidates] == [1, 1, 1]
    assert found.chosen == Candidate(96, 10.0, 1.0)
    assert found.test is None


@pytest.mark.parametrize("most", [10, 1000])
def test_splits_are_of_all_photographs(planted, monkeypatch, most):
    for part in (module, linear):
        monkeypatch.setattr(part, "MAX_GRAM_ROWS", most)
    rows = planted(noise=1.0)
    train, test = single("train", (20, 20, 20)), single("test", (9, 30, 12))
    found = transfer_of(train, seed=2).run(SCALES[1:2], (1.0,), test, splits=3, per_class=(12, 10))
    parts = [*train.split(0.2, 2), test]
    pooled = np.stack([rows.rows_of(96, image) for part in parts for image in part])
    targets = np.concatenate([part.targets for part in parts])
    expected = []
    for learnt, scored in random_splits(targets.argmax(axis=1), 12, 10, 3, seed=2):
        scores = OneVsRest(C=1.0).fit(pooled[learnt], targets[learnt]).decision_function(pooled[scored])
        expected.append(mean_class_accuracy(scores, targets[scored].argmax(axis=1)))
    np.testing.assert_allclose(found.splits, expected, atol=1e-9)
    assert len(set(found.splits)) > 1
    assert found.mean == np.mean(found.splits)
    assert found.deviation == np.std(found.splits)
    without = transfer_of(train, seed=2).run(SCALES[1:2], (1.0,), splits=2, per_class=(12, 10))
    assert len(without.splits) == 2
    assert without.test is None


def test_several_labels_are_scored_by_average_precision(planted):
    rows = planted(noise=0.6)
    train, test = several("train", 60), several("test", 40, seed=1)
    found = transfer_of(train, "voc07").run(SCALES, (1.0,), test)
    of_train, of_test = (np.stack([rows.rows_of(96, image) for image in images]) for images in (train, test))
    scores = OneVsRest(C=1.0).fit(of_train, train.targets).decision_function(of_test)
    assert found.chosen.scale == 96
    # The rows are not in the same order, so the last digits may differ.
    assert found.test == pytest.approx(classification_ap(scores, test.targets, NAMES).mean_ap("voc07"), abs=0.02)
    assert 0.5 < found.test < 1


def test_photographs_of_one_label_have_an_average_precision_too(planted):
    planted()
    train, test = single("train", (20, 20, 20)), single("test", (5, 6, 7))
    assert transfer_of(train, "voc07").run(SCALES, (1.0,), test).test == 1


@pytest.mark.usefixtures("messages")
def test_photographs_that_cannot_be_read_have_no_part_in_it(planted, capsys):
    train, test = single("train", (20, 20, 20)), single("test", (5, 6, 7))
    broken = ["train3", "train25", "test0", "test17"]
    planted(broken=broken)
    transfer = transfer_of(train)
    found = transfer.run(SCALES, (1.0,), test)
    assert found.test == 1
    assert sorted(transfer.failed) == sorted(broken)
    # Each is named once, though three scales and, here, two runs meet it.
    transfer.run(SCALES, (1.0,), test)
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == sorted(f"warning: {name}: broken" for name in broken)
    planted(broken=[image.name for image in test])
    nothing = transfer_of(train).run(SCALES, (1.0,), test)
    assert np.isnan(nothing.test)
    assert nothing.to_dict()["test"] is None


def test_what_gives_no_choice_is_refused(planted):
    train = single("train", (20, 20, 20))
    planted(broken=[image.name for image in train])
    with pytest.raises(InputError, match="the 0 readable held-out photographs show none"):
        transfer_of(train).run(SCALES, (1.0,))
    planted()
    with pytest.raises(InputError, match=r"3 photographs are too few to hold 0\.2 of them out"):
        transfer_of(single("train", (1, 1, 1)))
    with pytest.raises(InputError, match="caltech101 is for photographs of one label each"):
        transfer_of(several("train", 30))
    with pytest.raises(InputError, match="random splits are for photographs of one label each"):
        transfer_of(several("train", 30), "voc07").run(SCALES, (1.0,), splits=2)
    with pytest.raises(ValueError, match="protocol must be one of caltech101, voc07, not 'coco'"):
        transfer_of(train, "coco")
    with pytest.raises(ValueError, match=r"test must have the classes \('a', 'b', 'c'\), not \('b', 'a', 'c'\)"):
        transfer_of(train).run(SCALES, (1.0,), train.renamed(("b", "a", "c")))
    with pytest.raises(ValueError, match="options must be one or more representations"):
        transfer_of(train).run([], (1.0,))


def test_the_result_as_json():
    candidates = (Candidate(64, 0.1, 0.5), Candidate(64, 1.0, 0.75))
    result = TransferResult(candidates[1], candidates, 0.625, (0.5, 1.0), inexact=0)
    assert result.to_dict() == {
        "chosen": {"scale": 64, "C": 1.0, "held_out": 0.75},
        "candidates": ({"scale": 64, "C": 0.1, "held_out": 0.5}, {"scale": 64, "C": 1.0, "held_out": 0.75}),
        "test": 0.625,
        "splits": (0.5, 1.0),
        "inexact": 0,
        "mean": 0.75,
        "deviation": 0.25,
    }
