"""The check of labelled photographs finds what was planted, and nothing else."""

import json

import numpy as np
import pytest
from PIL import Image
from sppnet.data.check import check, look_alike_names
from sppnet.data.image import write_image
from sppnet.data.open import open_sets
from sppnet.data.voc import write_annotation

SIZE = (60, 90)


def photograph(rng):
    """Large patches, like nothing else."""
    patches = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return patches.repeat(10, axis=0).repeat(10, axis=1)


def add(root, id, boxes=((10, 10, 40, 40),), names=None, image=None, rng=None, exif=None):
    rng = rng or np.random.default_rng([ord(sign) for sign in id])
    path = root / "JPEGImages" / f"{id}.jpg"
    Image.fromarray(photograph(rng) if image is None else image).save(path, exif=exif or Image.Exif(), quality=95)
    names = names or ["raccoon"] * len(boxes)
    write_annotation(root / "Annotations" / f"{id}.xml", path.name, SIZE, np.array(boxes, float), names)


def write_list(root, name, ids):
    (root / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(ids))


@pytest.fixture
def root(tmp_path):
    """Twelve photographs without a fault, in two sets."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    for number in range(12):
        add(tmp_path, f"good{number}", [(10, 10, 40, 40), (30, 20, 80, 50)], ["raccoon", "bird"])
    write_list(tmp_path, "train", [f"good{number}" for number in range(8)])
    write_list(tmp_path, "test", [f"good{number}" for number in range(8, 12)])
    write_list(tmp_path, "trainval", [f"good{number}" for number in range(8)])
    return tmp_path


def found(root):
    return {one.kind: dict(one.places) for one in check(open_sets(root, lenient=True), quiet=True)}


def test_clean_labels_have_no_findings(root):
    assert found(root) == {}


def test_what_was_planted_is_found_and_nothing_else(root):
    faulty = ["outside", "cut", "click", "reversed", "twice", "turned", "unreadable", "scaled", "broken", "missing"]
    add(root, "outside", [(10, 10, 40, 40), (95, 10, 120, 30)])
    add(root, "cut", [(60, 10, 130, 40)])
    add(root, "click", [(10, 10, 40, 40), (20, 20, 20, 20)])
    add(root, "reversed", [(40, 10, 10, 40)])
    add(root, "twice", [(10, 10, 40, 40), (12, 12, 60, 50), (10, 10, 40, 40)])
    exif = Image.Exif()
    exif[274] = 6
    add(root, "turned", exif=exif)
    add(root, "unreadable")
    whole = (root / "JPEGImages/unreadable.jpg").read_bytes()
    (root / "JPEGImages/unreadable.jpg").write_bytes(whole[: len(whole) // 2])
    add(root, "scaled")
    write_image(root / "JPEGImages/scaled.jpg", photograph(np.random.default_rng(1))[:45])
    add(root, "broken")
    (root / "Annotations/broken.xml").write_text("<annotation><object>")
    add(root, "missing")
    (root / "JPEGImages/missing.jpg").unlink()
    add(root, "typing", names=["racoon"])
    add(root, "case", names=["Bird"])
    original = photograph(np.random.default_rng([ord(sign) for sign in "good3"]))
    add(root, "copy", image=np.asarray(Image.fromarray(original).resize((180, 120))))
    write_annotation(root / "Annotations/copy.xml", "copy.jpg", (120, 180), np.array([[10.0, 10, 40, 40]]), ["raccoon"])
    train = [f"good{number}" for number in range(8)] + faulty + ["typing", "case"]
    write_list(root, "train", train)
    write_list(root, "trainval", train)
    write_list(root, "test", [f"good{number}" for number in range(8, 12)] + ["copy", "good0"])
    report = found(root)
    unusable = report.pop("image whose labels or file cannot be used, left out")
    assert len(unusable) == 2
    assert any("broken.xml: not XML" in one for one in unusable)
    assert any("missing.jpg: image not found" in one for one in unusable)
    assert report == {
        "box outside the image, dropped": {"outside.xml": 1},
        "box partly outside the image, cut to it": {"cut.xml": 1},
        "box without area, dropped": {"click.xml": 1},
        "box with its corners reversed, put right": {"reversed.xml": 1},
        "object labelled twice with the same box, taken once": {"twice.xml": 1},
        "image turned by its EXIF data and labelled unturned, its boxes turned with it": {"turned.xml": 1},
        "image that cannot be read": {"unreadable.jpg": 1},
        "annotated size that is not the image's": {"scaled.xml": 1},
        "class names that differ by case, signs or one letter": {"Bird and bird": 1, "raccoon and racoon": 1},
        "near duplicates in different sets": {"copy.jpg and good3.jpg": 1},
        "photograph in two sets": {"good0.jpg (test, train, trainval)": 1},
    }


def yolo(root, id, *lines, exif=None):
    rng = np.random.default_rng([ord(sign) for sign in id])
    (root / "images").mkdir(exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    Image.fromarray(photograph(rng)).save(root / f"images/{id}.jpg", exif=exif or Image.Exif(), quality=95)
    (root / f"labels/{id}.txt").write_text("\n".join(lines))


def test_yolo_labels(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog")
    yolo(tmp_path, "good", "0 0.5 0.5 0.2 0.4")
    yolo(tmp_path, "twice", "1 0.5 0.5 0.2 0.4", "0 0.5 0.5 0.2 0.4", "1 0.5 0.5 0.2 0.4")
    yolo(tmp_path, "words", "cat 0.5 0.5 0.2 0.4")
    yolo(tmp_path, "unknown", "7 0.5 0.5 0.2 0.4")
    yolo(tmp_path, "pixels", "0 45 30 20 20")
    exif = Image.Exif()
    exif[274] = 8
    yolo(tmp_path, "turned", "0 0.5 0.5 0.2 0.4", exif=exif)
    yolo(tmp_path, "unlabelled")
    (tmp_path / "labels/unlabelled.txt").unlink()
    (tmp_path / "images/broken.jpg").write_bytes(b"no photograph")
    (tmp_path / "labels/broken.txt").write_text("0 0.5 0.5 0.2 0.4")
    report = found(tmp_path)
    unusable = report.pop("image whose labels or file cannot be used, left out")
    told = {"words": "line 1 is 'cat 0.5", "unknown": "has the class number 7; there are 2", "pixels": "not in pixels"}
    assert len(unusable) == len(told)
    assert all(any(f"{name}.txt" in one and text in one for one in unusable) for name, text in told.items())
    assert report == {
        "object labelled twice with the same box, taken once": {"twice.txt": 1},
        "image turned by its EXIF data, its labels taken for those of the turned one": {"turned.jpg": 1},
        "photograph without a file of labels, taken to show no object": {"unlabelled.txt": 1},
        "photograph that cannot be read, left out": {"broken.jpg": 1},
    }


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    (tmp_path / "data.yaml").write_text("train: train\nval: val\nnames: [cat]")
    for number, name in enumerate(("train", "val")):
        (tmp_path / name).mkdir()
        Image.fromarray(photograph(np.random.default_rng(number))).save(tmp_path / name / "1.jpg", quality=95)
        (tmp_path / name / "1.txt").write_text("0 0.5 0.5 0.2 0.4\n" * (2 + number))
    report = found(tmp_path)
    assert report == {"object labelled twice with the same box, taken once": {"1.txt": 1, "1.txt (val)": 2}}


def test_a_photograph_with_another_problem_may_be_unreadable_too(tmp_path):
    (tmp_path / "classes.txt").write_text("cat")
    exif = Image.Exif()
    exif[274] = 8
    yolo(tmp_path, "both", "0 0.5 0.5 0.2 0.4", exif=exif)
    whole = (tmp_path / "images/both.jpg").read_bytes()
    (tmp_path / "images/both.jpg").write_bytes(whole[: len(whole) // 2])
    assert found(tmp_path) == {
        "image turned by its EXIF data, its labels taken for those of the turned one": {"both.jpg": 1},
        "image that cannot be read": {"both.jpg": 1},
    }


def test_coco_labels(tmp_path):
    for number in range(3):
        Image.fromarray(photograph(np.random.default_rng(number))).save(tmp_path / f"{number}.jpg", quality=95)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(photograph(np.random.default_rng(1))).save(tmp_path / "1.jpg", exif=exif, quality=95)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 90, "height": 60} for n in range(4)]
    boxes = {0: [10, 10, 20, 20], 1: [0, 0, 30, 10], 2: [40, 30, -20, -10], 3: [1, 1, 5, 5]}
    annotations = [{"image_id": n, "category_id": 1, "bbox": box} for n, box in boxes.items()]
    annotations += [annotations[0], {"image_id": 0, "category_id": 9, "bbox": [1, 1, 5, 5]}]
    annotations += [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 5]}]
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    (tmp_path / "cats.json").write_text(json.dumps(content))
    (data,) = open_sets(tmp_path / "cats.json", tmp_path, lenient=True).values()
    assert [sample.boxes.tolist() for sample in data] == [[[10, 10, 30, 30]], [[50, 0, 60, 30]], [[20, 20, 40, 30]]]
    report = {one.kind: one.count for one in check({"cats": data}, quiet=True)}
    assert report == {
        "annotation that cannot be used, left out": 2,
        "image whose labels or file cannot be used, left out": 1,
        "object labelled twice with the same box, taken once": 1,
        "box with its corners reversed, put right": 1,
        "image turned by its EXIF data and labelled unturned, its boxes turned with it": 1,
    }


def test_findings_are_told_in_order_and_as_json(root):
    add(root, "double", [(10, 10, 40, 40), (10, 10, 40, 41)])
    add(root, "click", [(20, 20, 20, 20)])
    write_list(root, "train", ["double", "click"])
    doubles, clicks = sorted(check(open_sets(root, lenient=True), quiet=True), key=lambda one: one.needs_a_look)
    assert (doubles.needs_a_look, clicks.needs_a_look) == (False, True)
    assert json.loads(json.dumps(clicks.to_dict())) == {
        "kind": "box without area, dropped",
        "count": 1,
        "needs_a_look": True,
        "advice": clicks.advice,
        "places": {"click.xml": 1},
    }
    assert "click" in clicks.advice


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Raccoon", "raccoon"),
        ("racoon", "raccoon"),
        ("fire truck", "fire_truck"),
        ("helmet", "helmat"),
        ("oxen", "Oxen"),
    ],
)
def test_names_that_one_person_gives_to_one_class(one, other):
    assert look_alike_names([one, "bus", other]) == [(one, other)]


def test_names_of_different_classes():
    names = [
        "cat",
        "car",
        "cart",
        "type1",
        "type2",
        "bicycle",
        "motorcycle",
        "person",
        "parson bird",
        "-",
        "+",
        "horse",
    ]
    assert look_alike_names(names) == []
