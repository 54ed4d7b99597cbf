"""``sppnet convert``: all sets of a dataset in another layout, and what it says."""

import pytest
from sppnet.data.open import open_dataset, open_sets
from sppnet.data.scenes import make_scenes
from sppnet.data.writers import WRITERS
from sppnet.scripts import convert
from sppnet.scripts.cli import main


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_scenes(tmp_path / "scenes", {"train": 4, "val": 2}, seed=0, size=(96, 128))
    return tmp_path / "scenes"


def test_what_the_help_offers_can_be_written():
    assert set(convert.LAYOUTS) == set(WRITERS)


@pytest.mark.parametrize("layout", ["voc", "yolo"])
def test_all_sets_are_written(scenes, capsys, layout):
    assert main(["convert", "scenes", "--to", layout, "-o", "new"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "VOC labels to new: 4 classes; images: train 4, val 2"
    before, after = open_sets(scenes), open_sets("new")
    assert list(after) == ["train", "val"]
    for name, of_set in before.items():
        assert after[name].class_names == of_set.class_names
        assert [len(sample.boxes) for sample in after[name]] == [len(sample.boxes) for sample in of_set]


def test_coco_files_have_the_names_of_the_sets(scenes, capsys):
    assert main(["convert", "scenes", "--to", "coco", "-o", "new", "--classes", "star,disc", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    data = open_dataset("new/val.json", images="new/images")
    assert (len(data), data.class_names) == (2, ("star", "disc"))
    assert main(["convert", "new/val.json", "--images", "new/images", "--to", "voc", "-o", "back"]) == 0
    assert len(open_dataset("back", "val")) == 2


def test_a_single_set_can_be_split(scenes, capsys):
    main(["convert", "scenes", "--to", "coco", "-o", "new", "--quiet"])
    command = ["convert", "new/train.json", "--images", "new/images", "--to", "yolo", "--split", "0.75"]
    assert main([*command, "-o", "halves"]) == 0
    assert "images: test 1, train 3" in capsys.readouterr().err
    assert [len(open_dataset("halves", name)) for name in ("trainval", "test")] == [3, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scenes", "--to", "yolo", "-o", "scenes"], "scenes: is there already; expected a new folder"),
        (
            ["scenes", "--to", "yolo", "-o", "new", "--split", "0.8"],
            "--split is for a single set, and it has train, val",
        ),
        (["nowhere", "--to", "yolo", "-o", "new"], "nowhere: no such dataset"),
        (["scenes/JPEGImages", "--to", "yolo", "-o", "new"], "no labelled objects there"),
        (["scenes", "--to", "yolo", "-o", "new", "--split", "1"], "--split is a part of the photographs"),
    ],
)
def test_a_mistake_is_told_in_a_line(scenes, capsys, words, message):
    assert main(["convert", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (scenes.parent / "new").exists()


def test_quiet_says_what_is_lost(scenes, capsys):
    annotation = scenes / "Annotations/train_00000.xml"
    text = annotation.read_text().replace("<difficult>0</difficult>", "<difficult>1</difficult>")
    annotation.write_text(text)
    assert main(["convert", "scenes", "--to", "yolo", "-o", "new", "--quiet"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "difficult object, which YOLO labels cannot mark" in line
