import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from sppnet.data.errors import InputError
from sppnet.data.outputs import check_writable, files_named, make_writable, refuse_inputs, report_disk
from sppnet.data.scenes import make_scenes
from sppnet.data.store import writable_text


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


def unwritable(*places, files=()):
    with pytest.raises(InputError) as error:
        check_writable(files, places)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_places_that_can_be_written_to_and_nothing_is_made(photo, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    check_writable([photo, tmp_path / "new.json", tmp_path / "a" / "b" / "new.json"], [tmp_path, tmp_path / "c" / "d"])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_of_the_wrong_kind(photo, tmp_path):
    folder = photo.parent
    assert unwritable(files=[folder]) == f"{folder}: is a folder; expected a file to write"
    (folder / "dangling").symlink_to(folder / "absent")
    for place in (photo, photo / "deep" / "deeper", folder / "dangling" / "deep"):
        named = photo if photo in (place, *place.parents) else folder / "dangling"
        for message in (unwritable(place), unwritable(files=[place / "new.json"])):
            assert message.startswith(f"{named}: cannot be written (")
            assert message.endswith("; expected a folder")
        with pytest.raises(InputError, match="; expected a folder"):
            make_writable(place)
    long = tmp_path / ("n" * 300)
    assert unwritable(files=[long]).startswith(f"{long}: cannot be written (")
    assert unwritable(long).startswith(f"{long}: cannot be written (")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_file_that_is_no_ordinary_one_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert (
        unwritable(files=[tmp_path / "pipe"]) == f"{tmp_path / 'pipe'}: is no ordinary file; expected a file to write"
    )


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    message = f"{tmp_path}: cannot be written (Permission denied); expected a folder"
    assert unwritable(files=[tmp_path / "new" / "a.json"]) == unwritable(tmp_path / "new") == message


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("k\xf6ln \U0001f431.jpg", "k\xf6ln \U0001f431.jpg"),
        ("\udcb0\udca1.jpg", "\\xb0\\xa1.jpg"),
        ("k\udcc3\udcb6ln.jpg", "k\xf6ln.jpg"),
        ("half \ud83d", "half \\xed\\xa0\\xbd"),
    ],
)
def test_names_that_utf8_cannot_say(name, written):
    assert writable_text(name) == written


@pytest.mark.parametrize(("free", "short"), [(1_400_000, True), (1_600_000, False)])
def test_what_is_there_already_needs_no_disk(tmp_path, messages, capsys, monkeypatch, free, short):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.npy").write_bytes(bytes(500_000))
    monkeypatch.setattr("sppnet.data.outputs.disk_usage", lambda folder: SimpleNamespace(free=free))
    report_disk(tmp_path, 2_000_000, quiet=False)
    told, *warned = capsys.readouterr().err.splitlines()
    assert told == f"disk: about 2 MB in {tmp_path}, 0 MB of them there already"
    assert [line.startswith(f"warning: {tmp_path}: about 2 MB are needed") for line in warned] == [True] * short
    report_disk(tmp_path, 2_000_000, quiet=True)
    assert len(capsys.readouterr().err.splitlines()) == short
