"""Models by name and sample photographs on the command line, with two small models instead of the bundled ones."""

import json
from pathlib import Path

import pytest
from random_models import random_model
from sppnet import SPPClassifier, SPPDetector, WarpDetector
from sppnet.data import embedded
from sppnet.data.errors import InputError
from sppnet.data.example_photographs import free_photographs
from sppnet.data.formats import read_detections_json
from sppnet.data.image import read_image
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Scenes, and a folder of models that all have random SVMs."""
    folder = tmp_path_factory.mktemp("embedded")
    make_scenes(folder / "scenes", {"val": 2}, seed=0, size=(96, 128))
    for seed, name in enumerate(("animals", "cells")):
        model = random_model(seed=seed, windows=20, card={"images": 100 + seed})
        model.save(folder / "models" / f"{name}.safetensors")
    return folder


@pytest.fixture
def folder(made, monkeypatch, tmp_path):
    """The package has these models, and the commands run in an empty folder; where scenes and models lie."""
    monkeypatch.setattr(embedded, "models_folder", lambda: made / "models")
    monkeypatch.chdir(tmp_path)
    return made


def detect(*arguments):
    """What ``sppnet detect`` writes with these arguments."""
    assert main(["detect", *map(str, arguments), "-o", "out", "--threshold", "-10", "--quiet"]) == 0
    return read_detections_json(Path("out", "detections.json"))


def items(results):
    return [image.detections.to_records() for image in results.images]


def test_detect_without_a_model_takes_animals(folder):
    scenes = folder / "scenes"
    default, by_name = detect(scenes, "--no-draw"), detect(scenes, "--no-draw", "--model", "animals")
    by_path = detect(scenes, "--no-draw", "--model", folder / "models" / "animals.safetensors")
    assert default.model == by_name.model == "animals"
    assert by_path.model == str(folder / "models" / "animals.safetensors")
    assert items(default) == items(by_name) == items(by_path)
    assert all(items(default))
    assert items(detect(scenes, "--no-draw", "--model", "cells")) != items(default)


def test_what_is_named_takes_the_place_of_the_default(folder):
    scenes = folder / "scenes"
    assert detect(scenes, "--no-draw", "--model", "cells").model == "cells"
    both = detect(scenes, "--no-draw", "--model", "cells", "--model", folder / "models" / "animals.safetensors")
    assert both.model == f"cells + {folder / 'models' / 'animals.safetensors'}"


def test_a_file_of_that_name_is_reached_by_its_path(folder):
    Path("animals").write_bytes((folder / "models" / "cells.safetensors").read_bytes())
    scenes = folder / "scenes"
    named, file = (detect(scenes, "--no-draw", "--model", model) for model in ("animals", "./animals"))
    assert (named.model, file.model) == ("animals", "./animals")
    assert items(file) == items(detect(scenes, "--no-draw", "--model", "cells")) != items(named)


def test_the_samples_are_drawn(folder):
    found = detect("--samples")
    photographs = free_photographs()
    assert [image.file for image in found.images] == list(map(str, photographs))
    for path in photographs:
        assert read_image(Path("out", "images", f"{path.stem}.jpg")).shape == read_image(path).shape


def test_evaluate_and_benchmark_name_the_model(folder):
    arguments = ["evaluate", str(folder / "scenes"), "--set", "val", "-o", "out", "--quiet"]
    for options, expected in (([], "animals"), (["--model", "cells"], "cells")):
        assert main([*arguments, *options]) == 0
        assert json.loads(Path("out", "metrics.json").read_text())["model"] == expected
    arguments = ["benchmark", "detect", "--images", str(folder / "scenes"), "--count", "1", "--no-growth", "--quiet"]
    for options, expected in (([], "animals"), (["--model", "cells"], "cells")):
        assert main([*arguments, *options, "--json", "out.json"]) == 0
        assert json.loads(Path("out.json").read_text())["result"]["model"] == expected


def test_info_of_a_name(folder, capsys):
    for name, images in (("animals", 100), ("cells", 101)):
        assert main(["info", name]) == 0
        assert f"trained on  {images} images" in capsys.readouterr().out


def test_from_python(folder):
    assert SPPDetector.load().card == SPPDetector.load("animals").card == {"images": 100}
    assert SPPDetector.load("cells").card == {"images": 101}
    with pytest.raises(InputError, match="animals: no such model file"):
        SPPDetector.load(Path("animals"))
    with pytest.raises(InputError, match="trained with the method spp, not warp"):
        WarpDetector.load("animals")
    with pytest.raises(InputError, match="animals: is a detector, expected a classification network"):
        SPPClassifier.load("animals")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["detect", "SCENES", "--model", "animal"], "(animals, cells); expected a name or a path"),
        (["evaluate", "SCENES", "--model", "animal"], "(animals, cells); expected"),
        (["info", "animal"], "(animals, cells); expected"),
        (["benchmark", "detect", "--images", "SCENES", "--model", "animal"], "(animals, cells)"),
        (["detect", "SCENES", "--model", "./animals"], "./animals: no such model file"),
        (["detect"], "expected IMAGES or --samples (photographs that come with scikit-image), not neither"),
        (["detect", "--model", "cells"], "not neither"),
        (["detect", "SCENES", "--samples"], "not both"),
    ],
)
def test_wrong_calls_are_one_line(folder, capsys, arguments, expected):
    assert main([str(folder / "scenes") if word == "SCENES" else word for word in arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert expected in error
    assert error.startswith("sppnet: error: ")
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", ["detect", "evaluate", "info", "benchmark detect"])
def test_help_lists_the_models(folder, monkeypatch, capsys, command):
    for models, expected in ((folder / "models", "(animals, cells)"), (folder / "nowhere", "(here none)")):
        monkeypatch.setattr(embedded, "models_folder", lambda models=models: models)
        assert main([*command.split(), "--help"]) == 0
        assert f"a bundled model {expected}" in " ".join(capsys.readouterr().out.split())


def test_a_package_without_models_says_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "models_folder", lambda: folder / "nowhere")
    for arguments in (["detect", "--samples"], ["info", "animals"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "animals: no such model file and no bundled model (here none); expected" in error
        assert error.count("\n") == 1
