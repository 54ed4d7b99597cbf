import json

import numpy as np
import pytest
from PIL import Image
from sppnet.data.coco import COCODataset
from sppnet.data.errors import InputError
from sppnet.data.labelled_sources import class_folders, object_crops, open_labelled, whole_images
from sppnet.data.voc import VOCDataset, write_annotation


def draw(path, size=(100, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def fill(root, *names):
    for name in names:
        draw(root / name, (6, 4))
    return root


@pytest.fixture
def folders(tmp_path):
    """Cats and dogs in folders of their own, and what must be passed over."""
    names = ("dog/b.jpg", "dog/a.PNG", "cat/deep/er/c.webp", "cat/.x.jpg", ".git/y.jpg")
    return fill(tmp_path / "folders", *names)


@pytest.fixture
def voc(tmp_path):
    """Three images, 100 x 80: two cats and a difficult dog; a difficult cat; nothing."""
    root = tmp_path / "kit" / "VOC2012"
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    objects = {
        "a": [("cat", [10, 20, 50, 40], 0), ("dog", [0, 0, 30, 30], 1), ("cat", [0, 0, 100, 15], 0)],
        "b": [("cat", [0, 0, 50, 50], 1), ("dog", [60, 40, 100, 80], 0)],
        "c": [],
    }
    for name, things in objects.items():
        draw(root / f"JPEGImages/{name}.jpg")
        boxes = np.array([box for _, box, _ in things], np.float32).reshape(-1, 4)
        path = root / f"Annotations/{name}.xml"
        write_annotation(
            path, f"{name}.jpg", (80, 100), boxes, [of for of, _, _ in things], [bool(h) for _, _, h in things]
        )
    return root


@pytest.fixture
def coco(tmp_path):
    """One image, 100 x 80, with a zebra and a crowd of gnus."""
    draw(tmp_path / "photos/z.jpg")
    content = {
        "images": [{"id": 1, "file_name": "z.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 5, "name": "zebra"}, {"id": 9, "name": "gnu"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "bbox": [20, 20, 40, 40]},
            {"image_id": 1, "category_id": 9, "bbox": [0, 0, 90, 30], "iscrowd": 1},
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    return path


def test_a_folder_for_each_class(folders):
    data = class_folders(folders)
    assert data.class_names == ("cat", "dog")
    assert [image.path.relative_to(folders).as_posix() for image in data] == [
        "cat/deep/er/c.webp",
        "dog/a.PNG",
        "dog/b.jpg",
    ]
    assert (data.labels.tolist(), data.multi_label, data.warning_lines()) == ([0, 1, 1], False, [])
    assert data[0].image.shape == (4, 6, 3)


def test_what_is_left_out_is_said(folders):
    (folders / "ant").mkdir()
    fill(folders, "bee/.hidden.jpg", "stray.jpg")
    (folders / "README.txt").write_text("about")
    data = class_folders(folders)
    assert data.class_names == ("cat", "dog")
    assert data.warning_lines() == [
        f"2 x class folder without an image, left out (first in {folders / 'ant'})",
        f"1 x image beside the class folders, left out (first in {folders / 'stray.jpg'})",
    ]


def test_folders_that_are_no_classes_are_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder; expected one folder for each class, with its images"):
        class_folders(tmp_path / "absent")
    (tmp_path / "none").mkdir()
    for name in ("none", "flat"):
        fill(tmp_path, "flat/a.jpg")
        with pytest.raises(InputError, match=f"{name}: no folder in it has images; expected one folder for each class"):
            class_folders(tmp_path / name)
    fill(tmp_path, "one/cat/a.jpg")
    (tmp_path / "one/dog").mkdir()
    with pytest.raises(InputError, match=r"one: only one class folder has images \(cat\); .* two classes or more"):
        class_folders(tmp_path / "one")


def test_whole_images_show_what_is_not_difficult(voc):
    data = whole_images(VOCDataset(voc, "train"))
    assert (data.class_names, data.multi_label) == (("cat", "dog"), True)
    # The dog of a is difficult, and so is the cat of b.
    assert data.targets.tolist() == [[1, -1], [-1, 1], [0, 0]]
    assert [image.path.name for image in data] == ["a.jpg", "b.jpg", "c.jpg"]
    assert data[0].labels.tolist() == [0]
    assert data[0].box is None


def test_a_class_with_an_easy_and_a_difficult_object_is_shown(voc):
    path = voc / "Annotations/c.xml"
    write_annotation(path, "c.jpg", (80, 100), np.array([[0, 0, 9, 9], [5, 5, 9, 9]]), ["cat", "cat"], [True, False])
    assert whole_images(VOCDataset(voc, "train")).targets.tolist()[2] == [1, 0]


def test_a_crowd_is_ignored(coco):
    data = whole_images(COCODataset(coco, coco.parent / "photos"))
    assert (data.class_names, data.targets.tolist()) == (("zebra", "gnu"), [[1, -1]])


def test_object_crops_have_their_context(voc):
    data = object_crops(VOCDataset(voc, "train"), context=0.1)
    assert (data.labels.tolist(), data.multi_label) == ([0, 1], False)
    assert data[0].box == pytest.approx((6, 18, 54, 42))
    assert data[0].image.shape == (24, 48, 3)
    # Grown over the right and lower edge of the photograph, where it is cut.
    assert data[1].box == pytest.approx((56, 36, 104, 84))
    assert data[1].image.shape == (44, 44, 3)
    assert data.warning_lines() == [f"1 x object under 16 px, left out (first in {voc / 'JPEGImages/a.jpg'})"]


def test_a_side_of_just_enough_pixels_is_enough(voc):
    dataset = VOCDataset(voc, "train")
    small = object_crops(dataset, context=0, min_side=15)
    assert [image.box for image in small] == [(10, 20, 50, 40), (0, 0, 100, 15), (60, 40, 100, 80)]
    assert small.warning_lines() == []
    assert len(object_crops(dataset, min_side=15.5)) == 2
    assert len(object_crops(dataset, min_side=1000)) == 0
    assert len(object_crops(dataset, min_side=0)) == 3
    for wrong in ({"context": -0.1}, {"min_side": -1}):
        with pytest.raises(ValueError, match="must not be negative, got"):
            object_crops(dataset, **wrong)


def test_warnings_of_the_dataset_are_kept(voc):
    (voc / "ImageSets/Main/train.txt").write_text("a\na\n")
    dataset = VOCDataset(voc, "train")
    assert len(dataset.warning_lines()) == 1
    assert whole_images(dataset).warning_lines() == dataset.warning_lines()
    assert object_crops(dataset).warning_lines()[:1] == dataset.warning_lines()


def test_open_tells_the_kinds_apart(folders, voc, coco):
    assert open_labelled([folders]).labels.tolist() == [0, 1, 1]
    for path in (voc, voc.parent, str(voc)):
        assert open_labelled([path], "train").targets.tolist() == [[1, -1], [-1, 1], [0, 0]]
        assert open_labelled([path], "train", crops=True).labels.tolist() == [0, 1]
    images = coco.parent / "photos"
    assert open_labelled([coco], images=images).targets.tolist() == [[1, -1]]
    assert open_labelled([coco], images=images, crops=True).labels.tolist() == [0]


def test_several_become_one_single_label_set(folders, voc, coco):
    images = coco.parent / "photos"
    data = open_labelled([folders, voc, coco], "train", images, crops=True)
    assert data.class_names == ("cat", "dog", "zebra", "gnu")
    assert data.labels.tolist() == [0, 1, 1, 0, 1, 2]
    assert len(data.warning_lines()) == 1
    with pytest.raises(InputError, match="VOC2012: a multi-label set cannot be joined with others"):
        open_labelled([folders, voc], "train")


def test_classes_asked_for(folders, voc):
    data = open_labelled([folders], classes=["dog"])
    assert (data.class_names, data.labels.tolist()) == (("dog",), [0, 0])
    data = open_labelled([voc], "train", classes=["dog"])
    assert data.targets.tolist() == [[-1], [1], [0]]
    assert open_labelled([voc], "train", classes=["dog", "cat"], crops=True).labels.tolist() == [1, 0]
    for path in (folders, voc):
        with pytest.raises(InputError, match="unknown class 'cot'; did you mean 'cat'"):
            open_labelled([path], "train", classes=["cot"])


def test_what_cannot_be_opened_is_named(tmp_path, folders, voc, coco):
    with pytest.raises(InputError, match="no dataset given; expected"):
        open_labelled([])
    with pytest.raises(InputError, match="absent: no such dataset; expected one folder for each class"):
        open_labelled([folders, tmp_path / "absent"], crops=True)
    with pytest.raises(InputError, match="name an image set"):
        open_labelled([voc])
    with pytest.raises(InputError, match="needs the folder of its images"):
        open_labelled([coco])
    with pytest.raises(InputError, match=r"folders: an image folder .* goes with a COCO annotation file"):
        open_labelled([folders], images=tmp_path)
    with pytest.raises(
        InputError, match="folders: no labelled objects to crop; expected boxes in VOC, YOLO or COCO layout"
    ):
        open_labelled([folders], crops=True)
    (tmp_path / "note.txt").write_text("text")
    with pytest.raises(InputError, match=r"note\.txt: expected a folder in VOC or YOLO layout, .* COCO"):
        open_labelled([tmp_path / "note.txt"], "train")
    (tmp_path / "half/JPEGImages").mkdir(parents=True)
    with pytest.raises(InputError, match="half: not in VOC layout; no Annotations, ImageSets/Main"):
        open_labelled([tmp_path / "half"], "train")


def test_a_set_without_images_is_refused(voc, coco):
    (voc / "ImageSets/Main/none.txt").write_text("")
    with pytest.raises(InputError, match="VOC2012: no image in it"):
        open_labelled([voc], "none")
    with pytest.raises(InputError, match=r"coco\.json: no object of gnu in it"):
        open_labelled([coco], images=coco.parent / "photos", classes=["gnu"], crops=True)
