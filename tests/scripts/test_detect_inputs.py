"""``sppnet detect`` and ``propose`` of lists, and of addresses that fsspec reads."""

import json

import fsspec
import numpy as np
import pytest
from random_models import random_model
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Scenes in a folder and in a store, a damaged file among both, and a model."""
    folder = tmp_path_factory.mktemp("inputs")
    make_scenes(folder / "scenes", {"val": 3}, seed=0, size=(96, 128))
    photographs = folder / "scenes" / "JPEGImages"
    (photographs / "broken.png").write_text("no picture")
    memory = fsspec.filesystem("memory")
    for path in photographs.iterdir():
        memory.pipe_file(f"/scenes/{path.name}", path.read_bytes())
    random_model().save(folder / "model.safetensors")
    yield folder
    memory.rm("/scenes", recursive=True)


def detect(world, out, images, *more):
    model = ["--model", str(world / "model.safetensors"), "--max-windows", "20", "--threshold", "-10"]
    return main(["detect", *map(str, images), "-o", str(out), *model, *more])


def found(out):
    """What is found, by file name; the errors of files, without their folders."""
    results = json.loads((out / "detections.json").read_text())
    images = {one["file"].rsplit("/", 1)[1]: one["detections"] for one in results["images"]}
    return images, [one["error"].rsplit("/", 1)[1] for one in results["failed"]]


def test_an_address_gives_what_its_files_give(world, tmp_path):
    assert detect(world, tmp_path / "files", [world / "scenes" / "JPEGImages"], "--report") == 1
    assert detect(world, tmp_path / "store", ["memory://scenes"], "--report", "--resume") == 1
    assert found(tmp_path / "store") == found(tmp_path / "files")
    assert found(tmp_path / "files")[1] == ["broken.png: not an image; expected JPEG, PNG, WebP, BMP, TIFF or GIF"]
    for part in ("images", "previews"):
        drawn = {path.name: path.read_bytes() for path in (tmp_path / "store" / part).iterdir()}
        assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "files" / part).iterdir()}
        assert len(drawn) == 3
    assert "memory:///scenes/val_00000.jpg" in (tmp_path / "store" / "report.html").read_text()


def test_a_list_gives_what_its_files_give(world, tmp_path, capsys):
    paths = sorted((world / "scenes" / "JPEGImages").iterdir())
    (tmp_path / "list.txt").write_text("\n".join([*map(str, paths), "memory://scenes/val_00001.jpg", "gone.jpg"]))
    assert detect(world, tmp_path / "out", [tmp_path / "list.txt"], "--no-draw") == 1
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [one["file"] for one in results["images"]] == [*map(str, paths[1:]), "memory://scenes/val_00001.jpg"]
    assert [one["file"] for one in results["failed"]] == [str(paths[0]), "gone.jpg"]
    assert f"sppnet: {tmp_path / 'list.txt'}: line 6: gone.jpg: no such image" in capsys.readouterr().err


def test_an_address_that_cannot_be_listed_is_a_wrong_call(world, tmp_path, capsys):
    assert detect(world, tmp_path, ["nonsense://scenes"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sppnet: error: nonsense://scenes: cannot be listed (Protocol not known: nonsense")
    assert error.count("\n") == 1


def test_boxes_are_proposed_at_an_address(world, tmp_path):
    assert main(["propose", "memory://scenes", "--max", "20", "-o", str(tmp_path / "store")]) == 1
    assert main(["propose", str(world / "scenes" / "JPEGImages"), "--max", "20", "-o", str(tmp_path / "files")]) == 1
    names = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "store").iterdir())
    for name in names:
        store, files = (np.load(tmp_path / place / name)["boxes"] for place in ("store", "files"))
        assert np.array_equal(store, files)
