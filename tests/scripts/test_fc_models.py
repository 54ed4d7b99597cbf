"""Fine-tuned fc layers on the command line: train, info, detect, evaluate, compression on saving and on loading."""

import json

import pytest
from sppnet.data.formats import read_detections_json
from sppnet.data.scenes import make_scenes
from sppnet.detector.detection.bundle import Bundle
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes and a model with compressed fc6 and fc7."""
    folder = tmp_path_factory.mktemp("fc")
    make_scenes(folder / "scenes", {"train": 10, "val": 2}, seed=0, size=(96, 128))
    return folder


def train(folder, name, *options):
    arguments = ["train", str(folder / "scenes"), "--set", "train", "--out", str(folder / name), "--quiet"]
    arguments += ["--work", str(folder / "work"), "--backbone", "squeezenet1_1", "--weights", "none"]
    arguments += ["--scales", "128", "--pyramid", "1,2", "--held-out", "0.2"]
    return main([*arguments, *options])


def test_fine_tuned_model_goes_all_the_way(folder, capsys):
    fc7 = ["--features", "fc7", "--fc-width", "32", "--epochs", "2"]
    assert train(folder, "plain", *fc7) == 0
    assert train(folder, "small", *fc7, "--compress", "svd=4,bfloat16") == 0
    out = capsys.readouterr().out
    assert "fc layers compressed (svd=4,bfloat16)" in out
    assert "held-out mAP" in out
    assert main(["info", str(folder / "small")]) == 0
    card = capsys.readouterr().out
    for part in ("fc7", "linear SVMs", "fc layers compressed (svd=4,bfloat16)", "points"):
        assert part in card
    found = {}
    for name, options in {"plain": [], "small": [], "loaded": ["--compress", "svd=4,bfloat16"]}.items():
        model = str(folder / ("small" if name == "small" else "plain"))
        detect = ["detect", str(folder / "scenes"), "--model", model, "-o", str(folder / f"out-{name}")]
        assert main([*detect, "--no-draw", "--quiet", "--threshold", "0", *options]) == 0
        images = read_detections_json(folder / f"out-{name}" / "detections.json").images
        found[name] = [image.detections.to_records() for image in images]
    assert all(found[name] for name in found)
    assert found["loaded"] != found["plain"] != found["small"]
    evaluate = ["evaluate", str(folder / "scenes"), "--set", "val", "--model", str(folder / "plain"), "--quiet"]
    assert main([*evaluate, "-o", str(folder / "evaluation"), "--compress", "svd=4"]) == 0
    assert 0 <= json.loads((folder / "evaluation" / "metrics.json").read_text())["metric"]["voc07"]["map"] <= 1


def test_softmax_model_says_what_its_scores_are(folder, capsys):
    softmax = ["--features", "fc7", "--fc-width", "32", "--epochs", "2", "--scorer", "softmax"]
    assert train(folder, "softmax", *softmax) == 0
    assert Bundle.load(folder / "softmax").scorer == "softmax"
    assert main(["info", str(folder / "softmax")]) == 0
    assert "log-odds of the softmax" in capsys.readouterr().out


def test_wrong_calls_are_one_line(folder, capsys):
    pool5 = folder / "pool5"
    assert train(folder, "pool5") == 0
    capsys.readouterr()
    detect = ["detect", str(folder / "scenes"), "--model", str(pool5), "-o", str(folder / "nothing"), "--compress"]
    calls = [
        (["--compress", "svd"], "no fc layers to compress"),
        (["--scorer", "softmax"], "needs the features fc7"),
        (["--features", "fc6", "--epochs", "-1"], "argument --epochs: expected a whole number from 0 up, got '-1'"),
        (["--features", "fc6", "--compress", "zip"], "argument --compress: unknown compression 'zip'"),
    ]
    for options, message in calls:
        assert train(folder, "wrong", *options) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert main([*detect, "svd"]) == 2
    assert "no fc layers to compress: the model's features are pool5" in capsys.readouterr().err
    assert not (folder / "wrong").exists()
