"""``--precision bfloat16`` of ``sppnet detect`` and ``evaluate``: the convolutions' precision, off by default."""

import json

import numpy as np
import pytest
from random_models import random_model
from sppnet import SPPDetector
from sppnet.data.formats import read_detections_json
from sppnet.data.image import read_image
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    make_scenes(folder / "scenes", {"val": 2}, seed=0, size=(96, 128))
    random_model().save(folder / "model.safetensors")
    return folder


def call(folder, command, *options, out="found"):
    model = str(folder / "model.safetensors")
    return main([command, str(folder / "scenes"), "--model", model, "-o", str(folder / out), *options])


def expected(folder, precision, threshold):
    detector = SPPDetector.load(folder / "model.safetensors", precision=precision)
    paths = sorted((folder / "scenes" / "JPEGImages").iterdir())
    return [detector.detect(read_image(path), threshold) for path in paths]


def test_detect_and_evaluate_compute_in_the_precision_asked_for(folder):
    of_detect = ["--quiet", "--no-draw", "--threshold", "-10"]
    for precision, options in {"float32": [], "bfloat16": ["--precision", "bfloat16"]}.items():
        assert call(folder, "detect", *of_detect, *options) == 0
        found = [image.detections for image in read_detections_json(folder / "found" / "detections.json").images]
        assert found == expected(folder, precision, -10)
        assert call(folder, "evaluate", "--set", "val", "--quiet", *options, out="evaluation") == 0
        found = [image.detections for image in read_detections_json(folder / "evaluation" / "detections.json").images]
        assert found == expected(folder, precision, -np.inf)
        assert json.loads((folder / "evaluation" / "metrics.json").read_text())["images"] == 2
    assert expected(folder, "float32", -10) != expected(folder, "bfloat16", -10)


@pytest.mark.parametrize(("fast", "options", "said"), [(False, [], 1), (True, [], 0), (False, ["--quiet"], 0)])
def test_a_device_without_instructions_for_it_is_reported(folder, capsys, monkeypatch, fast, options, said):
    monkeypatch.setattr("sppnet.detector.head.compression.bfloat16_is_fast", lambda device: fast)
    assert call(folder, "detect", "--no-draw", "--precision", "bfloat16", *options) == 0
    assert capsys.readouterr().err.count("this device has no instructions for it, so float32 is faster here") == said


def test_tf32_on_a_cpu_is_float32_and_says_so(folder, capsys):
    for precision in ("float32", "tf32"):
        assert call(folder, "detect", "--no-draw", "--threshold", "-10", "--precision", precision, out=precision) == 0
        assert ("only CUDA devices have it" in capsys.readouterr().err) == (precision == "tf32")
    one, other = ((folder / name / "detections.json").read_text() for name in ("float32", "tf32"))
    assert json.loads(one)["images"] == json.loads(other)["images"]


def test_another_precision_is_refused_in_one_line(folder, capsys):
    assert call(folder, "detect", "--precision", "int8") == 2
    error = capsys.readouterr().err
    assert "argument --precision: invalid choice: 'int8'" in error
    assert len(error.splitlines()) == 1
