"""Trainings whose images are visited by a crew: rounds of hard-negative mining, and the same results but for these."""

import numpy as np
import pytest
import torch
from crews import PickledCrew
from detector_options import SMALL
from reference.iou import iou as iou_of
from reference.mining import hard_negatives
from sppnet.data.errors import ImageError
from sppnet.data.sample import SampleList
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.options import SVMOptions, TrainOptions
from sppnet.detector.training import crew as crews
from sppnet.detector.training import rounds
from sppnet.detector.training.crew import Shared
from sppnet.detector.training.mining import Miner
from sppnet.detector.training.preparation import Preparation
from sppnet.detector.training.rounds import mine_in_rounds
from sppnet.detector.training.sampling import mean_norm, regression_windows
from sppnet.detector.training.train import train

CLASSES = 4

#: Solved more exactly than usual, so that the order of the steps does not matter.
EXACT = SVMOptions(**{**SMALL["svm"].to_dict(), "tolerance": 1e-4, "max_epochs": 5000})


@pytest.fixture(scope="module")
def images(training_images):
    return training_images(6).with_mirrors()


@pytest.fixture
def shared(images, monkeypatch):
    """Makes the same images, visited by a crew in blocks of so many."""

    def make(block=5, order=None):
        monkeypatch.setattr(crews, "BLOCK", block)
        return images.visited_by(Shared(images, PickledCrew(), order or range(len(images))).each)

    return make


def miner_on(images, options=EXACT):
    return Miner(images, CLASSES, 20 / mean_norm(images, 0), options, 0, lambda line: None)


def mined(images, options=EXACT, order=None):
    """A miner after rounds over all images, its reports, and the states that it has kept."""
    miner, said, kept = miner_on(images, options), [], []

    def keep():
        # Solving changes the arrays in place.
        kept.append({name: values.copy() for name, values in miner.state().items()})

    mine_in_rounds(miner, order or range(len(images)), keep, said.append)
    return miner, said, kept


def objective(miner, planes, examples):
    """Objective of planes (classes, width), (classes,) on the given windows of all classes."""
    total = 0.0
    for label, of_class in enumerate(examples):
        weights, intercept = planes[0][label] / miner.machines[0].scale, planes[1][label]
        of_norm = (weights.astype(np.float64) ** 2).sum() + (intercept / EXACT.bias) ** 2
        total += 0.5 * of_norm
        for row, sign in of_class:
            score = miner.machines[0].scale * (row.astype(np.float64) @ weights) + intercept
            factor = EXACT.C * (EXACT.positive_weight if sign > 0 else 1)
            total += factor * max(0, 1 - sign * score)
    return total


def rows_of(miner):
    """For each class its windows, by image, scale, cells and sign: the features."""
    return [
        dict(
            zip(
                [
                    (*origin, sign)
                    for origin, sign in zip(miner.origin[one.members].tolist(), one.signs.tolist(), strict=True)
                ],
                miner.store.rows[one.members].view(np.float16),
                strict=True,
            )
        )
        for one in miner.machines
    ]


def test_each_image_is_visited_once_and_in_any_blocks(images, shared):
    """What is found, and its place, is that of this process."""
    wanted = [3, 0, 7, 11, 5]
    own = {index: 10 * index for index in wanted}
    expected = {index: found_of(images, index, index, images.maps(index), "all", own[index]) for index in wanted}
    for block, order in [(1, None), (5, None), (5, [11, 3, 0, 7, 1, 2, 4, 5, 6, 8, 9, 10]), (99, None)]:
        visited = list(shared(block, order).each(found_of, "all", wanted, own))
        assert sorted(index for index, _ in visited) == sorted(wanted)
        for index, found in visited:
            assert found[1:] == expected[index][1:]
            np.testing.assert_array_equal(found[0], expected[index][0])


def found_of(images, place, index, maps, common, own):
    cells = images.features.locate(maps, images.windows(place)[:5])
    objects = images.positives(place)[0].tolist()
    return images.features.pool(maps, cells).numpy(), index, common, own, objects, images.sizes[place]


def test_windows_that_the_svms_have_are_not_found_again(images):
    """Nor near duplicates of those that are still hard; the others are those of the slow twin."""
    miner = miner_on(images)
    miner.start(range(len(images)))
    miner.fit()
    collector, planes, maps = miner.collector, miner.hyperplanes(), images.maps(2)
    first = collector.hard(images, 2, maps, planes)
    miner.add(2, first)
    known = rounds._known(miner, [2, 3])
    again = collector.hard(images, 2, maps, planes, known[2])
    assert len(first) > 5
    windows = images.windows(2)
    cells = images.features.locate(maps, windows)
    scores = (images.features.pool(maps, cells).numpy() @ planes[0].T + planes[1])[cells.inverse]
    had = {label: set() for label in range(CLASSES)}
    for label, *place in known[2].tolist():
        had[label].add(tuple(place))
    places = [tuple(np.concatenate([cells.scale[[i]], cells.cells[i]]).tolist()) for i in cells.inverse]
    found = 0
    for label, (numbers, of_class, sign) in enumerate(again.examples):
        assert (of_class, sign) == (label, -1)
        objects = images.samples[2].boxes[images.samples[2].labels == label].tolist()
        own = [place in had[label] for place in places]
        still_hard = [i for i, score in enumerate(scores[:, label]) if own[i] and score > EXACT.hard_above]
        far = [i for i, one in enumerate(own) if not one]
        far = [i for i in far if all(iou_of(windows[i], windows[j]) <= EXACT.duplicate_iou for j in still_hard)]
        chosen = windows[far].tolist(), scores[far, label].tolist(), objects
        kept = [far[i] for i in hard_negatives(*chosen, EXACT.hard_above, EXACT.negative_iou, EXACT.duplicate_iou)]
        expected = {places[i] for i in kept}
        got = {(int(again.scale[i]), *again.cells[i].tolist()) for i in numbers}
        assert got == expected
        assert not got & had[label]
        found += len(kept)
    assert found < len(first)


