"""``sppnet benchmark rcnn``: both sides, their sums and ratios, and errors."""

import argparse
import json
import shutil

import numpy as np
import pytest
import torch
from detector_options import SMALL
from random_models import random_model
from sppnet.data.errors import InputError
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.detector import Detector, SPPDetector, WarpDetector, features_of
from sppnet.detector.options import FeatureOptions
from sppnet.detector.training.train import train
from sppnet.scripts.benchmark import rcnn as bench_rcnn
from sppnet.scripts.benchmark import rcnn_sides
from sppnet.scripts.benchmark.rcnn_accuracy import METHODS, Accuracy
from sppnet.scripts.cli import main

QUICK = ["--windows", "12", "--count", "1", "--rounds", "2", "--pyramid", "1,2", "--quiet"]


@pytest.fixture(autouse=True)
def few_batches(monkeypatch):
    """Of small crops: what is measured does not matter here."""
    monkeypatch.setitem(rcnn_sides._BATCHES, "cpu", (4,))
    monkeypatch.setitem(rcnn_sides._TRIED_CROPS, "cpu", 4)
    monkeypatch.setitem(bench_rcnn.SCALES, "1", (96,))
    monkeypatch.setitem(bench_rcnn.SCALES, "5", (64, 96))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(root, {"train": 10, "val": 4}, seed=3, size=(96, 128))
    return root


def run(*arguments):
    return main(["benchmark", "rcnn", *QUICK, *map(str, arguments)])


def test_stages_sums_and_ratios_fit_together(scenes, tmp_path, capsys):
    file, plot = tmp_path / "r.json", tmp_path / "r.svg"
    arguments = ["--backbone", "squeezenet1_1", "--fc-width", "32", "--compress", "svd=4,bfloat16"]
    arguments += ["--layer", "features.10", "--stride", "8"]
    assert run(*arguments, "--images", scenes / "JPEGImages", "--json", file, "--plot", plot) == 0
    result = json.loads(file.read_text())["result"]
    assert list(result["stages"]) == [
        name + kind for kind in ("", ", compressed fc") for name in ("SPP-net, 1 scale", "SPP-net, 5 scales", "R-CNN")
    ]
    for side, stages in result["stages"].items():
        assert ("warping" in stages) == side.startswith("R-CNN")
        assert all(len(times["seconds"]) == 2 and min(times["seconds"]) > 0 for times in stages.values())
        totals = result["totals"][side]
        for name, parts in rcnn_sides.TOTALS.items():
            sums = np.sum([stages[part]["seconds"] for part in parts if part in stages], axis=0)
            np.testing.assert_allclose(totals[name]["seconds"], sums)
    faster = result["times_faster"]["SPP-net, 5 scales, compressed fc"]["features"]["seconds"]
    totals = [result["totals"][name + ", compressed fc"] for name in ("R-CNN", "SPP-net, 5 scales")]
    slow, fast = (np.array(total["features"]["seconds"]) for total in totals)
    np.testing.assert_allclose(faster, slow / fast)
    assert result["batch"] == 4
    assert (result["layer"], result["stride"]) == ("features.10.cat", 8)
    text = capsys.readouterr().out
    assert "times faster: all without proposals" in text
    assert "0.089" in text
    assert "scaled" not in text
    assert "<svg" in plot.read_text()


def test_a_sample_is_scaled_to_all_windows(scenes):
    image = VOCDataset(scenes, "val")[0].image
    windows = np.tile([[5, 5, 60, 50]], (600, 1)).astype(np.float32)
    seen = []

    class Side:
        def score(self, image, windows, timer):
            with timer.stage("warping"):
                seen.append(len(windows))
            timer._seconds["warping"] = [2.0]
            return windows[:200], np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)

    seconds = rcnn_sides.time_side(Side(), image, windows, "cpu")
    assert seen == [600]
    assert seconds["warping"] == pytest.approx(6.0)


