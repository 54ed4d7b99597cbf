"""Fine-tuning: the choice of windows, learning, and bit-identical resuming."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.iou import iou as slow_iou
from sppnet.data.boxes import flip
from sppnet.data.errors import InputError
from sppnet.detector.descent.curves import history_table, loss_chart
from sppnet.detector.head.head import Head
from sppnet.detector.options import FineTuneOptions
from sppnet.detector.training.finetune import FineTuner
from sppnet.detector.training.images import TrainingImages
from sppnet.detector.training.sampling import labelled_windows, mean_norm

CLASSES = 4
OPTIONS = FineTuneOptions(width=32, epochs=4, batch=16, positives_in_batch=4, batches_in_epoch=1, rate=0.02)
FIT, HELD_OUT = (0, 1, 2, 3, 4), (5, 6)


@pytest.fixture(scope="module")
def images(training_images):
    return training_images(7)


def tuner_on(images, options=OPTIONS, report=lambda line: None, fit=FIT, held_out=HELD_OUT):
    scale = 20 / mean_norm(images, 0)
    head = Head(images.features.pooled_width, options.width, CLASSES, options.dropout, seed=1, scale=scale)
    return FineTuner(images, fit, held_out, head, options, 0, report)


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_windows_are_labelled_by_their_nearest_object(images):
    seen = set()
    for index in range(len(images)):
        sample = images.samples[index]
        windows, labels = labelled_windows(images, index, OPTIONS, CLASSES)
        for window, label in zip(windows, labels, strict=True):
            overlaps = [slow_iou(window, box) for box in sample.boxes]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= 0.5:
                expected = -1 if sample.difficult[best] else sample.labels[best]
            else:
                expected = CLASSES if overlaps[best] >= 0.1 else -1
            assert label == expected
            seen.add(int(expected))
    assert seen >= {-1, 0, 1, 2, 3, CLASSES}


def test_difficult_objects_are_neither_object_nor_background(images):
    sample = images.samples[0]
    difficult = replace(sample, difficult=np.ones(len(sample.boxes), bool))
    others = TrainingImages([difficult], images.image_keys[:1], images.sizes[:1], images.proposals[:1], images.cache)
    _, labels = labelled_windows(others, 0, OPTIONS, CLASSES)
    assert set(labels.tolist()) == {-1, CLASSES}


def test_image_without_objects_teaches_nothing(images):
    sample = images.samples[0]
    empty = replace(
        sample, boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), difficult=np.zeros(0, bool)
    )
    others = TrainingImages([empty], images.image_keys[:1], images.sizes[:1], images.proposals[:1], images.cache)
    assert set(labelled_windows(others, 0, OPTIONS, CLASSES)[1].tolist()) == {-1}
    with pytest.raises(InputError, match="fewer than 4 windows that overlap an object"):
        tuner_on(others, fit=[0], held_out=[]).run()


def rows_and_labels(tuner, seed, mirrored):
    """Of some windows of the first image."""
    drawn = tuner._draw(0, np.random.default_rng(seed), 4, mirrored)
    (rows,) = tuner._rows([drawn])
    return rows, drawn.labels


def test_batches_mix_images_in_the_asked_for_proportion(images, monkeypatch):
    tuner = tuner_on(images)
    drawn = {}
    whole = tuner._rows

    def rows_of(windows):
        for one, rows in zip(windows, whole(windows), strict=True):
            # The image's number in the row's first place tells where the row came from.
            rows[:, 0] = one.index
            drawn[one.index] = len(rows)
            yield rows

    monkeypatch.setattr(tuner, "_rows", rows_of)
    batches = list(tuner._batches(np.random.default_rng(0)))
    assert set(drawn) == set(FIT)
    assert batches
    for rows, labels, _ in batches:
        assert rows.dtype == torch.float32
        assert (labels < CLASSES).sum() == 4
        assert len(labels) <= 16
        assert len(rows[:, 0].unique()) > 1


def test_little_memory_takes_images_a_few_at_a_time(images, monkeypatch):
    one_image = OPTIONS.positives_per_image * (1 + OPTIONS.negatives_per_positive) * 2 * images.features.pooled_width
    tuner = tuner_on(images, replace(OPTIONS, max_gigabytes=2 * one_image / 1e9))
    counts = []
    monkeypatch.setattr(tuner, "_mix", lambda labels, rng: counts.append(len(labels)) or [])
    list(tuner._batches(np.random.default_rng(0)))
    assert len(counts) == 3


def test_mirrored_windows_see_the_mirror_image(images):
    """A window's row of the mirror image is what the network makes of the mirrored pixels."""
    tuner = tuner_on(images)
    rows, labels = rows_and_labels(tuner, 3, True)
    rng = np.random.default_rng(3)
    windows, of_all = labelled_windows(images, 0, OPTIONS, CLASSES)
    positives = rng.permutation(np.flatnonzero((of_all >= 0) & (of_all < CLASSES)))[:4]
    negatives = rng.permutation(np.flatnonzero(of_all == CLASSES))[: 3 * len(positives)]
    chosen = np.concatenate([positives, negatives])
    features = images.features
    pixels = np.ascontiguousarray(images.samples[0].image[:, ::-1])
    maps = features.maps(pixels)
    cells = features.locate(maps, flip(windows[chosen], pixels.shape[1]), rng.integers(2, size=len(chosen)))
    expected = features.pool(maps, cells)[torch.from_numpy(cells.inverse)].half()
    np.testing.assert_array_equal(labels, of_all[chosen])
    # The cache keeps maps in half precision, and rounding keeps the order: the maxima are the same.
    assert torch.equal(rows, expected)


