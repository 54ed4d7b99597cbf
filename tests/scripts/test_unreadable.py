"""``sppnet detect`` and ``evaluate`` with unreadable images: each is named, the rest is processed, status 1."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from random_models import random_model
from sppnet.data.formats import read_detections_json
from sppnet.data.image import write_image
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main

BROKEN = (1, 2, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six scenes of which three are no pictures, and a model with random SVMs."""
    folder = tmp_path_factory.mktemp("unreadable")
    make_scenes(folder / "scenes", {"val": 6}, seed=0, size=(96, 128))
    for number in BROKEN:
        pictures(folder)[number].write_text("no picture")
    random_model().save(folder / "model.safetensors")
    return folder


def pictures(folder):
    return sorted((folder / "scenes" / "JPEGImages").iterdir())


def check(folder, out, error):
    """The unreadable files are named one after the other on stderr and in the results, which have all the others."""
    broken = [str(pictures(folder)[number]) for number in BROKEN]
    lines = [line for line in error.splitlines() if line.startswith("sppnet: ")]
    assert [line.split(": ")[1] for line in lines] == broken
    results = read_detections_json(out / "detections.json")
    assert list(results.failed) == broken
    assert all("not an image" in reason for reason in results.failed.values())
    assert [image.file for image in results.images] == [
        str(path) for path in pictures(folder) if str(path) not in broken
    ]


def test_detect(folder, tmp_path, capsys):
    images, model = folder / "scenes" / "JPEGImages", folder / "model.safetensors"
    assert main(["detect", str(images), "--model", str(model), "-o", str(tmp_path), "--threshold", "-10"]) == 1
    error = capsys.readouterr().err
    check(folder, tmp_path, error)
    assert "detecting: 6 in " in error
    drawn = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert drawn == [path.name for number, path in enumerate(pictures(folder)) if number not in BROKEN]


