"""``--split`` makes the same two sets for every command, whatever the seed."""

import json

import pytest
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.scripts.cli import build_parser, main
from sppnet.scripts.datasets import dataset_from


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(root, {"default": 10}, size=(96, 128))
    return root


def part(root, command, *options):
    args = build_parser().parse_args([command, str(root), "--split", "0.7", *options, "--quiet"])
    return [sample.id for sample in dataset_from(args)]


def test_training_and_test_set_have_no_photograph_in_common(root):
    learnt = part(root, "train", "--out", "m")
    assert learnt == part(root, "train", "--out", "m", "--seed", "3")
    test = part(root, "evaluate")
    assert test == part(root, "evaluate", "--seed", "3")
    assert (len(learnt), len(test)) == (7, 3)
    assert sorted(learnt + test) == sorted(sample.id for sample in VOCDataset(root, "default"))


def test_a_detector_is_trained_on_one_part_and_scored_on_the_other(root, tmp_path, capsys):
    model, quick = str(tmp_path / "m.safetensors"), ["--max-windows", "50", "--scales", "96"]
    network = ["--backbone", "sppnet_small", "--weights", "none", "--effort", "quick"]
    assert main(["train", str(root), "--split", "0.7", "--out", model, *network, *quick]) == 0
    text, errors = capsys.readouterr()
    assert "split at random, near duplicates together: trainval 7, test 3 images" in errors
    assert f"sppnet evaluate {root} --split 0.7 --model {model}" in text
    assert main(["evaluate", str(root), "--split", "0.7", "--model", model, "-o", str(tmp_path / "out"), *quick]) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["images"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "1.5"], "--split is a part of the photographs, such as 0.8, not 1.5"),
        (["--split", "0.5", "--set", "val"], "--split makes the sets trainval and test; there is no val"),
    ],
)
def test_what_cannot_be_split_is_refused(root, tmp_path, capsys, options, message):
    assert main(["train", str(root), "--out", str(tmp_path / "m"), *options]) == 2
    assert message in capsys.readouterr().err


def test_several_sets_are_not_split(tmp_path, capsys):
    make_scenes(tmp_path, {"train": 2, "val": 2}, size=(96, 128))
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "m"), "--split", "0.5"]) == 2
    assert "--split is for a single set, and it has train, val" in capsys.readouterr().err
