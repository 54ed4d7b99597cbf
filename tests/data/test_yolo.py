"""YOLO labels in the dialects of their exporters, and what is wrong with them."""

from argparse import Namespace
from itertools import pairwise

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.labelled_sources import open_labelled
from sppnet.data.open import layout_of, open_dataset
from sppnet.data.progress import messages_on_stderr
from sppnet.data.yolo import YOLODataset, label_file
from sppnet.scripts.datasets import dataset_from, set_name


def photograph(path, width=100, height=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((height, width, 3), np.uint8))
    return path


def labelled(folder, image, text, beside=False):
    """A photograph with its text file of labels, in ``labels`` instead of ``images`` or beside it."""
    path = photograph(folder / image)
    label = path.with_suffix(".txt") if beside else folder / image.replace("images", "labels", 1)
    label = label.with_suffix(".txt")
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(text)


def ultralytics(folder):
    """Ultralytics: names by number, sets below images/, and the path of the machine where it was made."""
    labelled(folder, "images/train/a.jpg", "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.2 0.4\n")
    labelled(folder, "images/train/deep/b.jpg", "")
    labelled(folder, "images/val/c.jpg", "1 0.5 0.5 1 1")
    (folder / "data.yaml").write_text(
        "path: /datasets/pets\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n"
    )


def roboflow(folder):
    """Roboflow: a folder for each set, with images and labels in it, and paths that begin above data.yaml."""
    labelled(folder, "train/images/a_jpg.rf.1.jpg", "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.2 0.4")
    labelled(folder, "train/images/b_jpg.rf.2.jpg", "")
    labelled(folder, "valid/images/c_jpg.rf.3.jpg", "1 0.5 0.5 1 1")
    (folder / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['cat', 'dog']\n\nroboflow:\n  license: MIT\n"
    )


def cvat(folder):
    """CVAT: lists of photographs, whose paths begin at a folder that is not there."""
    labelled(folder, "images/train/a.jpg", "1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.2 0.4")
    labelled(folder, "images/train/b.jpg", "")
    labelled(folder, "images/val/c.jpg", "1 0.5 0.5 1 1")
    (folder / "train.txt").write_text("data/images/train/a.jpg\ndata/images/train/b.jpg\n")
    (folder / "val.txt").write_text("data/images/val/c.jpg\n")
    (folder / "data.yaml").write_text("path: .\ntrain: train.txt\nval: [val.txt]\nnames: {0: cat, 1: dog}\n")


@pytest.mark.parametrize("make", [ultralytics, roboflow, cvat])
def test_sets_that_data_yaml_names(tmp_path, make):
    make(tmp_path)
    for path in (tmp_path, tmp_path / "data.yaml"):
        data = open_dataset(path, "train")
        assert isinstance(data, YOLODataset)
        assert (data.class_names, len(data), data.warnings) == (("cat", "dog"), 2, {})
        first = next(sample for sample in data if len(sample.boxes))
        np.testing.assert_allclose(first.boxes, [[40, 15, 60, 35], [0, 0, 20, 20]], atol=1e-4)
        assert first.labels.tolist() == [1, 0]
        assert not first.difficult.any()
        assert first.image.shape == (50, 100, 3)
        for name in ("val", "valid"):
            np.testing.assert_allclose(open_dataset(path, name)[0].boxes, [[0, 0, 100, 50]])
        assert len(open_dataset(path, "trainval")) == 3
        assert len({sample.id for sample in open_dataset(path, "trainval")}) == 3
        with pytest.raises(InputError, match="no image set 'test'; it has: train, val, trainval"):
            open_dataset(path, "test")


def test_label_studio_has_no_sets(tmp_path):
    labelled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.2 0.4")
    labelled(tmp_path, "images/b.jpg", "1 0.5 0.5 0.2 0.4")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "notes.json").write_text("{}")
    for image_set in (None, "trainval"):
        data = open_dataset(tmp_path, image_set)
        assert (data.class_names, [sample.id for sample in data]) == (("cat", "dog"), ["images/a.jpg", "images/b.jpg"])
    with pytest.raises(InputError, match="no image set 'test'; it has: trainval; all its photographs are one set"):
        open_dataset(tmp_path, "test")


def test_labelimg_writes_beside_the_photographs(tmp_path):
    labelled(tmp_path, "a.jpg", "0 0.5 0.5 0.2 0.4", beside=True)
    photograph(tmp_path / "b.jpg")
    (tmp_path / "classes.txt").write_text("cat\n")
    data = open_dataset(tmp_path, "trainval")
    assert [len(sample.boxes) for sample in data] == [1, 0]
    assert list(data.warnings) == ["photograph without a file of labels, taken to show no object"]


