"""Training: the same file after any interruption, caches that are never stale, held-out images not trained on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_options import SMALL, SMALL_FC, SMALL_WARP
from sppnet.data.errors import InputError
from sppnet.data.sample import SampleList
from sppnet.data.store import Checkpoint
from sppnet.data.voc import VOCDataset
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.calibration import Calibration, cross_fitted
from sppnet.detector.head.head import Head
from sppnet.detector.learners.ridge import BoxRegressor
from sppnet.detector.options import SOLVERS, BoxOptions, Compression, DetectOptions, TrainOptions
from sppnet.detector.training import run as training
from sppnet.detector.training import scores, stages
from sppnet.detector.training.cache import MapCache
from sppnet.detector.training.mining import Miner
from sppnet.detector.training.sampling import regression_windows
from sppnet.detector.training.train import check_classes, train
from sppnet.eval.reliability import Verdicts
from sppnet.scripts.info import calibration_lines


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """The folder of one undisturbed run: model.safetensors and its caches in work."""
    folder = tmp_path_factory.mktemp("trained")
    train(scenes, out=folder / "model.safetensors", work=folder / "work", **SMALL)
    return folder


#: Cross-validation instead of held-out images.
SMALL_FOLDS = SMALL | {"options": TrainOptions(folds=3)}


@pytest.fixture(scope="module")
def trained_folds(scenes, tmp_path_factory):
    """The same with cross-validation."""
    folder = tmp_path_factory.mktemp("trained-folds")
    train(scenes, out=folder / "model.safetensors", work=folder / "work", **SMALL_FOLDS)
    return folder


#: The same, and SVMs and regressors learn from mirror images, too.
SMALL_MIRRORS = SMALL | {"options": TrainOptions(folds=3, mirror=True)}


@pytest.fixture(scope="module")
def trained_mirrors(scenes, tmp_path_factory):
    """The same with mirror images."""
    folder = tmp_path_factory.mktemp("trained-mirrors")
    train(scenes, out=folder / "model.safetensors", work=folder / "work", **SMALL_MIRRORS)
    return folder


@pytest.fixture(scope="module")
def trained_fc(scenes, tmp_path_factory):
    """The same with fine-tuned fc layers."""
    folder = tmp_path_factory.mktemp("trained-fc")
    train(scenes, out=folder / "model.safetensors", work=folder / "work", **SMALL_FC)
    return folder


#: Fine-tuned fc layers with cross-validation.
SMALL_FC_FOLDS = SMALL_FC | {"options": TrainOptions(folds=3)}


@pytest.fixture(scope="module")
def trained_fc_folds(scenes, tmp_path_factory):
    """The same with fine-tuned fc layers and cross-validation."""
    folder = tmp_path_factory.mktemp("trained-fc-folds")
    train(scenes, out=folder / "model.safetensors", work=folder / "work", **SMALL_FC_FOLDS)
    return folder


#: The options of these trainings.
OPTIONS = {
    "trained": SMALL,
    "trained_folds": SMALL_FOLDS,
    "trained_mirrors": SMALL_MIRRORS,
    "trained_fc": SMALL_FC,
    "trained_fc_folds": SMALL_FC_FOLDS,
}


class StoppedError(Exception):
    """Stands for the end of the process."""


def stop_and_go_on(scenes, done, tmp_path, monkeypatch, target, calls, options):
    """The bytes of the model file of a run that was stopped at a call of ``target`` and then called again.

    Half of what the run ``done`` keeps is there already, which saves time and tries mixed caches.
    """
    shutil.copytree(done / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    for kept in ("maps", "rows"):
        for number, path in enumerate(sorted((tmp_path / "work").glob(f"{kept}/*"))):
            if number % 2:
                path.unlink()
    monkeypatch.setattr(stages, "CHECKPOINT_EVERY", 2)
    with monkeypatch.context() as patch:
        owner_name, name = target.rsplit(".", 1)
        module_name, class_name = owner_name.rsplit(".", 1)
        owner = getattr(sys.modules[module_name], class_name)
        original, count = getattr(owner, name), iter(range(100))

        def stopping(self, *args, **kwargs):
            if next(count) == calls:
                raise StoppedError
            return original(self, *args, **kwargs)

        patch.setattr(owner, name, stopping)
        with pytest.raises(StoppedError):
            train(scenes, out=tmp_path / "model.safetensors", work=tmp_path / "work", **options)
    assert not (tmp_path / "model.safetensors").exists()
    train(scenes, out=tmp_path / "model.safetensors", work=tmp_path / "work", **options)
    return (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("which", "target", "calls"),
    [
        ("trained", "training.cache.MapCache.fill", 5),
        ("trained", "training.mining.Miner._visit", 3),
        ("trained", "training.mining.Miner._visit", 7),
        ("trained", "training.stages.Stages._regressor", 2),
        ("trained", "detection.calibration.Calibration.probabilities", 0),
        ("trained", "training.mining.Miner._visit", 11),
        ("trained", "detection.bundle.Bundle.save", 0),
        ("trained_folds", "training.mining.Miner._visit", 7),
        ("trained_folds", "training.mining.Miner.without", 1),
        ("trained_folds", "detection.calibration.Calibration.probabilities", 0),
        ("trained_mirrors", "training.cache.MapCache.fill", 5),
        ("trained_mirrors", "training.mining.Miner._visit", 19),
        ("trained_fc", "training.finetune.FineTuner._epoch", 1),
        ("trained_fc", "training.mining.Miner._visit", 7),
        ("trained_fc", "training.mining.Miner._visit", 11),
        ("trained_fc_folds", "training.finetune.FineTuner._epoch", 4),
        ("trained_fc_folds", "training.mining.Miner._visit", 15),
    ],
)
def test_stopped_run_ends_with_the_same_file(scenes, request, tmp_path, monkeypatch, which, target, calls):
    done, options = request.getfixturevalue(which), OPTIONS[which]
    stopped = stop_and_go_on(scenes, done, tmp_path, monkeypatch, f"sppnet.detector.{target}", calls, options)
    assert stopped == (done / "model.safetensors").read_bytes()


def test_how_it_is_scored_does_not_change_the_detector(trained, trained_folds):
    one, other = (Bundle.load(folder / "model.safetensors") for folder in (trained, trained_folds))
    tensors = one.tensors(), other.tensors()
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(values, tensors[1][name]) for name, values in tensors[0].items())
    assert one.calibration != other.calibration


@pytest.mark.parametrize("which", ["trained_folds", "trained_mirrors"])
def test_each_fold_is_scored_by_a_detector_that_has_not_seen_it(scenes, request, tmp_path, monkeypatch, which):
    """The regressors and SVMs are those of a training without the fold, from the same hard negatives.

    What a mirror image shows is that of its photograph.
    """
    trained_folds, options = request.getfixturevalue(which), OPTIONS[which]
    seen, original = [], training.score_parts

    def look(stages, partial, *rest):
        seen.append((stages, partial))
        return original(stages, partial, *rest)

    monkeypatch.setattr(training, "score_parts", look)
    shutil.copytree(trained_folds / "work", tmp_path / "work")
    train(scenes, out=tmp_path / "again", work=tmp_path / "work", **options)
    ((stages, partial),) = seen
    images, count = stages.images, len(stages.images)
    if options["options"].mirror:
        images = images.with_mirrors()
    final = Bundle.load(trained_folds / "model.safetensors")
    assert len(partial) == len(stages.split.parts) == 3
    assert sorted(stages.split.scored) == list(range(12))
    for part, bundle in zip(stages.split.parts, partial, strict=True):
        for label in range(len(scenes.class_names)):
            rows, deltas, owner = regression_windows(images, label, 0.6, BoxOptions().max_windows, 0)
            others = ~np.isin(owner, [*part, *(index + count for index in part)])
            machine = BoxRegressor(BoxOptions(), stages.scale).fit(rows[others], deltas[others])
            np.testing.assert_allclose(bundle.box_weights[label], machine.weights_, rtol=1e-3, atol=1e-6)
        assert not torch.equal(bundle.score_weights, final.score_weights)
    card = final.card["held_out"]
    assert (card["images"], card["folds"]) == (12, 3)
    assert card["objects"] == final.card["objects"]
    assert card["spread"] > 0
    assert "learning_curve" not in final.card


def test_fc_layers_of_each_fold_have_not_seen_it(scenes, trained_fc_folds, tmp_path, monkeypatch):
    """Nor have their SVMs; the final ones learn from all photographs."""
    tuned, mined, seen = [], [], []
    tuner, mine, score = stages.FineTuner, Miner.mine, training.score_parts

    def tune(images, fit, held_out, *rest):
        tuned.append((tuple(fit), tuple(held_out)))
        return tuner(images, fit, held_out, *rest)

    def look(of_run, partial, *rest):
        seen.append((of_run, partial))
        return score(of_run, partial, *rest)

    monkeypatch.setattr(stages, "FineTuner", tune)
    monkeypatch.setattr(
        Miner, "mine", lambda miner, order, *rest: mine(miner, mined.append(tuple(order)) or order, *rest)
    )
    monkeypatch.setattr(stages, "track", lambda items, *rest, **more: items)
    monkeypatch.setattr(training, "score_parts", look)
    shutil.copytree(trained_fc_folds / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    train(scenes, out=tmp_path / "model.safetensors", work=tmp_path / "work", **SMALL_FC_FOLDS)
    final = Bundle.load(trained_fc_folds / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (trained_fc_folds / "model.safetensors").read_bytes()
    ((of_run, partial),) = seen
    groups = ((), *of_run.split.parts)
    order = of_run.split.order
    assert len(groups) == 4
    assert sorted(order) == list(range(12))
    assert tuned == [(tuple(i for i in order if i not in group), ()) for group in groups]
    assert mined == [tuple(i for i in order if i not in group) for group in groups]
    heads = [bundle.head["fc7.weight"] for bundle in (final, *partial)]
    assert not any(torch.equal(heads[i], heads[j]) for i in range(4) for j in range(i))
    assert (final.card["held_out"]["images"], final.card["held_out"]["folds"]) == (12, 3)


def test_a_learning_curve_is_of_detectors_that_have_seen_less(scenes, trained_folds, tmp_path, monkeypatch):
    """Nothing else in the model changes; its last point is the cross-validation."""
    asked, original = [], Miner.without
    monkeypatch.setattr(
        Miner, "without", lambda miner, left, options: asked.append(set(left)) or original(miner, left, options)
    )
    shutil.copytree(trained_folds / "work", tmp_path / "work")
    options = SMALL_FOLDS | {"learning_curve": True}
    bundle = train(scenes, out=tmp_path / "curve", work=tmp_path / "work", **options).bundle
    before = Bundle.load(trained_folds / "model.safetensors")
    curve = bundle.card.pop("learning_curve")
    assert bundle.header() == before.header()
    assert torch.equal(bundle.score_weights, before.score_weights)
    assert [one["images"] for one in curve] == [2, 4, 8]
    assert curve[-1]["map"] == before.card["held_out"]["map"]
    asked = [left for left in asked if left]
    # Of the other eight images two, then four are learnt from, and the four include the two.
    assert [len(left) for left in asked] == [10] * 3 + [8] * 3
    assert all(few > more for few, more in zip(asked[:3], asked[3:], strict=True))
    assert len({min(left) for left in asked}) > 1


@pytest.mark.parametrize(
    ("target", "calls"),
    [("sppnet.detector.training.cache.RowCache.fill", 3), ("sppnet.detector.training.mining.Miner._visit", 7)],
)
def test_stopped_run_with_warped_windows_ends_with_the_same_file(scenes, tmp_path, monkeypatch, target, calls):
    whole = tmp_path / "whole"
    train(scenes, out=whole / "model.safetensors", work=whole / "work", **SMALL_WARP)
    stopped = stop_and_go_on(scenes, whole, tmp_path, monkeypatch, target, calls, SMALL_WARP)
    assert stopped == (whole / "model.safetensors").read_bytes()


def test_models_of_one_work_folder_share_what_they_can(scenes, trained_fc, tmp_path):
    """fc6 beside fc7, and the softmax: the fine-tuning, the maps and the regressors are there already."""
    work = tmp_path / "work"
    shutil.copytree(trained_fc / "work", work)
    before = {path.name for path in work.rglob("*")}
    fc6 = replace(SMALL_FC["features"], kind="fc6")
    six = train(scenes, out=tmp_path / "six.safetensors", work=work, **(SMALL_FC | {"features": fc6}))
    softmax = train(scenes, out=tmp_path / "softmax.safetensors", work=work, scorer="softmax", **SMALL_FC)
    new = {path.name.split("-")[0] for path in work.rglob("*") if path.name not in before}
    assert new == {"svm", "held", "found"}
    assert sorted({name.split(".")[0] for name in six.bundle.head}) == ["fc6", "scale"]
    assert softmax.bundle.score_weights.shape == (len(scenes.class_names) + 1, 32)
    whole = Bundle.load(trained_fc / "model.safetensors")
    for name in ("fc6.weight", "fc6.bias"):
        assert torch.equal(six.bundle.head[name], whole.head[name])
    scores = softmax.detect(scenes[0].image, threshold=-np.inf)
    assert len(scores)
    assert scores.scores.min() > -7


def test_fc_layers_as_they_start(scenes, trained_fc, tmp_path):
    """Without an epoch the random layers stay what the seed makes of them."""
    options = SMALL_FC | {"finetune": replace(SMALL_FC["finetune"], epochs=0)}
    detector = train(scenes, out=tmp_path / "m.safetensors", work=tmp_path / "work", **options)
    other = Bundle.load(trained_fc / "model.safetensors").head
    assert not torch.equal(detector.bundle.head["fc6.weight"], other["fc6.weight"])
    width_in = other["fc6.weight"].shape[1]
    random = Head(width_in, 32, len(scenes.class_names), seed=0)
    assert torch.equal(detector.bundle.head["fc6.weight"], random.state()["fc6.weight"])
    # Nobody learns from mirror images, so their maps are not made.
    assert len(list((tmp_path / "work" / "maps").iterdir())) == 2 * len(scenes)


def test_compressed_model_tells_what_it_cost(scenes, trained_fc, tmp_path):
    shutil.copytree(trained_fc / "work", tmp_path / "work")
    compression = Compression(svd=8, bfloat16=True)
    train(scenes, out=tmp_path / "m.safetensors", work=tmp_path / "work", compression=compression, **SMALL_FC)
    bundle, whole = Bundle.load(tmp_path / "m.safetensors"), Bundle.load(trained_fc / "model.safetensors")
    record = bundle.card["compression"]
    assert record["method"] == "svd=8,bfloat16"
    assert record["ranks"] == {"fc6": 8, "fc7": 8}
    assert record["bytes"] < 0.3 * record["bytes_before"]
    assert 0 <= record["held_out_map"] <= 1
    # Its own scores are calibrated, not those of the whole model.
    assert record["held_out_calibration"]["detections"] > 0
    assert bundle.calibration != whole.calibration
    assert bundle.card["held_out"] == whole.card["held_out"]
    assert bundle.head["fc6.0.weight"].dtype == torch.bfloat16
    with pytest.raises(InputError, match=r"already compressed \(svd=8,bfloat16\)"):
        bundle.compressed(compression)
    # On loading there are no windows to be true to: only the weights themselves.
    assert not torch.equal(whole.compressed(compression).head["fc7.1.weight"], bundle.head["fc7.1.weight"])


def test_options_that_do_not_go_together_are_refused_before_any_work(scenes, tmp_path):
    with pytest.raises(InputError, match="needs the features fc7"):
        train(scenes, out=tmp_path / "m.safetensors", work=tmp_path / "work", scorer="softmax", **SMALL)
    assert not (tmp_path / "work").exists()


def test_killed_process_goes_on(scenes, tmp_path):
    """kill -9 in the middle of the feature maps: what was done stays, the rest follows."""
    command = [sys.executable, "-m", "sppnet.scripts.cli", "train", str(scenes.root), "--set", "train", "--quiet"]
    command += ["--backbone", "squeezenet1_1", "--weights", "none", "--scales", "128", "--pyramid", "1,2"]
    command += ["--out", str(tmp_path / "m.safetensors"), "--work", str(tmp_path / "work")]
    process = subprocess.Popen(command)
    maps = tmp_path / "work" / "maps"
    while process.poll() is None and (not maps.is_dir() or len(list(maps.glob("[!.]*"))) < 3):
        time.sleep(0.02)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in maps.glob("[!.]*.npy")}
    assert 3 <= len(done) < len(scenes)
    subprocess.run(command, check=True)
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    assert Bundle.load(tmp_path / "m.safetensors").class_names == scenes.class_names


def test_more_photographs_cost_only_their_own_maps(scenes, trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "work", tmp_path / "work")
    cache = tmp_path / "work" / "maps"
    later = VOCDataset(scenes.root, "val", scenes.class_names)
    both = type("Both", (), {"class_names": scenes.class_names, "__len__": lambda s: 14})()
    samples = [*scenes, *later]
    both.__class__.__iter__ = lambda s: iter(samples)
    before = {path.name for path in cache.iterdir()}
    train(both, out=tmp_path / "more.safetensors", work=tmp_path / "work", **SMALL)
    assert len({path.name for path in cache.iterdir()} - before) == len(later) * 2
    assert (tmp_path / "more.safetensors").read_bytes() != (trained / "model.safetensors").read_bytes()


def test_a_changed_option_or_weight_finds_no_entry(features, tmp_path):
    from sppnet.detector.convolutions.backbone import Backbone
    from sppnet.detector.windows.features import WindowFeatures

    image, nowhere = np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4))
    MapCache(tmp_path, features).fill("key", image, nowhere)
    assert MapCache(tmp_path, features).has("key", nowhere)
    assert not MapCache(tmp_path, features).has("other image", nowhere)
    others = [
        WindowFeatures(Backbone("squeezenet1_1", seed=1), features.options),
        WindowFeatures(Backbone("squeezenet1_1", layer="features.10"), features.options),
        WindowFeatures(Backbone("squeezenet1_1", stride=8), features.options),
        WindowFeatures(features.backbone, replace(features.options, scales=(192, 256))),
    ]
    for other in others:
        assert not MapCache(tmp_path, other).has("key", nowhere)
    filled = len(list(tmp_path.iterdir()))
    # One of the two scales is there already.
    MapCache(tmp_path, others[-1]).fill("key", image, nowhere)
    assert len(list(tmp_path.iterdir())) == filled + 1


def test_cached_maps_are_the_maps_in_half_precision(features, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cache = MapCache(tmp_path, features)
    cache.fill("key", image, np.zeros((0, 4)))
    for stored, computed in zip(cache.load("key", (70, 90)).maps, features.maps(image).maps, strict=True):
        np.testing.assert_array_equal(stored.numpy(), computed.half().float().numpy())


def test_damaged_checkpoint_counts_as_none(tmp_path):
    checkpoint = Checkpoint(tmp_path, "svm", "key")
    assert checkpoint.load({"a": (5,)}) is None
    checkpoint.save({"a": np.arange(5)})
    np.testing.assert_array_equal(checkpoint.load({"a": (5,)})["a"], np.arange(5))
    whole = checkpoint.path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no archive"):
        checkpoint.path.write_bytes(damaged)
        assert checkpoint.load({"a": (5,)}) is None


def test_card_says_where_the_model_comes_from(scenes, trained):
    card = Bundle.load(trained / "model.safetensors").card
    assert card["images"] == 12
    assert sum(card["objects"].values()) == sum(int((~sample.difficult).sum()) for sample in scenes)
    assert card["held_out"]["images"] == 3
    assert set(card["held_out"]["ap"]) == set(scenes.class_names)


@pytest.mark.parametrize("which", ["trained", "trained_fc"])
def test_the_calibration_is_that_of_the_held_out_images(scenes, request, monkeypatch, tmp_path, which):
    """Judged on the model that has not seen them; the card says what thresholds and how true probabilities are."""
    folder = request.getfixturevalue(which)
    bundle = Bundle.load(folder / "model.safetensors")
    held_out = bundle.card["held_out"]
    assert list(held_out["thresholds"].items()) == list(
        zip(scenes.class_names, bundle.calibration.thresholds, strict=True)
    )
    assert bundle.detection.show_above == DetectOptions().show_above
    asked = []
    original = Calibration.fit.__func__
    monkeypatch.setattr(
        Calibration,
        "fit",
        classmethod(lambda cls, judged, weight: asked.append(judged) or original(cls, judged, weight)),
    )
    shutil.copytree(folder / "work", tmp_path / "work")
    for kept in (tmp_path / "work" / "stages").glob("held-out-*"):
        kept.unlink()
    train(scenes, out=tmp_path / "again", work=tmp_path / "work", **OPTIONS[which])
    everything = asked[0]
    assert [one.name for one in everything] == list(scenes.class_names)
    assert all(len(one.objects) == 3 for one in everything)
    assert held_out["wrong_weight"] == 1
    assert original(Calibration, everything) == bundle.calibration
    # Three images, three folds: each is measured with what the other two taught.
    assert len(asked) == 1 + 3
    assert all((one.objects > 0).sum() <= 2 for fold in asked[1:] for one in fold)
    measured = held_out["calibration"]
    assert measured == Verdicts.joined(cross_fitted(everything)).to_dict()
    assert sum(figures["shown"] for figures in held_out["shown"].values()) == measured["shown"]
    # fc layers of three epochs find nothing in three images.
    assert sum(len(one.scores) for one in everything) >= measured["detections"] >= (which == "trained")
    assert measured["ece"] is None or 0 <= measured["ece"] <= 1
    assert (tmp_path / "again").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_probabilities_of_the_only_class_allow_for_photographs_without_it(scenes, tmp_path):
    name, samples = scenes.class_names[0], []
    for one in scenes:
        here = one.labels == 0
        if (here & ~one.difficult).any():
            parts = {"boxes": one.boxes[here], "labels": one.labels[here], "difficult": one.difficult[here]}
            samples.append(replace(one, **parts))
    detector = train(SampleList(samples, (name,)), out=tmp_path / "m", **SMALL_FOLDS)
    held_out = detector.card["held_out"]
    assert held_out["wrong_weight"] == 2
    assert held_out["calibration"] is None
    text = " ".join(calibration_lines((name,), detector.bundle.calibration.to_dict(), detector.card))
    assert f"fewer than a third of these photographs are without {name}: probabilities and thresholds allow for" in text
    assert "calibration error" not in text


def test_what_earlier_versions_kept_of_the_held_out_images_is_not_taken(scenes, trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "work", tmp_path / "work")
    kept = tmp_path / "work" / "stages"
    for path in kept.glob("held-out-*"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(scores, "VERSION", scores.VERSION - 1)
        train(scenes, out=tmp_path / "old", work=tmp_path / "work", **SMALL)
    (old,) = kept.glob("held-out-*")
    old.write_text('{"images": 3, "metric": "voc07", "map": 0.5, "ap": {}, "threshold": -0.3}')
    train(scenes, out=tmp_path / "new", work=tmp_path / "work", **SMALL)
    assert (tmp_path / "new").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert len(list(kept.glob("held-out-*"))) == 2


def test_liblinear_leads_to_the_same_detector(scenes, trained, tmp_path):
    """Each solver to a tolerance at which its planes are those of the problem, in the same run of mining."""
    found = {}
    for solver in SOLVERS:
        svm = replace(SMALL["svm"], solver=solver, tolerance=1e-6, max_epochs=100_000, max_gigabytes=0.5)
        work = tmp_path / solver
        shutil.copytree(trained / "work", work, ignore=shutil.ignore_patterns("stages"))
        found[solver] = train(scenes, out=tmp_path / "m", work=work, **(SMALL | {"svm": svm})).bundle
        assert Bundle.load(tmp_path / "m").card["svm"]["solver"] == solver
    ours, theirs = found.values()
    size = float(ours.score_weights.abs().max())
    torch.testing.assert_close(theirs.score_weights, ours.score_weights, rtol=0, atol=5e-3 * size)
    torch.testing.assert_close(theirs.score_intercepts, ours.score_intercepts, rtol=0, atol=5e-3)
    assert not torch.equal(theirs.score_weights, ours.score_weights)


def test_memory_too_small_for_liblinear_is_told_by_the_training(scenes, trained, tmp_path):
    svm = replace(SMALL["svm"], solver="liblinear", max_gigabytes=0.003)
    with pytest.raises(InputError, match=r"'liblinear' needs .* GB for .*use the solver 'coordinate descent'"):
        train(scenes, out=tmp_path / "m", work=trained / "work", **(SMALL | {"svm": svm}))


def test_without_held_out_images_there_are_no_scores(scenes, trained, tmp_path):
    options = SMALL | {"options": TrainOptions(held_out=0.0)}
    detector = train(scenes, out=tmp_path / "m.safetensors", work=trained / "work", **options)
    assert "held_out" not in detector.card
    assert detector.bundle.calibration is None
    assert not detector.detect(scenes[0].image, threshold=-10).calibrated


def test_class_without_an_object_is_named_before_any_work(scenes, tmp_path):
    dataset = VOCDataset(scenes.root, "train", ["disc", "unicorn", "griffin"])
    with pytest.raises(InputError, match="no object to learn from for unicorn, griffin in 12 images"):
        train(dataset, out=tmp_path / "m.safetensors", work=tmp_path / "work", **SMALL)
    assert not (tmp_path / "work").exists()


def test_empty_sets_are_refused(scenes):
    with pytest.raises(InputError, match="no images"):
        check_classes([], ("a",))
    with pytest.raises(InputError, match="no labelled object"):
        check_classes(list(scenes), ())