@pytest.mark.parametrize("first", [4, 64])
def test_rounds_end_at_the_optimum_of_one_pass(images, shared, monkeypatch, first):
    monkeypatch.setattr(rounds, "FIRST", first)
    monkeypatch.setattr(rounds, "FEW", 0)
    one_pass = miner_on(images)
    one_pass.start(range(len(images)))
    one_pass.fit()
    one_pass.mine(range(len(images)))
    miner, said, _ = mined(shared())
    assert miner.complete
    assert ": 0 new hard negatives of" in said[-1]
    # Of all that either has collected.
    both = [list({**a, **b}.items()) for a, b in zip(rows_of(one_pass), rows_of(miner), strict=True)]
    examples = [[(row, place[-1]) for place, row in of_class] for of_class in both]
    theirs, ours = (objective(miner, one.hyperplanes(), examples) for one in (one_pass, miner))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_rounds_do_not_depend_on_the_crew(images, shared):
    """The same bits, whether the images are visited here or elsewhere."""
    here, _, _ = mined(images)
    there, _, _ = mined(shared(99))
    np.testing.assert_array_equal(here.hyperplanes()[0], there.hyperplanes()[0])
    np.testing.assert_array_equal(here.origin, there.origin)


def test_a_stopped_run_goes_on(images, shared, monkeypatch):
    """From any of the states that it has kept."""
    monkeypatch.setattr(rounds, "FIRST", 3)
    whole, _, kept = mined(shared())
    assert len(kept) > 3
    for state in kept[:-1]:
        assert 0 < int(state["visited"]) < int(kept[-1]["visited"])
        again = miner_on(shared())
        again.restore(state)
        mine_in_rounds(again, range(len(images)), lambda: None, lambda line: None)
        assert (again.visited, again.complete) == (whole.visited, True)
        np.testing.assert_array_equal(again.hyperplanes()[0], whole.hyperplanes()[0])
    assert [bool(state["complete"]) for state in kept] == [False] * (len(kept) - 1) + [True]


def test_regressors_learn_from_the_same_windows(images, shared):
    for label in range(CLASSES):
        here = regression_windows(images, label, 0.6, 30, 0)
        there = regression_windows(shared(3, [11, 3, 0, 7, 1, 2, 4, 5, 6, 8, 9, 10]), label, 0.6, 30, 0)
        assert len(here[0]) > 0
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{}, {"options": TrainOptions(folds=3, mirror=True)}])
def test_a_training_by_a_crew_is_that_of_one_process_but_for_the_rounds(scenes, tmp_path, monkeypatch, options):
    monkeypatch.setattr(crews, "BLOCK", 5)
    options = {**SMALL, "svm": EXACT, **options}
    plain, by_crew = tmp_path / "plain.safetensors", tmp_path / "crew.safetensors"
    train(scenes, out=plain, work=tmp_path / "plain", **options)
    crew, filled, fill = PickledCrew(), [], Preparation.fill
    monkeypatch.setattr(Preparation, "fill", lambda self, *args: filled.append(args[1]) or fill(self, *args))
    train(scenes, out=by_crew, work=tmp_path / "crew", crew=crew, **options)
    assert len(filled) == len(set(filled)) == len(scenes)  # not again by the process that leads
    assert set(crew.calls) == {"prepare", "_of_block"}
    one, other = Bundle.load(plain), Bundle.load(by_crew)
    assert all(torch.equal(values, other.convolutions[name]) for name, values in one.convolutions.items())
    assert torch.equal(one.box_weights, other.box_weights)
    assert torch.equal(one.box_intercepts, other.box_intercepts)
    length = one.score_weights.norm(dim=1)
    assert ((one.score_weights - other.score_weights).norm(dim=1) < 0.2 * length).all()
    files = [sorted(path.name for path in (tmp_path / kind / "maps").iterdir()) for kind in ("plain", "crew")]
    assert files[0] == files[1]
    # What the crew has done is there for one that follows.
    crew.calls.clear()
    before = by_crew.read_bytes()
    train(scenes, out=by_crew, work=tmp_path / "crew", crew=crew, **options)
    assert by_crew.read_bytes() == before


def test_what_a_worker_cannot_read_is_named(scenes, tmp_path):
    samples = list(scenes)
    broken = tmp_path / "broken.png"
    broken.write_bytes(samples[3].path.read_bytes()[:200])
    samples[3] = type(samples[3])(**{**vars(samples[3]), "path": broken})
    with pytest.raises(ImageError, match=r"broken\.png"):
        train(SampleList(samples, scenes.class_names), out=tmp_path / "m.safetensors", crew=PickledCrew(), **SMALL)
