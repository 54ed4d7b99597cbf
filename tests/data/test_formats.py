import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sppnet import __version__
from sppnet.data import formats
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.formats import (
    ImageDetections,
    Results,
    read_detections_json,
    write_coco,
    write_csv,
    write_detections_json,
    write_voc,
)

NAMES = ("cat", "dog")


@pytest.fixture
def results():
    first = Detections([[0, 0, 10, 20], [1.5, 2, 3, 4]], [0.9, -0.25], [1, 0], NAMES)
    images = [
        ImageDetections("photos/a.jpg", 500, 375, first),
        ImageDetections("photos/b.png", 40, 30, Detections.empty(NAMES), id="2007_000001"),
        ImageDetections("c.jpg", 64, 48, Detections([[10, 20, 64, 48]], [1.27], [1], NAMES)),
    ]
    return Results("animals", NAMES, images, {"d.jpg": "d.jpg: no such file"})


def test_detections_json_is_the_documented_one(tmp_path, results):
    write_detections_json(tmp_path / "detections.json", results)
    assert json.loads((tmp_path / "detections.json").read_text()) == {
        "model": "animals",
        "version": __version__,
        "classes": ["cat", "dog"],
        "images": [
            {
                "file": "photos/a.jpg",
                "width": 500,
                "height": 375,
                "detections": [
                    {"label": "dog", "score": 0.9, "box": [0.0, 0.0, 10.0, 20.0]},
                    {"label": "cat", "score": -0.25, "box": [1.5, 2.0, 3.0, 4.0]},
                ],
            },
            {"file": "photos/b.png", "width": 40, "height": 30, "detections": []},
            {
                "file": "c.jpg",
                "width": 64,
                "height": 48,
                "detections": [{"label": "dog", "score": 1.27, "box": [10.0, 20.0, 64.0, 48.0]}],
            },
        ],
        "failed": [{"file": "d.jpg", "error": "d.jpg: no such file"}],
    }


@pytest.mark.parametrize("images", [0, 1, 3])
def test_detections_json_is_indented_json(tmp_path, images):
    """Written image by image, it has the bytes of what is written at once."""
    nasty = ['a "images": [].jpg', "b\n.jpg", "c \udcb0.jpg"][:images]
    found = Detections([[0, 0, 1, 2]], [0.25], [1], ("a", "b"))
    kept = Results('"images": []', ("a", "b"), [ImageDetections(name, 3, 4, found) for name in nasty], {"d": "gone"})
    write_detections_json(tmp_path / "a.json", kept)
    text = (tmp_path / "a.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
    assert [image["file"] for image in json.loads(text)["images"]] == nasty


def test_voc_lists_of_many_classes_are_written_in_parts(tmp_path, monkeypatch, results):
    before = {path.name: path.read_text() for path in write_voc(tmp_path / "at once", results)}
    monkeypatch.setattr(formats, "_OPEN_FILES", 1)
    assert {path.name: path.read_text() for path in write_voc(tmp_path / "in parts", results)} == before
    assert len(before) > 1


def test_detections_json_reads_back(tmp_path, results):
    write_detections_json(tmp_path / "detections.json", results)
    back = read_detections_json(tmp_path / "detections.json")
    assert (back.model, back.version, back.class_names, back.failed) == ("animals", __version__, NAMES, results.failed)
    for one, other in zip(back.images, results.images, strict=True):
        assert (one.file, one.width, one.height) == (other.file, other.width, other.height)
        np.testing.assert_array_equal(one.detections.boxes, other.detections.boxes)
        np.testing.assert_array_equal(one.detections.scores, other.detections.scores)
        np.testing.assert_array_equal(one.detections.labels, other.detections.labels)


@pytest.fixture
def probable(results):
    """The same of a calibrated model; in one image it found nothing, and its empty list does not say so."""
    images = [results.images[1]]
    for image, probabilities in ((results.images[0], [0.75, 0.01]), (results.images[2], [0.5])):
        images.append(replace(image, detections=image.detections.replace(probabilities=probabilities)))
    return replace(results, images=images)


def test_probabilities_stand_beside_the_scores(tmp_path, probable):
    write_detections_json(tmp_path / "detections.json", probable)
    value = json.loads((tmp_path / "detections.json").read_text())
    assert value["images"][1]["detections"] == [
        {"label": "dog", "score": 0.9, "probability": 0.75, "box": [0.0, 0.0, 10.0, 20.0]},
        {"label": "cat", "score": -0.25, "probability": 0.01, "box": [1.5, 2.0, 3.0, 4.0]},
    ]
    back = [image.detections.probabilities for image in read_detections_json(tmp_path / "detections.json").images]
    assert [p.tolist() for p in back] == [[], np.float32([0.75, 0.01]).tolist(), [0.5]]
    write_csv(tmp_path / "d.csv", probable)
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "label", "score", "probability", "x1", "y1", "x2", "y2"]
    assert rows[2] == ["photos/a.jpg", "cat", "-0.25", "0.01", "1.5", "2.0", "3.0", "4.0"]


def test_an_image_without_probabilities_has_empty_cells_beside_others(tmp_path, probable, results):
    write_csv(tmp_path / "d.csv", replace(probable, images=[results.images[0], probable.images[2]]))
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as file:
        assert [row[3] for row in csv.reader(file)] == ["probability", "", "", "0.5"]


