"""Exports of CVAT and Label Studio, written as their documentation shows them, and what is wrong with them."""

import json

import numpy as np
import pytest
from sppnet.data.cleaning import Tally
from sppnet.data.errors import InputError
from sppnet.data.exports import ExportedDataset
from sppnet.data.image import write_image
from sppnet.data.open import layout_of, open_dataset, open_sets

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>pets</name><labels><label><name>cat</name></label></labels></task></meta>
  <image id="0" name="deep/a.jpg" width="100" height="50">
    <box label="dog" source="manual" occluded="0" xtl="10.00" ytl="5.50" xbr="30.25" ybr="45.00" z_order="0"/>
    <box label="cat" source="manual" occluded="1" xtl="40" ytl="20" xbr="60" ybr="30" rotation="90.0" z_order="0">
      <attribute name="age">2</attribute>
    </box>
    <polygon label="cat" occluded="0" points="1.0,2.0;11.5,4.0;6.0,20.0" z_order="0"/>
    <ellipse label="cat" cx="50" cy="25" rx="20" ry="10" z_order="0"/>
    <mask label="cat" rle="1" left="3" top="4" width="5" height="6" z_order="0"/>
    <points label="cat" points="1.0,2.0" z_order="0"/>
    <tag label="indoors"/>
  </image>
  <image id="1" name="b.jpg" width="100" height="50"></image>