def test_learning_lowers_the_loss(images):
    lines = []
    tuner = tuner_on(images, replace(OPTIONS, epochs=8, drops=()), lines.append)
    tuner.run()
    first, last = tuner.history[0], tuner.history[-1]
    assert last.loss < 0.8 * first.loss
    assert len(lines) == 2 * len(tuner.history) == 2 * last.number
    assert re.fullmatch(r"\d+ steps in \d+ s: pooling \d+ %, products \d+ %, update \d+ %", lines[1])
    assert not tuner.network.training


def copy_of(head):
    return {name: value.clone() for name, value in head.state_dict().items()}


def without_bias(state):
    """The bias of fc6 takes the mean row's part in at the end."""
    return {name: value for name, value in state.items() if name != "fc6.bias"}


def test_the_best_epoch_is_the_result(images):
    """A rate far too high makes later epochs worse; the head must be that of the best one."""
    tuner = tuner_on(images, replace(OPTIONS, epochs=6, rate=0.1, drops=(), patience=2))
    seen = []
    tuner.run(lambda: seen.append(copy_of(tuner.network)))
    losses = [epoch.held_out_loss for epoch in tuner.history]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    same(without_bias(tuner.network.state_dict()), without_bias(seen[best]))
    assert len(losses) == 6 or len(losses) - 1 - best == 2


def test_without_held_out_images_all_epochs_count(images):
    tuner = tuner_on(images, replace(OPTIONS, epochs=2), held_out=[])
    last = []
    tuner.run(lambda: last.append(copy_of(tuner.network)))
    assert [epoch.held_out_loss for epoch in tuner.history] == [None, None]
    same(without_bias(tuner.network.state_dict()), without_bias(last[-1]))


def test_mean_row_ends_up_in_the_bias(images):
    """What learns is a function of rows less their mean; what comes out is the same function of rows as they are."""
    tuner = tuner_on(images, replace(OPTIONS, epochs=1), held_out=[])
    learnt = []
    tuner.run(lambda: learnt.append(copy_of(tuner.network)))
    rows, _ = rows_and_labels(tuner, 0, False)
    with torch.no_grad():
        result = tuner.network(rows.float())
        tuner.network.load_state_dict(learnt[0])
        expected = tuner.network(rows.float() - tuner.mean)
    assert tuner.mean.norm() > 0.5 * rows.float().norm(dim=1).mean()
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


def test_pretrained_layers_start_as_the_function_they_are(images):
    tuner = tuner_on(images, replace(OPTIONS, epochs=1, rate=1e-12), held_out=[])
    tuner.network.pretrained = True
    rows, _ = rows_and_labels(tuner, 0, False)
    tuner.network.eval()
    before = tuner.network(rows.float()).detach()
    tuner.run()
    after = tuner.network(rows.float()).detach()
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_diverging_is_said(images):
    with pytest.raises(InputError, match="diverged in epoch 1: a rate of 1e\\+06 is too high"):
        tuner_on(images, replace(OPTIONS, rate=1e6)).run()


def test_stopped_run_goes_on_bit_for_bit(images):
    whole = tuner_on(images)
    whole.run()
    first = tuner_on(images)
    states = []

    def stop():
        states.append({name: value.copy() for name, value in first.state().items()})
        if len(states) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(stop)
    second = tuner_on(images)
    second.restore(states[-1])
    second.run()
    assert second.history == whole.history
    same(dict(second.network.state_dict()), dict(whole.network.state_dict()))
    assert len(whole.history) > 2


def test_rates_drop_at_parts_of_the_epochs():
    options = replace(OPTIONS, epochs=10, rate=1.0, drops=(0.5, 0.8))
    np.testing.assert_allclose([options.rate_at(epoch, False) for epoch in range(10)], [1] * 5 + [0.1] * 3 + [0.01] * 2)


def test_pretrained_layers_learn_in_smaller_steps():
    assert [OPTIONS.rate_at(0, pretrained) for pretrained in (True, False)] == [0.02, 0.02]
    assert [replace(OPTIONS, rate=None).rate_at(0, pretrained) for pretrained in (True, False)] == [0.001, 0.01]


def test_few_images_are_asked_for_more_positives():
    options = FineTuneOptions(positives_per_image=8, batches_in_epoch=100, positives_in_batch=32)
    assert [options.positives_of_each(images) for images in (1, 100, 399, 400, 401, 10_000)] == [3200, 32, 9, 8, 8, 8]


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="a batch of 16 windows cannot have 16 positives"):
        replace(OPTIONS, positives_in_batch=16)
    with pytest.raises(InputError, match="width of at least 1"):
        replace(OPTIONS, width=0)


def test_curves_show_every_epoch(images):
    tuner = tuner_on(images, replace(OPTIONS, epochs=2))
    tuner.run()
    table = history_table(tuner.history).splitlines()
    assert table[0] == "number,size,rate,loss,held_out_loss,held_out_score,held_out_top5"
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2"]
    assert float(table[1].split(",")[4]) == pytest.approx(tuner.history[0].held_out_loss, rel=1e-5)
    learnt, held_out = loss_chart(tuner.history, "Fine-tuning", "cross-entropy").axes[0].lines
    assert learnt.get_ydata().tolist() == [epoch.loss for epoch in tuner.history]
    assert held_out.get_ydata().tolist() == [epoch.held_out_loss for epoch in tuner.history]
