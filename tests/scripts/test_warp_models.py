"""R-CNN's method on the command line: train, info, detect, and options that do not fit it."""

import pytest
from sppnet.data.formats import read_detections_json
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warp")
    make_scenes(folder / "scenes", {"train": 5}, seed=0, size=(96, 128))
    return folder


def train(folder, *options):
    arguments = ["train", str(folder / "scenes"), "--set", "train", "--out", str(folder / "model"), "--quiet"]
    arguments += ["--backbone", "squeezenet1_1", "--weights", "none", "--pyramid", "1,2", "--classes", "disc,star"]
    return main([*arguments, "--method", "warp", *options])


def test_warped_model_goes_all_the_way(folder, capsys):
    assert train(folder) == 0
    assert (folder / "model.work" / "rows").is_dir()
    capsys.readouterr()
    assert main(["info", str(folder / "model")]) == 0
    card = capsys.readouterr().out
    assert "warped to   224 x 224, 16 of them context" in card
    assert "scales" not in card
    detect = ["detect", str(folder / "scenes"), "--model", str(folder / "model"), "-o", str(folder / "out"), "--quiet"]
    assert main([*detect, "--no-draw", "--threshold", "0", "--max-windows", "20"]) == 0
    results = read_detections_json(folder / "out" / "detections.json")
    assert len(results.images) == 5
    assert any(len(image.detections) for image in results.images)
    assert main([*detect, "--scales", "300"]) == 2
    assert "warped to one size" in capsys.readouterr().err


def test_scales_do_not_go_with_warping(folder, capsys):
    assert train(folder, "--scales", "300") == 2
    error = capsys.readouterr().err
    assert "--scales belongs to --method spp" in error
    assert len(error.splitlines()) == 1