def test_a_photograph_that_cannot_be_drawn_is_named_and_the_batch_goes_on(folder, tmp_path, capsys):
    wide = tmp_path / "wide.png"
    write_image(wide, np.zeros((4, 65501, 3), np.uint8))
    others = [pictures(folder)[0], pictures(folder)[3]]
    out = tmp_path / "out"
    call = ["detect", str(others[0]), str(wide), str(others[1]), "--model", str(folder / "model.safetensors")]
    assert main([*call, "-o", str(out), "--threshold", "-10"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sppnet: ")]
    results = read_detections_json(out / "detections.json")
    assert [image.file for image in results.images] == [str(others[0]), str(wide), str(others[1])]
    assert lines == [f"sppnet: {error}" for error in results.failed.values()]
    assert list(results.failed) == [str(wide)]
    assert "65501 x 4 pixels; a JPEG file has at most 65500 a side" in lines[0]
    assert sorted(path.name for path in (out / "images").iterdir()) == [path.name for path in others]


def test_a_full_disk_costs_the_drawings_only(folder, tmp_path, monkeypatch, capsys):
    def full(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sppnet.data.drawings.write_image", full)
    call = ["detect", str(pictures(folder)[0]), str(pictures(folder)[3]), "--model", str(folder / "model.safetensors")]
    assert main([*call, "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("No space left on device") == 2
    results = read_detections_json(tmp_path / "detections.json")
    assert (len(results.images), len(results.failed)) == (2, 2)


def test_long_names_are_shortened_and_stay_apart(folder, tmp_path):
    names = ["x" * 251 + ".jpg", "x" * 250 + "y.jpg", "x" * 255, "é" * 125 + ".jpg", "é" * 127]
    for number, name in enumerate(names):
        (tmp_path / str(number)).mkdir()
        shutil.copy(pictures(folder)[0], tmp_path / str(number) / name)
    shutil.copy(pictures(folder)[0], tmp_path / "0" / names[1])
    paths = [str(tmp_path / str(number) / name) for number, name in [*enumerate(names), (0, names[1])]]
    call = ["detect", *paths, "--model", str(folder / "model.safetensors"), "--quiet", "-o", str(tmp_path / "out")]
    assert main(call) == 0
    made = {os.fsencode(path.name) for path in (tmp_path / "out" / "images").iterdir()}
    assert len(made) == len(paths)
    assert max(map(len, made)) == 255
    assert len(read_detections_json(tmp_path / "out" / "detections.json").images) == len(paths)
    assert main(["propose", *paths, "--max", "5", "--quiet", "-o", str(tmp_path / "proposals")]) == 0
    assert len(list((tmp_path / "proposals").glob("*.npz"))) == len(paths)


def test_a_folder_that_cannot_be_written_is_said_first(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("sppnet.scripts.detection.detect_all", None)
    call = ["detect", str(pictures(folder)[0]), "--model", str(folder / "model.safetensors"), "--quiet"]
    for more in ([], ["--no-draw"]):
        assert main([*call, *more, "-o", str(tmp_path / "file")]) == 2
        assert f"{tmp_path / 'file'}" in (error := capsys.readouterr().err)
        assert "cannot be written" in error


def test_a_second_run_does_not_take_the_drawings_of_the_first(folder, tmp_path, monkeypatch):
    shutil.copy(pictures(folder)[0], tmp_path / "a.png")
    shutil.copy(pictures(folder)[3], tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)
    call = ["detect", ".", "--model", str(folder / "model.safetensors"), "--quiet"]
    for out in ("detections", "detections", "other", "detections"):
        assert main([*call, "-o", out]) == 0
        results = read_detections_json(tmp_path / out / "detections.json")
        assert [image.file for image in results.images] == ["a.jpg", "a.png"]
        assert sorted(path.name for path in (tmp_path / out / "images").iterdir()) == ["a-2.jpg", "a.jpg"]


def test_photographs_that_are_not_inputs_are_not_drawn_over(folder, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    own = tmp_path / "images" / pictures(folder)[0].name
    shutil.copy(pictures(folder)[0], own)
    before = own.read_bytes()
    call = ["detect", str(pictures(folder)[0]), "--model", str(folder / "model.safetensors"), "-o", str(tmp_path)]
    assert main(call) == 2
    assert f"{own}: already exists and was not drawn by this command" in capsys.readouterr().err
    assert own.read_bytes() == before
    assert not (tmp_path / "detections.json").exists()
    assert main([*call, "--no-draw", "--quiet"]) == 0


def test_evaluate(folder, tmp_path, capsys):
    scenes, model = folder / "scenes", folder / "model.safetensors"
    assert main(["evaluate", str(scenes), "--set", "val", "--model", str(model), "-o", str(tmp_path)]) == 1
    check(folder, tmp_path, capsys.readouterr().err)
    assert json.loads((tmp_path / "metrics.json").read_text())["images"] == 6


def test_arguments_for_nothing_do_not_cost_the_others(folder, tmp_path, capsys):
    good = str(pictures(folder)[0])
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    shutil.copy(good, tmp_path / "photos")
    (tmp_path / "photos/a.heic").write_bytes(b"x")
    bad = [str(tmp_path / name) for name in ("empty", "*.png", "link.jpg")]
    arguments = [bad[0], bad[1], str(tmp_path / "photos"), bad[2], "--quiet", "-o", str(tmp_path / "out")]
    assert main(["detect", *arguments, "--model", str(folder / "model.safetensors")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in errors] == [bad[0], bad[1], "warning", bad[2]]
    assert "1 x .heic file, a format that is not read, left out" in errors[2]
    results = read_detections_json(tmp_path / "out/detections.json")
    assert sorted(results.failed) == sorted(bad)
    assert len(results.images) == 1
    assert main(["propose", *arguments]) == 1
    assert len(list((tmp_path / "out").glob("*.npz"))) == 1
    assert main(["detect", *bad[:2], "-o", str(tmp_path / "out"), "--quiet"]) == 2
