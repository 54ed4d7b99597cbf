"""``sppnet classify svm``: from folders to a table, and errors."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.scripts.cli import main
from torchvision.models import alexnet

QUICK = ["--scales", "64", "--pyramid", "1,2", "--quiet"]


COLOURS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}


def write_class_folders(root, counts, seed):
    """Photographs of different shapes, each noise around the colour that its class is named for."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            size = (*rng.integers(40, 90, 2), 3)
            pixels = np.clip(COLOURS[name] + rng.normal(0, 25, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A test set that lacks a class: its labels count the classes otherwise."""
    root = tmp_path_factory.mktemp("colours")
    write_class_folders(root / "train", {"blue": 10, "green": 10, "red": 10}, seed=0)
    write_class_folders(root / "test", {"blue": 4, "red": 5}, seed=1)
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(root, {"trainval": 16, "test": 6}, seed=3, size=(96, 128))
    return root


def run(*arguments):
    return main(["classify", "svm", *map(str, arguments)])


def test_class_folders_give_a_row_for_each_view(colours, tmp_path, capsys):
    file = tmp_path / "found.json"
    arguments = [colours / "train", "--test", colours / "test", "--weights", "none", "--json", file]
    assert run(*arguments, *QUICK, "--splits", "2", "--per-class", "6,4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mean class accuracy, linear SVMs on spp features of squeezenet1_1"
    assert lines[2].split("  ")[0] == "view"
    assert [line.split()[0] for line in lines[4:]] == ["full", "crop", "warp"]
    assert "mean of 2 splits" in lines[2]
    result = json.loads(file.read_text())
    assert result["protocol"] == "caltech101"
    assert (result["learnt_from"], result["tested_on"], result["classes"]) == (30, 9, 3)
    assert result["command"].startswith("sppnet classify svm")
    assert result["failed"] == []
    for view, found in result["views"].items():
        assert view in ("full", "crop", "warp")
        assert found["chosen"]["scale"] == 64
        assert [each["C"] for each in found["candidates"]] == [0.1, 1, 10]
        assert found["chosen"]["held_out"] == max(each["held_out"] for each in found["candidates"])
        # Random convolutions tell colours apart.
        assert found["test"] == found["mean"] == 1
        assert len(found["splits"]) == 2
        assert found["deviation"] == 0


def test_without_a_test_set_there_is_the_held_out_score(colours, capsys):
    arguments = ["--weights", "none", "--views", "crop", "--C", "2.5", "--protocol", "voc07"]
    assert run(colours / "train", *arguments, *QUICK) == 0
    out = capsys.readouterr().out
    assert out.startswith("VOC07 11-point mAP, ")
    assert out.splitlines()[-1].split() == ["crop", "64", "2.5", "1.000", "-"]


def test_candidates_are_said_on_stderr(colours, capsys):
    arguments = ["--weights", "none", "--views", "warp", "--C", "1,4", "--scales", "64,80", "--pyramid", "1"]
    assert run(colours / "train", *arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    start = lines.index("warp: mean class accuracy of the candidates")
    assert [line.split()[:2] for line in lines[start + 3 :]] == [["64", "1"], ["64", "4"], ["80", "1"], ["80", "4"]]


def test_a_voc_set_is_scored_by_its_own_protocol_on_its_own_test_set(scenes, tmp_path, capsys):
    file = tmp_path / "found.json"
    assert run(scenes, "--weights", "none", "--views", "full", "--held-out", "0.4", "--json", file, *QUICK) == 0
    result = json.loads(file.read_text())
    assert capsys.readouterr().out.startswith("VOC07 11-point mAP, ")
    assert result["protocol"] == "voc07"
    assert (result["learnt_from"], result["tested_on"]) == (16, 6)
    assert 0 < result["views"]["full"]["test"] <= 1


def test_objects_cut_out_have_one_label(scenes, tmp_path):
    file = tmp_path / "found.json"
    arguments = ["--crops", "--weights", "none", "--views", "warp", "--json", file]
    assert run(scenes, *arguments, *QUICK) == 0
    result = json.loads(file.read_text())
    assert result["protocol"] == "caltech101"
    objects = [len(sample.boxes) for sample in VOCDataset(scenes, "test")]
    assert 0 < result["tested_on"] <= sum(objects)


@pytest.mark.parametrize("features", ["spp", "fc7"])
def test_a_models_own_pyramid_and_size_are_used(colours, tmp_path, features, capsys):
    path = tmp_path / "model.safetensors"
    options = ClassifierOptions(levels=(1, 2), width=24, size=80)
    SPPClassifier(["x", "y"], "sppnet_small", options=options).eval().save(path)
    file = tmp_path / "found.json"
    arguments = ["--model", path, "--features", features, "--views", "full", "--json", file, "--quiet"]
    assert run(colours / "train", "--test", colours / "test", *arguments) == 0
    assert str(path) in capsys.readouterr().out
    assert json.loads(file.read_text())["views"]["full"]["chosen"]["scale"] == 80


def test_a_networks_own_fc_layers_are_used(colours, tmp_path, capsys):
    # Narrow layers of the right names: AlexNet's own have 58 million weights.
    whole = alexnet()
    state = {name: value for name, value in whole.state_dict().items() if name.startswith("features.")}
    fc6, fc7 = whole.classifier[1], whole.classifier[4]
    state |= {"classifier.1.weight": fc6.weight[:16], "classifier.1.bias": fc6.bias[:16]}
    state |= {"classifier.4.weight": fc7.weight[:8, :16], "classifier.4.bias": fc7.bias[:8]}
    path = tmp_path / "alexnet.safetensors"
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, path)
    arguments = ["--backbone", "alexnet", "--weights", path, "--features", "fc6", "--views", "warp", "--scales", "96"]
    assert run(colours / "train", *arguments, "--pyramid", "1,6", "--quiet") == 0
    assert "on fc6 features of alexnet" in capsys.readouterr().out
    assert run(colours / "train", *arguments, "--pyramid", "1,2", "--quiet") == 2
    assert "has no level 6" in capsys.readouterr().err


def test_unreadable_photographs_are_named_and_the_status_is_1(tmp_path, capsys):
    write_class_folders(tmp_path / "train", {"blue": 8, "green": 8}, seed=0)
    (tmp_path / "train" / "blue" / "0.png").write_bytes(b"no image")
    file = tmp_path / "found.json"
    assert run(tmp_path / "train", "--weights", "none", "--json", file, *QUICK) == 1
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert "blue/0.png: not an image" in warnings[0]
    assert json.loads(file.read_text())["failed"] == [str(tmp_path / "train" / "blue" / "0.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--views", "full,whole"], "expected any of full,crop,warp, got 'full,whole'"),
        (["--C", "1,0"], "expected positive numbers with commas between them, got '1,0'"),
        (["--C", "1,inf"], "expected positive numbers"),
        (["--C", "x"], "expected positive numbers"),
        (["--held-out", "0"], "--held-out must be more than 0 and less than 1, not 0.0"),
        (["--splits", "1"], "--splits must be 2 or more and --per-class two numbers, not 1 and 30,50"),
        (["--per-class", "30"], "not 0 and 30"),
        (["--scales", "32"], "the scale of photographs must be 64 pixels or more, not 32"),
        (
            ["--features", "fc6"],
            "squeezenet1_1 with the weights 'none' and the map of features.12.cat has no trained fc",
        ),
        (["--model", "m.safetensors"], "--model contains its network; do not combine it with --backbone"),
        (["--stride", "20"], "invalid choice: 20"),
        (["--test", "TRAIN"], "of its 30 examples are from photographs of"),
        (["--test", "SCENES"], "its photographs have several labels each, unlike those of"),
    ],
)
def test_wrong_calls_are_one_line(colours, scenes, arguments, message, capsys):
    places = {"TRAIN": colours / "train", "SCENES": scenes}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert run(colours / "train", "--weights", "none", "--quiet", *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--protocol", "caltech101"], ["--splits", "3"]])
def test_several_labels_have_no_accuracy(scenes, arguments, capsys):
    assert run(scenes, "--weights", "none", "--quiet", *arguments) == 2
    assert "its photographs have several labels each; --protocol caltech101 and --splits are" in capsys.readouterr().err


def test_a_models_fc_layers_take_its_own_pyramid_only(colours, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    SPPClassifier(["x", "y"], options=ClassifierOptions(levels=(1, 2), width=24, size=64)).eval().save(path)
    assert run(colours / "train", "--model", path, "--features", "fc6", "--pyramid", "1,3", "--quiet") == 2
    assert "its fc layers take the pyramid 1,2; leave out --pyramid" in capsys.readouterr().err
