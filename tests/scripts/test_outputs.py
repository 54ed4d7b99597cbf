"""No command overwrites its input: it exits with status 2 and one line before any computation."""

import os

import pytest
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a labelled set, photographs, a COCO file and files that stand for models."""
    monkeypatch.chdir(tmp_path)
    make_scenes("scenes", {"train": 2}, size=(40, 50))
    photograph = (tmp_path / "scenes/JPEGImages/train_00000.jpg").read_bytes()
    names = ["set/images/a.jpg", "set/images/b.jpg", "set/recall.json", "set/a.npz", "set/metrics.json", "w.pth"]
    names += ["set/detections.json", "set/coco.json", "set/curves.csv", "m.safetensors", "x-windows.svg", "bars.svg"]
    names += ["classes/cat/a.jpg", "classes/dog/b.jpg", "m.work/student.safetensors", "set/predictions.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(photograph)
    (tmp_path / "set/recall.json").write_text('{"images": [], "annotations": [], "categories": []}')
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


PHOTOGRAPH, LIST = "scenes/JPEGImages/train_00000.jpg", "scenes/ImageSets/Main/train.txt"
ANNOTATION = "scenes/Annotations/train_00001.xml"


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ("detect set/images -o set", "set/images/a.jpg"),
        ("detect set/images/*.jpg -o set", "set/images/a.jpg"),
        ("detect set/images/b.jpg -o set --model m.safetensors", "set/images/b.jpg"),
        ("detect set/images -o set --model set/detections.json --no-draw", "set/detections.json"),
        ("detect w.pth -o set --model animals --model set/coco.json --no-draw --format coco", "set/coco.json"),
        ("propose set/a.npz -o set", "set/a.npz"),
        ("propose --dataset set/recall.json --images set/images -o set", "set/recall.json"),
        ("evaluate set/metrics.json --images set/images --model m.safetensors -o set", "set/metrics.json"),
        ("evaluate scenes --set train --model set/curves.csv -o set", "set/curves.csv"),
        (f"train scenes --out {PHOTOGRAPH}", PHOTOGRAPH),
        (f"train scenes --out {ANNOTATION}", ANNOTATION),
        (f"train scenes --out {LIST}", LIST),
        ("train scenes --weights w.pth --out w.pth", "w.pth"),
        ("train set/coco.json --images set/images --out set/coco.json", "set/coco.json"),
        ("distil set/images --out set/images/b.jpg", "set/images/b.jpg"),
        ("distil set/images --weights w.pth --out w.pth", "w.pth"),
        ("classify train classes --out classes/dog/b.jpg", "classes/dog/b.jpg"),
        (f"classify train classes --val scenes --out {LIST}", LIST),
        ("classify train classes --weights m.safetensors --out m.safetensors", "m.safetensors"),
        ("classify evaluate classes --model set/predictions.csv -o set", "set/predictions.csv"),
        ("classify predict set/images --model m.safetensors -o set/images/a.jpg", "set/images/a.jpg"),
        ("classify predict set/images --model m.safetensors -o m.safetensors", "m.safetensors"),
        ("classify svm classes --json classes/cat/a.jpg", "classes/cat/a.jpg"),
        ("classify svm classes --test set/coco.json --json set/coco.json", "set/coco.json"),
        (f"make-model animals scenes --out {LIST}", LIST),
        (
            "make-model animals scenes --weights m.work/student.safetensors --out new --work m.work",
            "m.work/student.safetensors",
        ),
        ("benchmark detect --images set/images --json set/images/a.jpg", "set/images/a.jpg"),
        ("benchmark detect --images set --model x-windows.svg --plot x.svg", "x-windows.svg"),
        ("benchmark rcnn --accuracy scenes --models m.safetensors bars.svg --plot bars.svg", "bars.svg"),
        (f"benchmark table --dataset scenes --json {LIST}", LIST),
        (f"benchmark proposals --dataset scenes --set train --json {ANNOTATION}", ANNOTATION),
        ("benchmark views set/images/a.jpg --json set/images/a.jpg", "set/images/a.jpg"),
    ],
)
def test_an_output_that_is_an_input_is_refused(here, capsys, call, output):
    before = contents(here)
    assert main(call.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip()
    assert line.startswith(f"sppnet: error: {output}: would be written over, but is an input (")
    assert "\n" not in line
    assert contents(here) == before


def test_links_to_photographs_are_refused_too(here, capsys):
    (here / "linked").mkdir()
    (here / "linked" / "images").symlink_to(here / "set" / "images")
    (here / "hard" / "images").mkdir(parents=True)
    os.link(here / "set" / "images" / "b.jpg", here / "hard" / "images" / "b.jpg")
    for folder, name in (("linked", "a"), ("hard", "b")):
        assert main(["detect", "set/images", "-o", folder]) == 2
        assert f"{folder}/images/{name}.jpg: would be written over" in capsys.readouterr().err


def test_scenes_leave_another_data_set_alone(here, capsys):
    (here / LIST).write_text("000005\n000007\n")
    before = contents(here)
    assert main(["scenes", "scenes", "--val", "1"]) == 2
    assert f"{LIST}: lists 000005, which is no generated scene" in capsys.readouterr().err
    assert contents(here) == before


def test_scenes_may_be_made_again(here):
    assert main(["scenes", "scenes", "--train", "3", "--val", "1", "--quiet"]) == 0
    assert (here / LIST).read_text().split() == ["train_00000", "train_00001", "train_00002"]


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("detect set/images -o w.pth", "w.pth"),
        ("propose set/images -o w.pth", "w.pth"),
        ("propose set/images -o w.pth/deep", "w.pth"),
        ("propose --dataset scenes --set train -o lists", "lists/recall.json"),
        ("evaluate scenes --set train --model m.safetensors -o w.pth", "w.pth"),
        ("evaluate scenes --set train --model m.safetensors -o lists", "lists/metrics.json"),
        ("train scenes --set train --out set", "set"),
        ("train scenes --set train --out w.pth/m", "w.pth"),
        ("train scenes --set train --out lists/new", "lists/new.html"),
        ("train scenes --set train --out new --work w.pth", "w.pth"),
        ("check scenes -o w.pth", "w.pth"),
        ("check scenes -o lists", "lists/check.json"),
        ("convert scenes --to yolo -o w.pth", "w.pth"),
        ("convert scenes --to yolo -o w.pth/new", "w.pth"),
        ("scenes w.pth", "w.pth"),
        ("distil set/images --out set", "set"),
        ("distil set/images --out new --work w.pth", "w.pth"),
        ("distil set/images --out n", "n.work"),
        ("classify train classes --out set", "set"),
        ("classify train classes --out new --work w.pth/deep", "w.pth"),
        ("classify evaluate classes --model m.safetensors -o w.pth", "w.pth"),
        ("classify evaluate classes --model m.safetensors -o lists/of", "lists/of/predictions.csv"),
        ("classify predict set/images --model m.safetensors -o set", "set"),
        ("classify predict set/images --model m.safetensors -o w.pth/labels.json", "w.pth"),
        ("classify svm classes --json set", "set"),
        ("make-model animals scenes --out set", "set"),
        ("make-model animals scenes --out new --results w.pth", "w.pth"),
        ("make-model animals scenes --out new --work w.pth", "w.pth"),
        ("benchmark views --json set", "set"),
        ("benchmark pooling --json w.pth/figures.json", "w.pth"),
        ("benchmark detect --images set/images --plot lists/plot.svg", "lists/plot-windows.svg"),
        ("benchmark rcnn --plot lists/bars.svg", "lists/bars.svg"),
        ("benchmark table --dataset scenes --work w.pth", "w.pth"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_found_out_before_the_work(here, capsys, monkeypatch, call, place):
    for name in ("recall.json", "metrics.json", "new.html", "check.json", "of/predictions.csv", "plot-windows.svg"):
        (here / "lists" / name).mkdir(parents=True)
    (here / "lists" / "bars.svg").mkdir()
    (here / "n.work").write_text("no folder")
    before = sorted(here.rglob("*"))
    monkeypatch.setattr("sppnet.data.image.read_image", None)  # there must be no work
    assert main(call.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"sppnet: error: {place}: ")
    assert "; expected a f" in line
    assert sorted(here.rglob("*")) == before


def test_layouts_are_not_written_into_another_data_set(here, capsys):
    before = contents(here)
    for layout in ("voc", "coco", "yolo"):
        assert main(["convert", "scenes", "--to", layout, "-o", "set"]) == 2
        assert "set: is there already; expected a new folder, or an empty one" in capsys.readouterr().err
    assert contents(here) == before
