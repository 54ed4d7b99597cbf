"""``sppnet make-model`` from photographs to a model with a card, on generated scenes with a random teacher."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sppnet.data.embedded import embedded_models
from sppnet.data.scenes import make_scenes
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.detector import detector_of
from sppnet.detector.options import Compression, FeatureOptions, FineTuneOptions
from sppnet.detector.recipes import RECIPES
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where everything was written, and how it was called."""
    folder = tmp_path_factory.mktemp("make")
    make_scenes(folder / "scenes", {"train": 12, "val": 4}, seed=0, size=(96, 128))
    usual = RECIPES["animals"]
    recipe = replace(
        usual,
        classes=("disc", "box"),
        learn=replace(usual.learn, epochs=1, sizes=(96, 64)),
        plan=replace(
            usual.plan,
            features=FeatureOptions(scales=(96,), levels=(1, 2, 3, 4), kind="fc7"),
            finetune=FineTuneOptions(width=32),
            compression=Compression(bfloat16=True),
        ),
    )
    command = ["make-model", "animals", str(folder / "scenes"), "--weights", "none", "--quiet"]
    command += ["--out", str(folder / "animals.safetensors"), "--results", str(folder / "results")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "animals", recipe)
        assert main(command) == 0
        written = (folder / "animals.safetensors").read_bytes()
        student = folder / "animals.safetensors.work" / "student.safetensors"
        before = student.read_bytes()
        assert main(command) == 0
    assert student.read_bytes() == before
    assert (folder / "animals.safetensors").read_bytes() == written
    return folder


def test_the_model_says_where_it_comes_from(made, capsys):
    bundle = Bundle.load(made / "animals.safetensors")
    assert bundle.class_names == ("disc", "box")
    about = bundle.card["about"]
    assert about.keys() == {"data", "teacher", "licence", "command", "seed", "limits", "scores"}
    assert str(made) not in str(bundle.card)
    assert main(["info", str(made / "animals.safetensors")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a demonstration. For real work" in said
    assert "sppnet make-model animals DATASET --weights none --out animals.safetensors" in said


def test_curves_and_scores_are_copied(made):
    names = {path.name for path in (made / "results").iterdir()}
    curves = {"distillation.svg", "distillation.csv", "precision-recall.svg", "reliability.svg"}
    assert names == {"animals.json", *(f"animals-{name}" for name in curves if (f"animals-{name}") in names)}
    assert {"animals-distillation.svg", "animals-distillation.csv", "animals-precision-recall.svg"} <= names


def test_in_half_precision_it_detects_alike(made):
    whole = Bundle.load(made / "animals.safetensors.work" / "detector.safetensors")
    half = Bundle.load(made / "animals.safetensors")
    tensors = half.tensors()
    assert tensors["score.weights"].dtype == tensors["backbone.features.0.weight"].dtype == torch.float16
    assert {tensors[name].dtype for name in tensors if name.startswith("head.fc")} == {torch.bfloat16}
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    windows = [[0, 0, 120, 90], [10, 20, 60, 70], [30, 5, 110, 60]]
    scores = []
    for bundle in (whole, half):
        detector = detector_of(bundle, "cpu")
        detector.set_image(image)
        scores.append(detector.score_windows(windows))
    np.testing.assert_allclose(*scores, rtol=0, atol=0.02 * np.abs(scores[0]).max())
    sizes = [
        (made / name).stat().st_size
        for name in ("animals.safetensors", "animals.safetensors.work/detector.safetensors")
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_an_unknown_name(capsys):
    assert main(["make-model", "plants", "scenes", "--out", "m.safetensors"]) == 2
    assert "animals" in capsys.readouterr().err


def test_every_model_has_a_recipe():
    assert set(embedded_models()) == set(RECIPES)
