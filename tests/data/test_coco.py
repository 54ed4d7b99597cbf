import json
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image
from sppnet.data.cleaning import Tally
from sppnet.data.coco import COCODataset
from sppnet.data.errors import InputError


def content():
    return {
        "images": [
            {"id": 900, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 7, "file_name": "part/b.png"},
            {"id": 8, "file_name": "c.jpg", "width": 100, "height": 80},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "cow"}],
        "annotations": [
            {"id": 1, "image_id": 900, "category_id": 18, "bbox": [10.5, 20, 30, 40.25], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 100, 80], "segmentation": [[1, 2, 3]]},
            {"id": 3, "image_id": 900, "category_id": 3, "bbox": [90, 70, 50, 50], "iscrowd": 1},
            {"id": 4, "image_id": 900, "category_id": 3, "bbox": [5, 5, 0, 9]},
            {"id": 5, "image_id": 900, "category_id": 3, "bbox": [300, 5, 9, 9]},
        ],
    }


@pytest.fixture
def open_coco(tmp_path):
    """Opens COCO content with three images, 100 x 80, beside it."""
    for name in ("a.jpg", "part/b.png", "c.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(path)

    def open_it(value, classes=None):
        path = tmp_path / "coco.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return COCODataset(path, tmp_path / "images", classes)

    return open_it


def test_a_whole_file(open_coco):
    data = open_coco(content())
    assert data.class_names == ("cat", "dog", "cow")
    assert data.category_ids == (3, 18, 90)
    assert [sample.id for sample in data] == ["900", "7", "8"]
    assert data.image_ids == {"900": 900, "7": 7, "8": 8}
    first, second, third = data
    np.testing.assert_array_equal(first.boxes, [[10.5, 20, 40.5, 60.25], [90, 70, 100, 80]])
    assert first.labels.tolist() == [1, 0]
    assert first.difficult.tolist() == [False, True]
    assert (first.boxes.dtype, first.labels.dtype, first.difficult.dtype) == (np.float32, np.int64, bool)
    assert second.image.shape == (80, 100, 3)
    assert third.boxes.shape == (0, 4)
    assert data.warnings == {
        "box without area, dropped": 1,
        "box outside the image, dropped": 1,
        "box partly outside the image, cut to it": 1,
    }


def test_classes_asked_for_come_in_their_order(open_coco):
    data = open_coco(content(), ["cow", "dog"])
    assert (data.class_names, data.category_ids) == (("cow", "dog"), (90, 18))
    assert data[0].labels.tolist() == [1]
    assert isinstance(data.subset([1]), COCODataset)
    with pytest.raises(InputError, match="no category sheep; it has: cat, cow, dog"):
        open_coco(content(), ["sheep"])


def test_a_file_may_lack_some_of_the_classes_asked_for(open_coco):
    data = open_coco(content(), ["sheep", "dog", "goat"])
    assert data.class_names == ("sheep", "dog", "goat")
    assert (data.category_ids[1], len({*data.category_ids, 3, 90})) == (18, 5)
    assert data[0].labels.tolist() == [1]
    assert data.warnings["class without a category in the file, taken to have no object"] == 2


def test_class_names_of_another_normal_form_are_the_same(open_coco):
    data = open_coco(changed("categories", 1, name="cafe\u0301"), ["café"])
    assert (data.class_names, data[1].labels.tolist()) == (("café",), [0])


def grouped(*categories):
    """Content with these (id, name, supercategory); cats are 3, dogs 18."""
    value = content()
    value["categories"] = [{"id": id, "name": name, "supercategory": above} for id, name, above in categories]
    return value


GROUP = "category without objects that only groups others, left out"


@pytest.mark.parametrize(
    ("categories", "names", "left_out"),
    [
        ([(0, "cat", "none"), (3, "cat", "cat"), (18, "dog", "cat")], ("cat", "dog"), 1),  # Roboflow
        ([(0, "pets", "none"), (3, "cat", "pets"), (18, "dog", "pets")], ("cat", "dog"), 1),  # Roboflow
        ([(3, "cat", "none"), (18, "dog", "none"), (19, "dog", "none")], ("cat", "dog"), 1),
        ([(0, "all", "x"), (1, "pets", "all"), (3, "cat", "pets"), (18, "dog", "pets")], ("cat", "dog"), 2),
        ([(0, "cow", "cow"), (3, "cat", "x"), (18, "dog", "cat")], ("cow", "cat", "dog"), 0),
        ([(0, "cow", "x"), (1, "cow", "x"), (3, "cat", "x"), (18, "dog", None)], ("cow", "cat", "dog"), 1),
    ],
)
def test_categories_that_only_group_others_are_no_classes(open_coco, categories, names, left_out):
    data = open_coco(grouped(*categories))
    assert (data.class_names, data.warnings.get(GROUP, 0)) == (names, left_out)
    assert [data.class_names[label] for label in data[0].labels] == ["dog", "cat"]


def test_what_is_usual_elsewhere_is_read(open_coco):
    value = changed("images", 1, file_name="part\\b.png", height=10**400)
    value["annotations"][1]["bbox"] = []
    data = open_coco(value)
    assert (data[1].path.name, len(data[1].boxes)) == ("b.png", 0)
    assert data.warnings["box without area, dropped"] == 2


def changed(key, index, **values):
    value = content()
    value[key][index].update(values)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a COCO annotation file"),
        ({"images": []}, "not a COCO annotation file .no 'categories'"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "bbox is .1, 2, 3.; expected x, y, width, height"),
        (changed("annotations", 0, bbox=[1, 2, 3, "x"]), "not a COCO annotation file"),
        (changed("annotations", 2, bbox=None), r"annotations\[2\] \(id 3\): not a COCO annotation file"),
        (changed("annotations", 1, bbox=[1, 2, 3, float("nan")]), r"annotations\[1\] \(id 2\): .*bbox is"),
        (changed("annotations", 1, bbox=[1, 2, 3, float("inf")]), "bbox is"),
        (changed("annotations", 1, bbox=[1, 2, 3, 10**400]), r"annotations\[1\] \(id 2\): .*too large"),
        (changed("annotations", 1, bbox=[1e308, 2, 1e308, 3]), "bbox is"),
        (changed("annotations", 1, image_id=float("inf")), r"annotations\[1\] \(id 2\): .*infinity"),
        (changed("annotations", 1, id=10**400, image_id=float("nan")), r"annotations\[1\] \(id 1000.*NaN"),
        (changed("annotations", 1, category_id=10**400), "which is not listed"),
        (changed("images", 0, id=float("inf")), r"images\[0\] \(id inf\): .*infinity"),
        (changed("images", 0, id=10**400), r"images\[0\] .*more than 64 bits"),
        (changed("images", 0, height=float("nan")), r"images\[0\] \(id 900\): .*NaN"),
        (changed("categories", 1, id=float("inf")), r"categories\[1\] \(id inf\): .*infinity"),
        (
            changed("categories", 1, name=None),
            r"categories\[1\] \(id 3\): .*name is None; expected the name of a class",
        ),
        (changed("categories", 1, name={}), "expected the name of a class"),
        (content() | {"annotations": None}, "annotations are None; expected a list"),
        (content() | {"annotations": [3]}, r"annotations\[0\]: not a COCO"),
        ('{"images": ' + "[" * 100_000, "not JSON"),
        ('{"images": [{"id": ' + "7" * 5000, "not JSON"),
        (changed("images", 0, file_name="\ud800.jpg"), "not JSON .*surrogates"),
        (changed("images", 0, file_name="a\0.jpg"), "has control characters"),
        (changed("images", 0, file_name="C:\\a.jpg"), "leaves the folder"),
        (changed("annotations", 0, image_id=1), "an annotation is of image 1, which is not listed"),
        (changed("annotations", 0, category_id=1), "an annotation is of category 1, which is not listed"),
        (changed("images", 0, id=7), "two images have the id 7"),
        (changed("categories", 0, name="cat"), "two categories share a name"),
        (changed("images", 0, file_name="../a.jpg"), "'../a.jpg' leaves the folder"),
        (changed("images", 0, file_name="/a.jpg"), "leaves the folder"),
    ],
)
def test_files_that_cannot_be_used_are_named(open_coco, value, message):
    with pytest.raises(InputError, match=rf"coco\.json: .*{message}"):
        open_coco(value)