def test_both_sides_of_a_window_score_as_their_detectors_do(scenes):
    """The benchmark's stages are the detectors' own computation."""
    import torch
    from sppnet.detector.convolutions.backbone import Backbone
    from sppnet.detector.head.head import Head
    from sppnet.detector.windows.features import WindowFeatures
    from sppnet.detector.windows.warping import WarpFeatures
    from sppnet.eval.timing import StageTimer

    image = VOCDataset(scenes, "val")[0].image
    windows = np.array([[5, 5, 60, 50], [30, 10, 110, 79], [0, 0, 128, 96]], np.float32)
    backbone = Backbone("squeezenet1_1")
    head = Head(backbone.channels * 5, 16, 3).eval()
    plain = FeatureOptions(scales=(96,), levels=(1, 2), kind="fc7")
    warped = FeatureOptions(levels=(1, 2), kind="fc7", method="warp", crop=64)
    planes = rcnn_sides.random_planes(16, 0, "cpu")
    pooled, crops = WindowFeatures(backbone, plain, head), WarpFeatures(backbone, warped, head, 2)
    sides = [(rcnn_sides.SPPSide("a", pooled, planes), pooled), (rcnn_sides.RCNNSide("b", crops, planes, 9), crops)]
    for side, features in sides:
        maps = features.maps(image)
        cells = features.locate(maps, windows)
        expected = features.scores(maps, cells, planes.weights, planes.intercepts)[cells.inverse]
        done, got = side.score(image, windows, StageTimer())
        np.testing.assert_array_equal(done, windows)
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-5)


def test_a_sample_s_scores_are_those_of_its_windows(scenes):
    from sppnet.detector.convolutions.backbone import Backbone
    from sppnet.detector.windows.warping import WarpFeatures
    from sppnet.eval.timing import StageTimer

    image = VOCDataset(scenes, "val")[0].image
    windows = np.array([[5, 5, 60, 50], [30, 10, 110, 79], [0, 0, 128, 96], [70, 3, 90, 90]], np.float32)
    features = WarpFeatures(Backbone("squeezenet1_1"), FeatureOptions(levels=(1,), method="warp", crop=64), None, 2)
    planes = rcnn_sides.random_planes(features.width, 0, "cpu")
    done, got = rcnn_sides.RCNNSide("b", features, planes, 2).score(image, windows, StageTimer())
    assert len(done) == 2
    maps = features.maps(image)
    cells = features.locate(maps, done)
    expected = features.scores(maps, cells, planes.weights, planes.intercepts)[cells.inverse]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_both_sides_compute_in_the_precision_asked_for(scenes, tmp_path, monkeypatch):
    seen = []

    def look(sides, *rest):
        seen.extend((next(side.features.backbone.parameters()).dtype, side.features.head.dtype) for side in sides)
        return time_sides(sides, *rest)

    time_sides = rcnn_sides.time_sides
    monkeypatch.setattr(rcnn_sides, "time_sides", look)
    monkeypatch.setattr("sppnet.detector.head.compression.bfloat16_is_fast", lambda device: True)
    arguments = ["--backbone", "squeezenet1_1", "--fc-width", "16", "--compress", "none", "--dtype", "bfloat16"]
    assert run(*arguments, "--scales", "1", "--images", scenes / "JPEGImages") == 0
    assert seen == [(torch.bfloat16, torch.bfloat16)] * 2


def test_accuracy_is_of_the_precision_asked_for(scenes, tmp_path, monkeypatch):
    models = []
    for method, crop in {"spp": None, "warp": 64}.items():
        options = FeatureOptions(scales=(96,), levels=(1,), method=method, crop=crop)
        models.append(tmp_path / f"{method}.safetensors")
        random_model(("disc",), features_of(Backbone("squeezenet1_1"), options)).save(models[-1])
    args = argparse.Namespace(models=[models], accuracy=scenes, set="val", accuracy_images=1, seed=0, quiet=True)
    for precision, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        accuracy = Accuracy(argparse.Namespace(**vars(args), dtype=precision), "cpu")
        networks = [detector.features.backbone for detector in accuracy.detectors.values()]
        assert [next(network.parameters()).dtype for network in networks] == [dtype] * 2
        assert accuracy.measure()["dtype"] == precision


