import json

import pytest
from sppnet.data.coco import COCODataset
from sppnet.data.errors import InputError
from sppnet.data.open import open_dataset
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset


def test_a_voc_folder(tmp_path):
    make_scenes(tmp_path / "made", {"train": 1, "val": 0}, size=(40, 40))
    data = open_dataset(tmp_path, "train", classes=["star"])
    assert isinstance(data, VOCDataset)
    assert (len(data), data.class_names) == (1, ("star",))
    with pytest.raises(InputError, match=r"name an image set; its ImageSets/Main has: train, val"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="no image set 'test'; its ImageSets/Main has: train, val"):
        open_dataset(tmp_path, "test")
    with pytest.raises(InputError, match="goes with a COCO annotation file"):
        open_dataset(tmp_path, "train", images=tmp_path)


def test_a_coco_file(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 4, "name": "cat"}]}))
    data = open_dataset(path, images=tmp_path)
    assert isinstance(data, COCODataset)
    assert data.class_names == ("cat",)
    with pytest.raises(InputError, match="needs the folder of its images"):
        open_dataset(path)


def test_anything_else_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"a\.txt: expected a folder in VOC or YOLO layout, .* COCO"):
        open_dataset(tmp_path / "a.txt", "train")
    with pytest.raises(InputError, match="nowhere: no such dataset"):
        open_dataset(tmp_path / "nowhere", "train")