def test_the_formats_of_others_have_the_scores_alone(tmp_path, probable, results):
    plain = replace(results, images=[replace(image, detections=without(image.detections)) for image in probable.images])
    for name, one in (("with", probable), ("without", plain)):
        write_coco(tmp_path / name / "coco.json", one)
        write_voc(tmp_path / name, one)
    for path in (tmp_path / "with").iterdir():
        assert path.read_bytes() == (tmp_path / "without" / path.name).read_bytes()
    assert len(list((tmp_path / "with").iterdir())) == 3


def without(found):
    return found.replace(probabilities=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[]", r"not a detections\.json"),
        ('{"classes": []}', r"not a detections\.json .*images"),
        (
            '{"model": "m", "version": "1", "classes": ["cat"], "failed": [], "images": [{"file": "a", "width": 1, '
            '"height": 1, "detections": [{"label": "cow", "score": 1, "box": [0, 0, 1, 1]}]}]}',
            r"not a detections\.json",
        ),
        (
            '{"model": "m", "version": "1", "classes": ["cat"], "failed": [], "images": [{"file": "a", "width": 1, '
            '"height": 1, "detections": [{"label": "cat", "score": 1, "probability": 2, "box": [0, 0, 1, 1]}]}]}',
            r"not a detections\.json .*from 0 to 1, not 2",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"other.json: {message}"):
        read_detections_json(path)


def test_csv_has_a_line_for_each_detection(tmp_path, results):
    write_csv(tmp_path / "d.csv", results)
    with open(tmp_path / "d.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "label", "score", "x1", "y1", "x2", "y2"],
        ["photos/a.jpg", "dog", "0.9", "0.0", "0.0", "10.0", "20.0"],
        ["photos/a.jpg", "cat", "-0.25", "1.5", "2.0", "3.0", "4.0"],
        ["c.jpg", "dog", "1.27", "10.0", "20.0", "64.0", "48.0"],
    ]


def test_voc_lists_have_one_based_inclusive_corners(tmp_path, results):
    paths = write_voc(tmp_path, results, "val")
    assert [path.name for path in paths] == ["comp4_det_val_cat.txt", "comp4_det_val_dog.txt"]
    assert paths[0].read_text() == "a -0.25 2.5 3.0 3.0 4.0\n"
    assert paths[1].read_text() == "a 0.9 1.0 1.0 10.0 20.0\nc 1.27 11.0 21.0 64.0 48.0\n"


def test_voc_lists_of_nothing_are_empty_files(tmp_path):
    for path in write_voc(tmp_path, Results("m", NAMES, [], {})):
        assert path.read_text() == ""


def test_a_class_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"class '\.\./x' cannot be part of a file name"):
        write_voc(tmp_path, Results("m", ("../x",), [], {}))


def test_coco_results_are_numbered_from_one(tmp_path, results):
    write_coco(tmp_path / "coco.json", results)
    assert json.loads((tmp_path / "coco.json").read_text()) == [
        {"image_id": 1, "category_id": 2, "bbox": [0.0, 0.0, 10.0, 20.0], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [1.5, 2.0, 1.5, 2.0], "score": -0.25},
        {"image_id": 3, "category_id": 2, "bbox": [10.0, 20.0, 54.0, 28.0], "score": 1.27},
    ]


def test_coco_results_take_the_dataset_s_numbers(tmp_path, results):
    write_coco(tmp_path / "coco.json", results, {"a": 700, "2007_000001": 8, "c": 9}, [17, 18])
    rows = json.loads((tmp_path / "coco.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(700, 18), (700, 17), (9, 18)]
    with pytest.raises(ValueError, match="no number for image 'c'"):
        write_coco(tmp_path / "coco.json", results, {"a": 700, "2007_000001": 8})
    with pytest.raises(ValueError, match="category_ids must be 2 numbers, not 1"):
        write_coco(tmp_path / "coco.json", results, category_ids=[1])


def test_classes_must_be_the_same_throughout():
    with pytest.raises(ValueError, match=r"a\.jpg: its classes must be"):
        Results("m", NAMES, [ImageDetections("a.jpg", 1, 1, Detections.empty(["cow"]))], {})


def test_names_that_are_no_text_are_written_with_escapes(tmp_path):
    """A file name may hold any bytes; Python has those that are no UTF-8 as lone surrogates."""
    found = Detections([[0, 0, 10, 20]], [0.5], [1], NAMES)
    results = Results("animals", NAMES, [ImageDetections("a\udcb0.jpg", 50, 40, found)], {})
    for write, name in ((write_csv, "a.csv"), (write_coco, "coco.json"), (write_detections_json, "a.json")):
        write(tmp_path / name, results)
    write_voc(tmp_path, results)
    assert "a\\xb0.jpg,dog" in (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert (tmp_path / "comp4_det_test_dog.txt").read_text(encoding="utf-8").startswith("a\\xb0 0.5 ")
    assert read_detections_json(tmp_path / "a.json").images[0].file == "a\udcb0.jpg"


def test_names_that_voc_readers_cannot_tell_apart_are_reported(tmp_path, results, messages, capsys):
    found = Detections.empty(NAMES)
    names = ["a/one.jpg", "b/one.jpg", "a b.jpg", "c\td.jpg"]
    write_voc(tmp_path, replace(results, images=[ImageDetections(name, 50, 40, found) for name in names]))
    said = capsys.readouterr().err
    assert "stand for several images: 1, such as 'one'" in said
    assert "contain blanks: 2, such as 'a b'" in said
    write_voc(tmp_path, results)
    assert capsys.readouterr().err == ""
