"""Hard-negative mining: the collected windows, and checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_options import SMALL
from reference.mining import hard_negatives
from sppnet.data.boxes import flip, iou
from sppnet.data.errors import InputError
from sppnet.detector.learners.svm import LinearSVM, RowStore
from sppnet.detector.options import SVMOptions
from sppnet.detector.training import collecting, mining
from sppnet.detector.training.images import TrainingImages
from sppnet.detector.training.mining import Miner
from sppnet.detector.training.sampling import extra_positives, mean_norm, regression_windows

CLASSES = 4


@pytest.fixture(scope="module")
def images(training_images):
    return training_images(6)


def miner_on(images, **options):
    scale = 20 / mean_norm(images, 0)
    return Miner(images, CLASSES, scale, SVMOptions(**{**SMALL["svm"].to_dict(), **options}), 0, lambda line: None)


def rows_of(miner, label, sign):
    """The pooled values of a class's rows, as a set of byte strings."""
    machine = miner.machines[label]
    return {row.tobytes() for row in miner.store.rows[machine.members[machine.signs == sign]]}


def test_svms_are_solved_on_the_cores_that_are_ours(images, monkeypatch):
    """A process may be bound to a part of the machine."""
    asked = []
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(mining, "fit_all", lambda machines, threads: asked.append(threads))
    miner_on(images).fit()
    assert asked == [3]


def pooled(images, index, windows):
    """Half-precision features of windows, as byte strings."""
    maps = images.maps(index)
    cells = images.features.locate(maps, windows)
    rows = images.features.pool(maps, cells).half().numpy().view(np.uint16)
    return {row.tobytes() for row in rows}


def test_positives_are_the_objects_and_their_best_proposals(images):
    miner = miner_on(images, extra_positives=2, positive_iou=0.6)
    miner.start(range(len(images)))
    for label in range(CLASSES):
        expected = set()
        for index in range(len(images)):
            boxes, labels = images.positives(index)
            for number in np.flatnonzero(labels == label):
                overlaps = iou(images.proposals[index], boxes)
                own = [j for j in range(len(overlaps)) if overlaps[j, number] >= max(0.6, overlaps[j].max())]
                own.sort(key=lambda j: (-overlaps[j, number], j))
                windows = np.concatenate([boxes[[number]], images.proposals[index][own[:2]]])
                expected |= pooled(images, index, windows)
        assert rows_of(miner, label, 1) == expected


def test_without_extra_positives_the_objects_stand_alone(images):
    miner = miner_on(images, extra_positives=0)
    miner.start(range(len(images)))
    for label in range(CLASSES):
        expected = set()
        for index in range(len(images)):
            boxes, labels = images.positives(index)
            expected |= pooled(images, index, boxes[labels == label])
        assert rows_of(miner, label, 1) == expected


def test_hard_negatives_are_those_of_the_slow_twin(images):
    miner = miner_on(images, start_negatives=12)
    miner.start(range(len(images)))
    miner.fit()
    maps, windows = images.maps(2), images.windows(2)
    cells = images.features.locate(maps, windows)
    weights, intercepts = miner.hyperplanes()
    scores = (images.features.pool(maps, cells).numpy() @ weights.T + intercepts)[cells.inverse]
    before = [rows_of(miner, label, -1) for label in range(CLASSES)]
    miner._visit(2, miner.images.maps(2))
    options = miner.options
    found = 0
    for label in range(CLASSES):
        objects = images.samples[2].boxes[images.samples[2].labels == label]
        hard = hard_negatives(
            windows.tolist(),
            scores[:, label].tolist(),
            objects.tolist(),
            options.hard_above,
            options.negative_iou,
            options.duplicate_iou,
        )
        found += len(hard)
        assert rows_of(miner, label, -1) == before[label] | pooled(images, 2, windows[hard])
    assert found > 10


