import os
from pathlib import Path

import pytest
from PIL import Image
from sppnet.data.errors import InputError
from sppnet.data.outputs import files_named, refuse_inputs
from sppnet.data.scenes import make_scenes


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir()
    Image.new("RGB", (6, 4)).save(path)
    return path


def refused(output, photo):
    with pytest.raises(InputError) as error:
        refuse_inputs([output.with_name("new"), output], [photo.with_name("absent"), photo])
    message = str(error.value)
    return str(output) in message and str(photo) in message and "\n" not in message


def test_the_same_path_and_other_ways_to_write_it(photo, monkeypatch):
    assert refused(photo, photo)
    assert refused(photo.parent / ".." / "photos" / "a.jpg", photo)
    monkeypatch.chdir(photo.parent)
    assert refused(Path("a.jpg"), photo)


def test_links_of_every_kind(photo, tmp_path):
    (tmp_path / "link.jpg").symlink_to(photo)
    (tmp_path / "folder").symlink_to(photo.parent)
    os.link(photo, tmp_path / "hard.jpg")
    for other in (tmp_path / "link.jpg", tmp_path / "folder" / "a.jpg", tmp_path / "hard.jpg"):
        assert refused(other, photo)
        assert refused(photo, other)


def test_other_files_may_be_written_over(photo, tmp_path):
    other = tmp_path / "b.jpg"
    other.write_bytes(photo.read_bytes())  # the same bytes are not the same file
    refuse_inputs([other], [photo, "a\0b", tmp_path])


def test_inputs_are_not_looked_at_when_nothing_is_there(photo, tmp_path):
    def inputs():
        raise AssertionError("a million files would be looked at for nothing")
        yield

    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    refuse_inputs([tmp_path / "new", tmp_path / "dangling"], inputs())


def test_what_arguments_stand_for(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenes = make_scenes(tmp_path / "kit" / "scenes", {"val": 1}, size=(40, 50))
    (scenes / "evaluation").mkdir()
    (scenes / "evaluation" / "metrics.json").write_text("earlier results")
    labelled = {"JPEGImages/val_00000.jpg", "Annotations/val_00000.xml", "ImageSets/Main/val.txt"}
    for folder in (scenes, scenes.parent):
        assert set(files_named(folder)) == {scenes / name for name in labelled}
    yolo = tmp_path / "yolo"
    for name in (
        "images/a.jpg",
        "labels/a.txt",
        "labels/results.txt",
        "data.yaml",
        "b.jpg",
        "b.xml",
        "b.json",
        "c.xml",
    ):
        (yolo / name).parent.mkdir(parents=True, exist_ok=True)
        (yolo / name).write_bytes(photo.read_bytes())
    inputs = {yolo / name for name in ("images/a.jpg", "labels/a.txt", "data.yaml", "b.jpg", "b.xml", "b.json")}
    assert set(files_named(yolo)) == set(files_named(yolo / "data.yaml")) == inputs
    assert list(files_named("photos")) == [Path("photos/a.jpg")]
    assert list(files_named("photos/a.jpg")) == [Path("photos/a.jpg")]
    assert list(files_named("photos/*.jpg")) == ["photos/a.jpg"]
    assert [path.name for path in files_named("animals")] == ["animals.safetensors"]
    assert list(files_named("imagenet")) == []
