"""Labels damaged in every way that seems likely: each set opens, or is refused in one line that names a file of it."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import open_dataset
from sppnet.data.voc import write_annotation

BOXES = np.array([[5, 6, 25, 16], [1, 2, 9, 9]])

#: What takes the place of a value in JSON.
VALUES = (
    *("0", "1", "2.5", "12", '"cat"', '"b.jpg"', '"3"', "[1, 2]", "false"),
    *("null", "[]", "{}", '"x"', '""', "1e999", "-Infinity", "NaN", "-1", "1.5", "true", "1" + 400 * "0"),
    *("7" * 5000, "[[[1, 2], [3]], {}]", 900 * "[" + 900 * "]", 100_000 * "[" + 100_000 * "]", '{"x":' * 100_000),
    *(r'"a\u0000b.jpg"', r'"\ud800"', r'"a\nb"', f'"{300 * "a"}.jpg"', f'"{5000 * "a/"}"', '"../../a.jpg"'),
    *('"/etc/hostname"', r'"..\\..\\a.jpg"', r'"images\\a.jpg"', '"caf\u00e9"', r'"C:\\a.jpg"', "[1e308, 1e308]"),
)

#: What takes the place of a word in text, XML and YAML.
WORDS = (
    *("0", "1", "2.5", "0.5", "12", "cat", "b", "b.jpg", "b.xml", "images/b.jpg", "0.25", "3", " "),
    *("", "x", "nan", "inf", "1e999", "-1", "1" + 400 * "0", "7" * 5000, "[]", "{}", "[[[", "null", "\0", "&#0;"),
    *("&amp;", "<", ">", "a" * 300, "../../a", "/etc/hostname", "..\\a", "\x0b", "\ufeff", "caf\u00e9"),
    *("1e308", "true", "0x" + 5000 * "f", "images\\a.jpg", "*a", "&a [*a]", "!!int ''", "!!timestamp x", '"\\0"'),
    *("!!python/object/apply:os.system [ls]", "&#10;", '"\\ud800"'),
    *("[" * 1000, "<a>" * 50_000, "<!DOCTYPE a [<!ENTITY e 'x'>]>", "&e;", "a/" * 3000),
)


def photographs(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, np.zeros((30, 40, 3), np.uint8))


def voc(folder):
    photographs(folder / "JPEGImages", ["a.jpg", "b.jpg"])
    for name in "ab":
        write_annotation(folder / f"Annotations/{name}.xml", f"{name}.jpg", (30, 40), BOXES, ["cat", "dog"])
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\nb 1\n")
    return folder, ["Annotations/a.xml", "ImageSets/Main/train.txt"]


def coco(folder):
    photographs(folder, ["images/a.jpg", "images/b.jpg"])
    content = {
        "images": [{"id": n, "file_name": f"{name}.jpg", "width": 40, "height": 30} for n, name in enumerate("ab")],
        "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 7, "image_id": 0, "category_id": 1, "bbox": [5, 6, 20, 10], "iscrowd": 0},
            {"id": 8, "image_id": 1, "category_id": 2, "bbox": [1.5, 2, 8, 7], "iscrowd": 0},
        ],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json", ["coco.json"]


def yolo(folder):
    photographs(folder, ["images/a.jpg", "images/b.jpg"])
    (folder / "labels").mkdir()
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.4\n1 0.1 0.2 0.2 0.4\n")
    (folder / "labels/b.txt").write_text("1 0.1 0.2 0.3 0.1 0.2 0.8\n")
    (folder / "train.txt").write_text("images/a.jpg\n./images/b.jpg\n")
    (folder / "data.yaml").write_text("path: .\ntrain: train.txt\nnames:\n  0: cat\n  1: dog\n")
    return folder, ["labels/a.txt", "labels/b.txt", "train.txt", "data.yaml"]


def labelme(folder):
    photographs(folder, ["a.jpg", "b.jpg"])
    shapes = [
        {"label": "cat", "points": [[5, 6], [25, 16]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[20, 15], [23, 19]], "shape_type": "circle"},
    ]
    content = {"version": "5.4.1", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": 30, "imageWidth": 40}
    for name in "ab":
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder, ["a.json"]


def cvat(folder):
    photographs(folder, ["images/a.jpg", "images/b.jpg"])
    (folder / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.jpg" width="40" height="30">'
        '<box label="dog" xtl="10.00" ytl="5.50" xbr="30.25" ybr="25.00" rotation="9.0"/>'
        '<polygon label="cat" points="1.0,2.0;11.5,4.0;6.0,20.0"/>'
        '<ellipse label="cat" cx="20" cy="15" rx="9" ry="5"/><mask label="cat" left="3" top="4" width="5" height="6"/>'
        '</image><image id="1" name="b.jpg" width="40" height="30"/></annotations>'
    )
    return folder, ["annotations.xml"]


def label_studio(folder):
    photographs(folder, ["images/a.jpg", "images/b.jpg"])
    values = [
        {"x": 10, "y": 11, "width": 20.25, "height": 79, "rotation": 5, "rectanglelabels": ["dog"]},
        {"points": [[1, 4], [11.5, 8], [6, 40]], "polygonlabels": ["cat"]},
        {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": 0, "ellipselabels": ["cat"]},
    ]
    result = [{"original_width": 40, "original_height": 30, "value": value} for value in values]
    tasks = [{"data": {"image": f"/data/{name}.jpg"}, "annotations": [{"result": result}]} for name in "ab"]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json", ["export.json"]


SETS = (voc, coco, yolo, labelme, cvat, label_studio)


def damaged(data, is_json, rng):
    """The bytes of a file with one thing wrong."""
    kind = rng.integers(12)
    if kind == 0:
        flipped = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 9)):
            flipped[place] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    if kind == 1:
        return data[: rng.integers(len(data))]
    if kind == 2:
        start, end = sorted(rng.integers(len(data), size=2))
        return data[:start] + data[end:] if rng.random() < 0.5 else data[:end] + data[start:]
    return damaged_json(json.loads(data), rng) if is_json else damaged_text(data.decode(), rng)


def damaged_json(content, rng):
    """JSON with a value changed, or a key left out or twice."""
    places = []

    def visit(value):
        for key in range(len(value)) if isinstance(value, list) else list(value):
            places.append((value, key))
            if isinstance(value[key], list | dict):
                visit(value[key])

    visit(content)
    value, key = places[rng.integers(len(places))]
    raw, action = VALUES[rng.integers(len(VALUES))], rng.integers(5)
    if action == 0:
        del value[key]
    elif action == 1 and isinstance(value, dict):
        value["@@"] = None
        return json.dumps(content).replace('"@@": null', f"{json.dumps(key)}: {raw}").encode()
    else:
        value[key] = "@@"
    return json.dumps(content).replace('"@@"', raw).encode()


def damaged_text(text, rng):
    """Text with a word changed, left out or twice."""
    words = [match.span() for match in re.finditer(r"[^\s<>=\"',;:]+", text)]
    start, end = words[rng.integers(len(words))]
    word = WORDS[rng.integers(len(WORDS))] if rng.random() < 0.8 else text[start:end] + " " + text[start:end]
    return (text[:start] + word + text[end:]).encode("utf-8", "surrogatepass")


def check(path, folder):
    """Open a damaged set; what it holds is sound and lies in its folder, or the message is one line that names it."""
    images = folder / "images" if path.name == "coco.json" else None
    message = ""
    try:
        data = open_dataset(path, None if path.is_file() else "train" if path.name == "voc" else "trainval", images)
    except InputError as error:
        message = str(error)
    if message:
        assert str(folder) in message
        assert len(message.splitlines()) == 1
        return "refused"
    for sample in data:
        assert folder.resolve() in sample.path.resolve().parents
        assert len(sample.boxes) == len(sample.labels) == len(sample.difficult)
        assert ((sample.boxes >= 0) & (sample.boxes <= [40, 30, 40, 30])).all()
        assert ((sample.labels >= 0) & (sample.labels < len(data.class_names))).all()
    "".join(data.class_names).encode()
    assert all(len(line.splitlines()) == 1 for line in data.warning_lines())
    return "opened"


def run(tmp_path, numbers):
    """Outcomes of sets made from these seeds."""
    outcomes = []
    originals = {make: make(tmp_path / "whole" / make.__name__) for make in SETS}
    for number in numbers:
        rng = np.random.default_rng(number)
        make = SETS[number % len(SETS)]
        path, files = originals[make]
        folder = tmp_path / "whole" / make.__name__
        file = folder / files[rng.integers(len(files))]
        before = file.read_bytes()
        file.write_bytes(damaged(before, file.suffix == ".json", rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outcomes.append(check(path, folder))
        except Exception as error:
            shutil.copy(file, tmp_path / f"{number}{file.suffix}")
            raise AssertionError(f"set {number}, {file.name}: {type(error).__name__}: {error}") from error
        finally:
            file.write_bytes(before)
    return outcomes


def test_damaged_labels_are_read_or_refused_in_a_line(tmp_path):
    outcomes = run(tmp_path, range(150))
    assert min(outcomes.count("refused"), outcomes.count("opened")) > 15


@pytest.mark.corpus
def test_many_damaged_labels_are_read_or_refused_in_a_line(tmp_path):
    run(tmp_path, range(150, 1000))
