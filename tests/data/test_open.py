import json
from pathlib import Path

import numpy as np
import pytest
from sppnet.data.coco import COCODataset
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import open_dataset, open_sets
from sppnet.data.scenes import make_scenes
from sppnet.data.store import write_text
from sppnet.data.voc import VOCDataset, write_annotation


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


def test_all_sets_have_the_same_classes(tmp_path):
    """Where one lacks a class, labels index the classes of all."""
    for name, kinds in (("a", ["cat", "dog"]), ("b", ["cow", "cat"])):
        write_image(tmp_path / f"{name}.jpg", np.zeros((30, 40, 3), np.uint8))
        boxes = np.array([[5, 6, 25, 16], [1, 2, 9, 9]])
        write_annotation(tmp_path / f"Annotations/{name}.xml", f"{name}.jpg", (30, 40), boxes, kinds)
        write_text(tmp_path / f"ImageSets/Main/{name}.txt", name)
        write_text(tmp_path / f"ImageSets/Main/cat_{name}.txt", f"{name} 1")
    (tmp_path / "JPEGImages").mkdir()
    for name in "ab":
        (tmp_path / f"{name}.jpg").rename(tmp_path / f"JPEGImages/{name}.jpg")
    found = open_sets(tmp_path)
    assert list(found) == ["a", "b"]
    assert {one.class_names for one in found.values()} == {("cat", "cow", "dog")}
    assert [one[0].labels.tolist() for one in found.values()] == [[0, 2], [1, 0]]
    assert {one.class_names for one in open_sets(tmp_path, classes=["dog"]).values()} == {("dog",)}


def test_a_large_coco_file_is_not_read_to_find_out_what_it_is(tmp_path, monkeypatch):
    path = tmp_path / "coco.json"
    path.write_text(' \n{"images": [], "annotations": [], "categories": []}')
    reads, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: reads.append(file) or read(file))
    assert isinstance(open_dataset(path, images=tmp_path), COCODataset)
    assert reads == [path]


def test_anything_else_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"a\.txt: expected a folder in VOC or YOLO layout, .* COCO"):
        open_dataset(tmp_path / "a.txt", "train")
    for name in ("nowhere", 300 * "a"):
        with pytest.raises(InputError, match=f"{name}: no such dataset"):
            open_dataset(tmp_path / name, "train")
