"""Photographs with XML annotations beside them: labelImg's folders, and Roboflow's with sets."""

import json

import numpy as np
import pytest
from sppnet.data.beside import AnnotatedFolder
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import layout_of, open_dataset
from sppnet.data.voc import write_annotation


def annotated(path, name="cat", box=(5, 6, 25, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((30, 40, 3), np.uint8))
    write_annotation(path.with_suffix(".xml"), path.name, (30, 40), np.array([box]), [name])


def test_a_folder_of_labelimg(tmp_path):
    annotated(tmp_path / "b.jpg", "dog")
    annotated(tmp_path / "more/a.png", "cat")
    write_image(tmp_path / "c.jpg", np.zeros((30, 40, 3), np.uint8))
    for image_set in (None, "trainval"):
        data = open_dataset(tmp_path, image_set)
        assert isinstance(data, AnnotatedFolder)
        assert (data.class_names, [sample.id for sample in data]) == (("cat", "dog"), ["b.jpg", "more/a.png"])
        assert data.warnings == {"photograph without an annotation, left out": 1}
        np.testing.assert_array_equal(data[0].boxes, [[5, 6, 25, 16]])
    assert [len(sample.boxes) for sample in open_dataset(tmp_path, classes=["dog"])] == [1, 0]
    with pytest.raises(InputError, match="no image set 'test'; it has: trainval; all its photographs are one set"):
        open_dataset(tmp_path, "test")


def test_folders_of_sets(tmp_path):
    for number, name in enumerate(("train", "valid", "test")):
        annotated(tmp_path / name / f"{number}.jpg")
    assert [open_dataset(tmp_path, name)[0].id for name in ("train", "val", "valid", "test")] == [
        "train/0.jpg",
        "valid/1.jpg",
        "valid/1.jpg",
        "test/2.jpg",
    ]
    assert len(open_dataset(tmp_path, "trainval")) == 2
    with pytest.raises(InputError, match="name an image set; it has: train, val, test, trainval"):
        open_dataset(tmp_path)


def test_a_wrong_annotation_is_named(tmp_path):
    annotated(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(InputError, match=r"a\.xml: an <object> has no"):
        open_dataset(tmp_path)


def test_photographs_alone_are_no_data_set(tmp_path):
    write_image(tmp_path / "a.jpg", np.zeros((30, 40, 3), np.uint8))
    assert layout_of(tmp_path) is None
    with pytest.raises(InputError, match="no labelled objects there; expected a folder in VOC or YOLO layout"):
        open_dataset(tmp_path, "train")


def labelme(path, shapes, change=()):
    """A photograph with LabelMe's file, as its version 5 writes it."""
    write_image(path, np.zeros((30, 40, 3), np.uint8))
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": [
            {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
            for label, kind, points in shapes
        ],
        "imagePath": path.name,
        "imageData": None,
        "imageHeight": 30,
        "imageWidth": 40,
    }
    path.with_suffix(".json").write_text(json.dumps(content | dict(change)))


def test_labelme(tmp_path):
    shapes = [
        ("dog", "rectangle", [[25, 16], [5, 6]]),
        ("cat", "polygon", [[1, 2], [11.5, 4], [6, 20]]),
        ("cat", "circle", [[20, 15], [23, 19]]),
        ("nose", "point", [[20, 15]]),
    ]
    labelme(tmp_path / "a.jpg", shapes)
    labelme(tmp_path / "b.jpg", [])
    (tmp_path / "notes.json").write_text("{}")
    data = open_dataset(tmp_path, "trainval")
    assert isinstance(data, AnnotatedFolder)
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data[0].boxes, [[5, 6, 25, 16], [1, 2, 11.5, 20], [15, 10, 25, 20]])
    assert data[0].labels.tolist() == [1, 0, 0]
    assert len(data[1].boxes) == 0
    assert data.warnings == {"LabelMe's shape 'point' without an inside, left out": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shapes": [{"label": "a", "points": [[1, 2]], "shape_type": "rectangle"}]},
            "expected two or more of x and y",
        ),
        ({"shapes": [{"points": [[1, 2], [3, 4]]}]}, "no 'label'"),
        ({"shapes": [{"label": " ", "points": [[1, 2], [3, 4]]}]}, "a shape has no label"),
        ({"shapes": [7]}, "not one of LabelMe's files"),
        ({"imageHeight": "high"}, "not one of LabelMe's files"),
        ({"imageHeight": float("inf")}, "not one of LabelMe's files"),
        ({"shapes": [{"label": None, "points": [[1, 2], [3, 4]]}]}, r"shapes\[0\]: .*a shape has no label"),
        ({"shapes": [{"label": "a", "points": [[1, 2], [10**400, 4]]}]}, r"shapes\[0\]: .*too large"),
        ({"shapes": [{"label": "a", "points": [[1, 2], [1e308, 4]], "shape_type": "circle"}]}, "has the points"),
        ({"shapes": [{"label": "a", "points": [[1, 2], [float("nan"), 4]]}]}, "has the points"),
    ],
)
def test_a_wrong_file_of_labelme_is_named(tmp_path, change, message):
    labelme(tmp_path / "a.jpg", [])
    labelme(tmp_path / "b.jpg", [], change)
    with pytest.raises(InputError, match=rf"b\.json: .*{message}"):
        open_dataset(tmp_path)


def test_json_of_great_depth_is_no_label_or_named(tmp_path):
    write_image(tmp_path / "a.jpg", np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "a.json").write_text('{"shapes": ' + 100_000 * "[")
    assert layout_of(tmp_path) is None
    labelme(tmp_path / "b.jpg", [])
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        open_dataset(tmp_path)


def test_annotations_are_found_in_another_normal_form(tmp_path):
    annotated(tmp_path / "né.jpg")
    (tmp_path / "né.xml").rename(tmp_path / "ne\u0301.xml")
    annotated(tmp_path / "a.jpg")
    data = open_dataset(tmp_path)
    assert ([len(sample.boxes) for sample in data], data.warnings) == ([1, 1], {})


def test_names_as_long_as_they_can_be(tmp_path):
    annotated(tmp_path / "a.jpg")
    write_image(tmp_path / f"{251 * 'b'}.jpg", np.zeros((30, 40, 3), np.uint8))
    assert len(open_dataset(tmp_path)) == 1


def test_json_files_of_others_are_no_labels(tmp_path):
    write_image(tmp_path / "a.jpg", np.zeros((30, 40, 3), np.uint8))
    for content in ("{}", "[1]", "no json", '{"shapes": 3}'):
        (tmp_path / "a.json").write_text(content)
        assert layout_of(tmp_path) is None