def test_folders_of_sets_need_no_config(tmp_path):
    labelled(tmp_path, "train/images/a.jpg", "0 0.5 0.5 0.2 0.4")
    labelled(tmp_path, "test/images/b.jpg", "1 0.5 0.5 0.2 0.4")
    assert layout_of(tmp_path) is YOLODataset
    # Without names the classes have their numbers.
    assert (open_dataset(tmp_path, "train").class_names, open_dataset(tmp_path, "test").class_names) == (
        ("0",),
        ("0", "1"),
    )


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.5 0.5 0.2 0.4", [40, 15, 60, 35]),
        ("0 0.5 0.5 0.2 0.4 0.93", [40, 15, 60, 35]),  # with a confidence
        ("0 0.1 0.2 0.3 0.1 0.2 0.8", [10, 5, 30, 40]),  # a polygon
        ("0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5", [10, 5, 90, 45]),  # the corners of a turned box
        ("0.0 0.999999 0.5 0.000002 1", None),
        ("0 1.0 0.5 0.2 1.000002", [90, 0, 100, 50]),  # beyond the edge
    ],
)
def test_a_line(tmp_path, line, box):
    labelled(tmp_path, "images/a.jpg", f"\n{line} \n")
    data = YOLODataset(tmp_path)
    if box is None:
        assert data[0].boxes.shape == (1, 4)
    else:
        np.testing.assert_allclose(data[0].boxes, [box], atol=1e-3)
    assert data.class_names == ("0",)