def test_what_is_missing_is_named(open_coco, tmp_path):
    with pytest.raises(InputError, match=r"absent\.jpg: image not found"):
        open_coco(changed("images", 0, file_name="absent.jpg"))
    with pytest.raises(InputError, match=r"aaa\.jpg: image not found"):
        open_coco(changed("images", 0, file_name=300 * "a" + ".jpg"))
    with pytest.raises(InputError, match="nowhere: no such folder; expected the images of"):
        COCODataset(tmp_path / "coco.json", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        COCODataset(tmp_path / "none.json", tmp_path)


def test_a_lenient_tally_counts_annotations_that_cannot_be_used(open_coco, tmp_path):
    value = content()
    value["annotations"][1]["bbox"] = None
    value["annotations"][2]["image_id"] = float("inf")
    (tmp_path / "coco.json").write_text(json.dumps(value))
    tally = Tally(lenient=True)
    COCODataset(tmp_path / "coco.json", tmp_path / "images", tally=tally)
    assert tally.counts["annotation that cannot be used, left out"] == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_photographs_are_found_in_another_normal_form(open_coco, tmp_path, form):
    (tmp_path / "images/a.jpg").rename(tmp_path / "images" / normalize(form, "né.jpg"))
    for other in ("NFC", "NFD"):
        assert open_coco(changed("images", 0, file_name=normalize(other, "né.jpg")))[0].image.shape == (80, 100, 3)