</annotations>
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("images/deep/a.jpg", "images/b.jpg", "images/other/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, np.zeros((50, 100, 3), np.uint8))
    return tmp_path


def test_cvat(folder):
    (folder / "annotations.xml").write_text(CVAT)
    assert layout_of(folder) is ExportedDataset
    for data in (
        open_dataset(folder, "trainval"),
        open_dataset(folder / "annotations.xml", "any"),
        open_dataset(folder / "annotations.xml", images=folder / "images"),
        *open_sets(folder).values(),
    ):
        assert (data.class_names, data.layout) == (("cat", "dog"), "CVAT labels")
        assert [sample.path for sample in data] == [folder / "images/deep/a.jpg", folder / "images/b.jpg"]
        expected = [[10, 5.5, 30.25, 45], [45, 15, 55, 35], [1, 2, 11.5, 20], [30, 15, 70, 35], [3, 4, 8, 10]]
        np.testing.assert_allclose(data[0].boxes, expected, atol=1e-5)
        assert data[0].labels.tolist() == [1, 0, 0, 0, 0]
        assert len(data[1].boxes) == 0
        assert data.warnings == {"points without an inside, left out": 1}
    with pytest.raises(InputError, match="no image set 'test'; it has: trainval; all its photographs are one set"):
        open_dataset(folder, "test")


def result(kind, label, **value):
    """An object of Label Studio; numbers in per cent."""
    inner = {**value, kind: [label]}
    return {"type": kind, "original_width": 100, "original_height": 50, "from_name": "label", "value": inner}


RESULTS = [
    result("rectanglelabels", "dog", x=10, y=11, width=20.25, height=79, rotation=0),
    result("rectanglelabels", "cat", x=50, y=20, width=10, height=40, rotation=90),
    result("polygonlabels", "cat", points=[[1, 4], [11.5, 8], [6, 40]], closed=True),
    result("ellipselabels", "cat", x=50, y=50, radiusX=20, radiusY=20, rotation=0),
    result("keypointlabels", "nose", x=50, y=50, width=1),
    {"type": "choices", "value": {"choices": ["indoors"]}},
]


def task(results):
    return {"id": 5, "data": {"image": "b.jpg"}, "annotations": [{"result": results}]}


EXPECTED = [[10, 5.5, 30.25, 45], [30, 10, 50, 20], [1, 2, 11.5, 20], [30, 15, 70, 35]]


def check_label_studio(data):
    assert (data.class_names, data.layout) == (("cat", "dog"), "Label Studio labels")
    np.testing.assert_allclose(data[0].boxes, EXPECTED, atol=1e-5)
    assert data[0].labels.tolist() == [1, 0, 0, 0]
    assert data.warnings["keypointlabels without an inside, left out"] == 1


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/upload/1/0a1b2c3d-b.jpg", "images/b.jpg"),
        ("/data/local-files/?d=images/deep/a.jpg", "images/deep/a.jpg"),
        ("/data/local-files/?d=images%5Cother%5Ca.jpg", "images/other/a.jpg"),
        ("https://example.org/set/images/b.jpg?token=1", "images/b.jpg"),
    ],
)
def test_label_studio(folder, address, path):
    tasks = [
        {
            "id": 1,
            "data": {"image": address},
            "annotations": [{"was_cancelled": True, "result": []}, {"result": RESULTS}],
        },
        {"id": 2, "data": {"image": "/data/upload/1/c.jpg"}, "annotations": []},
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    data = open_dataset(folder / "export.json", "any")
    assert [sample.path for sample in data] == [folder / path]
    check_label_studio(data)
    assert data.warnings["photograph that nobody has labelled, left out"] == 1


def test_label_studio_in_its_short_form(folder):
    short = [{**one["value"], "original_width": 100, "original_height": 50} for one in RESULTS]
    (folder / "min.json").write_text(json.dumps([{"image": "/data/upload/1/b.jpg", "id": 1, "label": short}]))
    check_label_studio(open_dataset(folder / "min.json", images=folder / "images"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", CVAT.replace("deep/a.jpg", "gone.jpg"), "names the photograph gone.jpg, which is not in"),
        ("a.xml", CVAT.replace('xtl="10.00"', ""), "not an export of CVAT or Label Studio .no 'xtl'"),
        ("a.xml", CVAT.replace('xtl="10.00"', 'xtl="nan"'), "an object of deep/a.jpg has the points"),
        ("a.xml", "<annotations><track/></annotations>", "tracks of a video; export it as 'CVAT for images'"),
        ("a.xml", CVAT.replace('xtl="10.00"', 'xtl="1e308"'), "an object of deep/a.jpg has the points"),
        ("a.xml", CVAT.replace('width="100"', 'width="wide"'), r"image\[0\] \(id '0'\): not an export"),
        ("a.xml", CVAT.replace('name="b.jpg"', 'name="b&#10;.jpg"'), r"image\[1\] .*a photograph is called"),
        ("a.xml", CVAT.replace("deep/a.jpg", "../../etc/passwd"), "names the photograph passwd, which is not in"),
        ("a.xml", "<annotation/>", "its root element is <annotation>"),
        ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "declares XML entities"),
        ("a.json", '[{"data": {"text": "a"}}]', "a task has no photograph"),
        ("a.json", "[3]", "not an export"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", json.dumps([task([{**RESULTS[0], "original_width": 10**400}])]), r"tasks\[0\] \(id 5\): .*no size"),
        (
            "a.json",
            json.dumps([task([result("rectanglelabels", "a", x=10**400, y=1, width=1, height=1)])]),
            "too large",
        ),
        (
            "a.json",
            json.dumps([task([result("rectanglelabels", "a", x=1e308, y=1, width=9e307, height=1)])]),
            "the points",
        ),
        ("a.json", json.dumps([task([result("rectanglelabels", None, x=1, y=1, width=1, height=1)])]), "has no label"),
        ("a.json", '[{"image": "b.jpg", "label": [{"rectanglelabels": ["a"], "x": 1}]}]', "no 'original_width'"),
    ],
)
def test_what_cannot_be_used_is_named(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        open_dataset(folder / name)


def test_photographs_are_found_in_another_normal_form(folder):
    (folder / "images/b.jpg").rename(folder / "images/ne\u0301.jpg")
    (folder / "annotations.xml").write_text(CVAT.replace("b.jpg", "né.jpg"), encoding="utf-8")
    assert [sample.path.is_file() for sample in open_dataset(folder, "trainval")] == [True, True]


def test_a_lenient_tally_names_what_cannot_be_used(folder):
    (folder / "annotations.xml").write_text(CVAT.replace('xtl="10.00"', ""))
    tally = Tally(lenient=True)
    assert len(open_dataset(folder, "trainval", tally=tally)) == 1
    assert sum(tally.counts.values()) == 1
