import json

import numpy as np
import pytest
from PIL import Image
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
    with pytest.raises(InputError, match="nowhere: no such folder; expected the images of"):
        COCODataset(tmp_path / "coco.json", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        COCODataset(tmp_path / "none.json", tmp_path)