def test_windows_that_no_class_can_take_for_a_negative_are_not_computed(images, monkeypatch):
    """With one class, as most users have, all windows on its objects are left out."""
    sample = images.samples[0]
    one_class = [replace(sample, labels=np.zeros(len(sample.boxes), np.int64))]
    single = TrainingImages(one_class, images.image_keys[:1], images.sizes[:1], images.proposals[:1], images.cache)
    miner = Miner(single, 1, 20 / mean_norm(single, 0), SMALL["svm"], 0, lambda line: None)
    miner.start([0])
    miner.fit()
    seen = []
    scored = collecting.scored
    monkeypatch.setattr(
        collecting,
        "scored",
        lambda images, maps, cells, planes: seen.append(len(cells.inverse)) or scored(images, maps, cells, planes),
    )
    miner._visit(0, miner.images.maps(0))
    far = iou(single.windows(0), sample.boxes).max(axis=1) < miner.options.negative_iou
    assert seen == [far.sum()]
    assert 0 < far.sum() < len(far)


def test_state_restores_to_the_same_rows_and_solution(images):
    miner = miner_on(images)
    miner.start(range(len(images)))
    miner.mine([0, 1, 2])
    state = {name: values.copy() for name, values in miner.state().items()}
    again = miner_on(images)
    again.restore(state)
    assert again.visited == 3
    np.testing.assert_array_equal(again.hyperplanes()[0], miner.hyperplanes()[0])
    for label in range(CLASSES):
        ours, theirs = miner.machines[label], again.machines[label]
        np.testing.assert_array_equal(miner.store.rows[ours.members], again.store.rows[theirs.members])
        np.testing.assert_array_equal(miner.store.squares[ours.members], again.store.squares[theirs.members])
    for machine in (miner, again):
        machine.mine([3, 4, 5])
    np.testing.assert_array_equal(again.hyperplanes()[0], miner.hyperplanes()[0])


def test_restoring_needs_no_more_memory_than_the_rows_of_a_photograph(images, monkeypatch):
    miner = miner_on(images)
    miner.start(range(len(images)))
    miner.mine(range(len(images)))
    state = miner.state()
    written = []
    replace_rows = RowStore.replace
    monkeypatch.setattr(
        RowStore, "replace", lambda self, numbers, rows: written.append(len(rows)) or replace_rows(self, numbers, rows)
    )
    miner_on(images).restore(state)
    assert sum(written) == len(state["origin"])
    assert max(written) == np.bincount(state["origin"][:, 0]).max()


def test_svms_without_some_images_are_those_that_have_never_seen_them(images):
    miner = miner_on(images, tolerance=1e-6, max_epochs=100_000)
    miner.start(range(len(images)))
    miner.mine(range(len(images)))
    before = miner.hyperplanes()[0].copy()
    weights, intercepts = miner.without([1, 4])
    np.testing.assert_array_equal(miner.hyperplanes()[0], before)
    fewer = 0
    for label, machine in enumerate(miner.machines):
        owner = miner.origin[machine.members, 0]
        fresh = LinearSVM(miner.store, miner.options, machine.scale)
        for sign in (1, -1):
            fresh.add(machine.members[(machine.signs == sign) & ~np.isin(owner, [1, 4])], sign)
        fewer += len(machine.members) - len(fresh.members)
        expected, intercept = fresh.fit().hyperplane()
        size = np.abs(expected).max()
        np.testing.assert_allclose(weights[label], expected, rtol=0, atol=1e-3 * size)
        assert intercepts[label] == pytest.approx(intercept, abs=1e-3)
        assert np.abs(weights[label] - before[label]).max() > 1e-2 * size
    assert fewer > 20


@pytest.mark.parametrize("changes", [{"C": 0.01}, {"C": 0.0002, "positive_weight": 1.0}])
def test_svms_of_other_options_are_those_solved_from_nothing(images, changes):
    exact = {"tolerance": 1e-6, "max_epochs": 100_000}
    miner = miner_on(images, **exact)
    miner.start(range(len(images)))
    miner.mine(range(len(images)))
    before = miner.hyperplanes()[0].copy()
    options = replace(miner.options, **changes)
    weights, _ = miner.without([2], options)
    np.testing.assert_array_equal(miner.hyperplanes()[0], before)
    for label, machine in enumerate(miner.machines):
        owner = miner.origin[machine.members, 0]
        fresh = LinearSVM(miner.store, options, machine.scale)
        for sign in (1, -1):
            fresh.add(machine.members[(machine.signs == sign) & (owner != 2)], sign)
        expected, _ = fresh.fit().hyperplane()
        size = np.abs(expected).max()
        np.testing.assert_allclose(weights[label], expected, rtol=0, atol=1e-3 * size)
        assert np.abs(weights[label] - before[label]).max() > 1e-2 * size