def test_pairs_with_the_same_convolutions_share_their_maps(scenes, tmp_path, monkeypatch):
    """The scores are those of each pair alone."""
    pairs, made = [], []
    for number in range(2):
        pairs.append([tmp_path / f"{method}{number}.safetensors" for method in ("spp", "warp")])
        for path, crop in zip(pairs[-1], (None, 64), strict=True):
            options = FeatureOptions(scales=(96,), levels=(1,), method="warp" if crop else "spp", crop=crop)
            random_model(("disc",), features_of(Backbone("squeezenet1_1"), options), seed=number).save(path)
    args = argparse.Namespace(accuracy=scenes, set="val", accuracy_images=2, seed=0, quiet=True, dtype="float32")
    alone = {}
    for pair in pairs:
        result = Accuracy(argparse.Namespace(**vars(args), models=[pair]), "cpu").measure()
        alone |= {
            f"{name}, {path.stem}": result["models"][name] for name, path in zip(METHODS.values(), pair, strict=True)
        }
    for detector in (SPPDetector, WarpDetector):
        monkeypatch.setattr(
            detector, "maps", lambda self, image: made.append(self.method) or Detector.maps(self, image)
        )
    together = Accuracy(argparse.Namespace(**vars(args), models=pairs), "cpu").measure()
    assert together["models"] == alone
    assert made == ["spp", "warp"] * 2
    pairs[1][1] = pairs[0][1]
    with pytest.raises(InputError, match="different file names"):
        Accuracy(argparse.Namespace(**vars(args), models=pairs), "cpu")


def test_accuracy_of_one_model_of_each_method(scenes, tmp_path, capsys):
    data, models = VOCDataset(scenes, "train"), []
    for method in ("spp", "warp"):
        features = FeatureOptions(scales=(96,), levels=(1, 2), method=method, crop=64 if method == "warp" else None)
        models.append(tmp_path / f"{method}.safetensors")
        train(data, out=models[-1], **SMALL | {"features": features})
    common = ["--backbone", "squeezenet1_1", "--features", "pool5", "--scales", "1", "--accuracy", scenes]
    common += ["--set", "val", "--images", data[0].path, "--accuracy-images", "3"]
    file = tmp_path / "r.json"
    assert run(*common, "--models", *models, "--json", file) == 0
    result = json.loads(file.read_text())["result"]
    assert list(result["stages"]) == ["SPP-net, 1 scale", "R-CNN"]
    assert result["accuracy"]["images"] == 3
    for model in result["accuracy"]["models"].values():
        assert 0 <= model["voc07"]["map"] <= 1
        assert model["trained_on"] == 10
    said = capsys.readouterr().out
    assert "AP on 3 images" in said
    for metric in ("VOC07 11-point AP", "VOC area AP"):
        header, _, *rows = said[said.index(metric) :].splitlines()[:4]
        assert header.split()[-5:] == [*data.class_names, "mean"]
        for row, model in zip(rows, result["accuracy"]["models"].values(), strict=True):
            figures = model["voc07" if "07" in metric else "voc"]
            assert row.split()[-1] == f"{figures['map']:.3f}"
            assert row.split()[-6:-5] == ["10"]
    (scenes / "ImageSets/Main/two.txt").write_text("val_00000\ndamaged\n")
    shutil.copy(scenes / "Annotations/val_00001.xml", scenes / "Annotations/damaged.xml")
    (scenes / "JPEGImages/damaged.jpg").write_text("no picture")
    capsys.readouterr()
    common[common.index("val")] = "two"
    assert run(*common, "--models", *models, "--json", file) == 1
    assert "damaged.jpg" in capsys.readouterr().err
    result = json.loads(file.read_text())["result"]
    assert result["accuracy"]["images"] == 1
    assert result["failed"] == [str(scenes / "JPEGImages/damaged.jpg")]
    (scenes / "JPEGImages/damaged.jpg").unlink()
    common[common.index("two")] = "val"
    assert run(*common, "--models", *reversed(models)) == 2
    assert "expected spp here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample", "10"], "argument --sample: expected a whole number from 200 up, got '10'"),
        (["--windows", "0"], "argument --windows: expected a whole number from 1 up, got '0'"),
        (["--models", "a", "b"], "--accuracy and --models go together"),
        (["--accuracy", "x"], "--accuracy and --models go together"),
        (["--plot", "x.pdf"], "ends in .svg or .png, not x.pdf"),
        (["--scales", "3"], "expected any of 1,5, got '3'"),
        (["--backbone", "alexnott"], "alexnet"),
        (["--images", "nowhere"], "nowhere"),
        (["--accuracy", "x", "--models", "a.safetensors", "b.safetensors"], "a.safetensors: no such model file"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) <= 2