def test_keypoints_are_left_out(tmp_path):
    labelled(tmp_path, "images/train/a.jpg", "0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.9 0.9 1")
    (tmp_path / "data.yaml").write_text("train: images/train\nkpt_shape: [2, 3]\nnames: [person]\n")
    np.testing.assert_allclose(YOLODataset(tmp_path, "train")[0].boxes, [[40, 15, 60, 35]], atol=1e-4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat 0.5 0.5 0.2 0.4", "expected a class number and x y width height"),
        ("0 0.5 0.5 0.2", "expected a class number and x y width height"),
        ("0 0.1 0.2 0.3 0.1 0.2 0.8 0.4", "expected a class number and x y width height"),
        ("0.5 0.5 0.5 0.2 0.4", "expected a class number"),
        ("-1 0.5 0.5 0.2 0.4", "expected a class number"),
        ("0 nan 0.5 0.2 0.4", "expected a class number"),
        ("1e300 0.5 0.5 0.2 0.4", "expected a class number"),
        ("0 50 25 20 20", "line 2 has the number 50; .* not in pixels"),
        ("7 0.5 0.5 0.2 0.4", "has the class number 7; there are 2 names of classes"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    labelled(tmp_path, "images/a.jpg", f"0 0.5 0.5 0.2 0.4\n{line}\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=rf"labels/a\.txt: .*{message}"):
        YOLODataset(tmp_path)


def test_lists_of_another_machine_and_of_windows(tmp_path):
    labelled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.2 0.4")
    photograph(tmp_path / "images" / "né.jpg")
    (tmp_path / "labels" / "ne\u0301.txt").write_text("0 0.5 0.5 0.2 0.4")
    (tmp_path / "sets").mkdir()
    names = [
        "..\\images\\a.jpg",
        "D:\\work\\images\\a.jpg",
        "/datasets/pets/images/a.jpg",
        str(tmp_path / "images/ne\u0301.jpg"),
    ]
    (tmp_path / "sets/list.txt").write_text("\n".join(names))
    (tmp_path / "data.yaml").write_text("train: sets\\list.txt\nnames: [cat]")
    data = YOLODataset(tmp_path, "train")
    assert (len({sample.path.resolve() for sample in data}), data.warnings) == (2, {})
    assert [len(sample.boxes) for sample in data] == [1] * len(data)


@pytest.mark.parametrize("name", ["../secret.jpg", "{}/secret.jpg", "..\\secret.jpg", "images/../../secret.jpg"])
def test_lists_name_no_photographs_elsewhere(tmp_path, name):
    photograph(tmp_path / "secret.jpg")
    folder = tmp_path / "set"
    labelled(folder, "images/a.jpg", "0 0.5 0.5 0.2 0.4")
    (folder / "list.txt").write_text(name.format(tmp_path))
    (folder / "data.yaml").write_text("train: list.txt\nnames: [cat]")
    with pytest.raises(InputError, match=r"list\.txt: lists the photograph .*secret\.jpg', which is not there"):
        YOLODataset(folder, "train")
    (folder / "data.yaml").write_text(f"path: {tmp_path}\ntrain: set/list.txt\nnames: [cat]")
    assert [sample.path.name for sample in YOLODataset(folder, "train")] == ["secret.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [", "not YAML"),
        ("names: " + "[" * 1000, "not YAML"),
        ("names: [!!int '']", "not YAML"),
        ("names: [!!timestamp x]", "not YAML"),
        (
            "a: &a [x, x]\n"
            + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmo"))
            + "names: [*o]",
            "a class is called",
        ),
        ("names: [{}]", "a class is called"),
        ('names: ["\\ud800"]\ntrain: images', "surrogates not allowed"),
        ("names: {.inf: a}\ntrain: images", "expected numbers from 0"),
        (f"names: [0x{5000 * 'f'}]\ntrain: images", "not a YOLO data set"),
        (f"names: [a]\ntrain: {300 * 'a'}", "names the photographs 'aaa.*aaa', which are not there"),
        ('names: [a]\ntrain: "a\\0b"', "which are not there"),
        ("names: [a]\ntrain: {a: b}", "which are not there"),
        ("train: images", "has no names of classes"),
        ("- a", "has no names of classes"),
        ("names: {a: b}\ntrain: images", "expected numbers from 0"),
        ("names: {-1: b}\ntrain: images", "expected numbers from 0"),
        ("names: {9999999999: b}\ntrain: images", "expected numbers from 0"),
        ("names: [a]\ntrain: nowhere", "names the photographs 'nowhere', which are not there"),
        ("names: [a]\ntrain: list.txt", "lists the photograph 'gone.jpg', which is not there"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_is_named(tmp_path, content, message):
    labelled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.2 0.4")
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        YOLODataset(tmp_path, "train")


def test_some_classes_in_another_order(tmp_path):
    labelled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.4 0.4\n2 0.5 0.5 0.6 0.4")
    (tmp_path / "data.yaml").write_text("train: images\nnames: {0: cat, 2: cow}\n")
    data = YOLODataset(tmp_path, "train", classes=["cow", "cat"])
    assert (data.class_names, data[0].labels.tolist()) == (("cow", "cat"), [1, 0])
    assert YOLODataset(tmp_path, "train").class_names == ("cat", "1", "cow")


def test_a_damaged_photograph_does_not_cost_the_others(tmp_path):
    labelled(tmp_path, "images/a.jpg", "0 0.5 0.5 0.2 0.4")
    labelled(tmp_path, "images/b.jpg", "0 0.5 0.5 0.2 0.4")
    (tmp_path / "images/b.jpg").write_bytes(b"no photograph")
    data = YOLODataset(tmp_path)
    assert [sample.id for sample in data] == ["images/a.jpg"]
    assert data.warnings == {"photograph that cannot be read, left out": 1}


def test_boxes_beyond_the_edge_are_counted_unless_it_is_rounding(tmp_path):
    labelled(tmp_path, "images/a.jpg", "0 0.98 0.5 0.1 0.4\n0 0.9 0.5 0.200001 1\n0 1.5 0.5 0.2 0.4\n0 0.5 0.5 0 0.4")
    data = YOLODataset(tmp_path)
    np.testing.assert_allclose(data[0].boxes, [[93, 15, 100, 35], [80, 0, 100, 50]], atol=1e-3)
    assert data.warnings == {
        "box without area, dropped": 1,
        "box outside the image, dropped": 1,
        "box partly outside the image, cut to it": 1,
    }


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("a.jpg", "a.txt"),
        ("photos/a.b.jpg", "photos/a.b.txt"),
    ],
)
def test_where_the_labels_of_a_photograph_are(tmp_path, image, label):
    (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
    assert label_file(tmp_path / image) == tmp_path / label


def test_labels_beside_a_photograph_count_where_a_folder_above_is_called_images(tmp_path):
    labelled(tmp_path / "images/set", "a.jpg", "0 0.5 0.5 0.2 0.4", beside=True)
    (tmp_path / "labels").mkdir()
    (tmp_path / "images/set/classes.txt").write_text("cat\n")
    assert len(open_dataset(tmp_path / "images/set", "trainval")[0].boxes) == 1


def test_photographs_and_objects_serve_classifiers(tmp_path):
    roboflow(tmp_path)
    whole = open_labelled([tmp_path], "train")
    assert (whole.multi_label, whole.targets.tolist()) == (True, [[1, 1], [0, 0]])
    crops = open_labelled([tmp_path], "val", crops=True)
    assert (crops.labels.tolist(), crops[0].image.shape) == ([1], (50, 100, 3))


def test_what_was_found_is_said_in_a_line(tmp_path, capsys):
    ultralytics(tmp_path)
    arguments = Namespace(dataset=tmp_path, set="trainval", images=None, quiet=False)
    with messages_on_stderr():
        dataset_from(arguments)
        dataset_from(Namespace(**{**vars(arguments), "quiet": True}))
    assert capsys.readouterr().err == f"YOLO labels, 2 classes, 3 images: {tmp_path} trainval\n"
    assert set_name(Namespace(dataset=tmp_path / "data.yaml", set="val")) == f"{tmp_path}/data.yaml val"