def test_svms_learn_from_mirror_images_and_leave_them_out_with_their_photograph(images):
    both = images.with_mirrors()
    miner = miner_on(both)
    miner.start(range(len(both)))
    miner.mine(range(len(both)))
    owner = miner.origin[np.unique(np.concatenate([machine.members for machine in miner.machines])), 0]
    assert set(owner.tolist()) == set(range(12))
    without = both.show(miner.origin[:, 0], [1, 4])
    weights, _ = miner.without([1, 4])
    expected = [machine.among(~without).fit().hyperplane()[0] for machine in miner.machines]
    np.testing.assert_array_equal(weights, expected)
    assert set(owner[both.show(owner, [1, 4])].tolist()) == {1, 4, 7, 10}
    assert not images.show(np.array([0, 2, 3, 5]), [1, 4]).any()


def test_a_mirror_image_is_what_a_photograph_of_mirrored_pixels_would_be(images):
    both, count = images.with_mirrors(), len(images)
    assert len(both) == 2 * count
    for i in range(count):
        width, here, there = images.sizes[i][1], both.samples[i], both.samples[i + count]
        assert here is images.samples[i]
        np.testing.assert_array_equal(there.boxes, flip(here.boxes, width))
        np.testing.assert_array_equal(there.labels, here.labels)
        np.testing.assert_array_equal(both.proposals[i + count], flip(images.proposals[i], width))
        for one, other in zip(both.maps(i + count).maps, images.maps(i, mirror=True).maps, strict=True):
            assert torch.equal(one, other)


def test_full_memory_keeps_the_hardest_and_goes_on(images, monkeypatch):
    lines = []
    miner = miner_on(images, start_negatives=600, hard_above=-5.0, easy_below=-50.0, retrain_after=10**6)
    miner.report = lines.append
    room = property(lambda store: 330 - (len(store.rows) - store._left))
    monkeypatch.setattr("sppnet.detector.training.mining.RowStore.room", room)
    miner.start(range(len(images)))
    miner.mine(range(len(images)))
    assert any("memory for pooled windows is full" in line for line in lines)
    for label in range(CLASSES):
        assert (miner.machines[label].signs > 0).any()
        assert (miner.machines[label].signs < 0).any()


def test_regression_windows_belong_to_the_class_and_overlap_it(images):
    label = int(images.samples[0].labels[0])
    rows, deltas, owner = regression_windows(images, label, 0.5, 40, seed=0)
    shown = [i for i in range(len(images)) if label in images.positives(i)[1]]
    assert len(rows) == len(deltas) == len(owner) > len(shown)
    assert set(owner) <= set(shown)
    assert np.bincount(owner).max() <= 40 // len(shown)
    # IoU above a half bounds the shift of the centre and the change of size.
    assert np.abs(deltas[:, :2]).max() < 1
    assert np.abs(deltas[:, 2:]).max() < np.log(2) + 1e-6


def test_regression_windows_of_an_absent_class_are_none(images):
    rows, deltas, owner = regression_windows(images, 99, 0.5, 40, seed=0)
    assert rows.shape == (0, images.features.width)
    assert deltas.shape == (0, 4)
    assert owner.shape == (0,)


def test_extra_positives_give_way_to_memory_in_the_largest_class_first():
    objects = np.array([10, 1000, 0])
    np.testing.assert_array_equal(extra_positives(objects, 4, 10_000), [4, 4, 4])
    np.testing.assert_array_equal(extra_positives(objects, 5, 3500), [5, 2, 5])
    np.testing.assert_array_equal(extra_positives(objects, 5, 1050), [4, 0, 5])
    np.testing.assert_array_equal(extra_positives(objects, 5, 1010), [0, 0, 5])
    with pytest.raises(InputError, match="1010 objects are too many"):
        extra_positives(objects, 5, 1009)


def test_a_class_of_many_objects_needs_few_extra_positives():
    objects = np.array([0, 1, 833, 834, 2500, 2501, 10**6])
    np.testing.assert_array_equal(extra_positives(objects, 5, 10**8), [5, 5, 5, 4, 1, 0, 0])
