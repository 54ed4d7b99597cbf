"""``sppnet detect --report``: the page shows what was found, and changes nothing else."""

import json
import re

import numpy as np
import pytest
from sppnet.data.folder import find_images
from sppnet.data.image import read_image, write_image
from sppnet.data.open import open_sets
from sppnet.data.scenes import draw_scene, make_scenes
from sppnet.scripts.cli import main

QUICK = ["--max-windows", "200", "--scales", "160", "--quiet"]


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b # 100%", "<b>c"):
        write_image(tmp_path / "photos" / f"{name}.jpg", draw_scene(rng, (120, 160)).image)
    (tmp_path / "photos/broken.jpg").write_text("no photograph")
    return tmp_path / "photos"


def data_of(page):
    return json.loads(re.search('id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])


@pytest.mark.parametrize("options", [[], ["--threshold", "0.3"], ["--model", "cells", "--model", "cells"]])
def test_the_page_has_all_that_was_found_and_more(photographs, tmp_path, options):
    plain, reported = tmp_path / "plain", tmp_path / "reported"
    assert main(["detect", str(photographs), "-o", str(plain), *options, *QUICK]) == 1
    assert main(["detect", str(photographs), "-o", str(reported), "--report", *options, *QUICK]) == 1
    assert (plain / "detections.json").read_bytes() == (reported / "detections.json").read_bytes()
    results = json.loads((plain / "detections.json").read_text())
    page = data_of(reported / "report.html")
    assert [one["file"] for one in page["images"]] == ["<b>c.jpg", "a.jpg", "b # 100%.jpg"]
    for one, result in zip(page["images"], results["images"], strict=True):
        assert (one["width"], one["height"]) == (160, 120)
        assert (reported / one["src"].replace("%20", " ").replace("%23", "#").replace("%25", "%")
                .replace("%3C", "<").replace("%3E", ">")).is_file()  # fmt: skip
        thresholds = [of_class["threshold"] for of_class in page["classes"]]
        visible = [box for box in one["boxes"] if thresholds[box[0]] is None or box[1] > thresholds[box[0]]]
        assert len(visible) == pytest.approx(len(result["detections"]), abs=1)  # levels are rounded
        assert len(one["boxes"]) >= len(result["detections"])
    assert "broken.jpg: not an image" in (reported / "report.html").read_text()


def test_previews_are_no_photographs(photographs, tmp_path):
    assert main(["detect", str(photographs), "-o", str(photographs / "out"), "--report", *QUICK]) == 1
    assert len(list((photographs / "out/previews").iterdir())) == 3
    assert len(find_images([photographs])) == 4


def test_a_photograph_in_the_place_of_a_preview_is_not_replaced(photographs, tmp_path, capsys):
    write_image(tmp_path / "out/previews/a.jpg", np.zeros((9, 9, 3), np.uint8))
    assert main(["detect", str(photographs), "-o", str(tmp_path / "out"), "--report", *QUICK]) == 2
    assert "previews/a.jpg: already exists and was not drawn" in capsys.readouterr().err


def test_what_is_labelled_is_drawn_and_on_the_page(tmp_path, capsys):
    root = make_scenes(tmp_path / "scenes", {"train": 2, "val": 1}, size=(120, 160))
    photographs = sorted((root / "JPEGImages").iterdir())
    out = ["-o", str(tmp_path / "out"), "--report", *QUICK]
    assert main(["detect", *map(str, photographs), "--draw-truth", str(root), *out]) == 0
    page = data_of(tmp_path / "out/report.html")
    names = [one["name"] for one in page["classes"]]
    assert names[:6] == ["cat", "cow", "dog", "horse", "person", "sheep"]
    samples = {
        sample.path.name: (sample, of_set.class_names) for of_set in open_sets(root).values() for sample in of_set
    }
    for one in page["images"]:
        sample, known = samples[one["file"]]
        assert [names[label] for label, *_ in one["truth"]] == [known[label] for label in sample.labels]
        np.testing.assert_allclose([box for _, *box in one["truth"]], sample.boxes, atol=0.5)
    plain = tmp_path / "plain"
    assert main(["detect", *map(str, photographs), "-o", str(plain), *QUICK]) == 0
    assert (plain / "detections.json").read_bytes() == (tmp_path / "out/detections.json").read_bytes()
    name = photographs[0].with_suffix(".jpg").name
    assert (read_image(plain / "images" / name) != read_image(tmp_path / "out/images" / name)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draw-truth", "SCENES"], "has labels of none of the photographs"),
        (["--draw-truth", "SCENES", "--no-draw"], "--draw-truth draws onto pictures, which --no-draw leaves out"),
        (["--draw-truth", "nowhere"], "nowhere"),
    ],
)
def test_labels_that_cannot_be_drawn(photographs, tmp_path, capsys, options, message):
    root = make_scenes(tmp_path / "scenes", {"train": 2}, size=(60, 80))
    options = [str(root) if option == "SCENES" else option for option in options]
    assert main(["detect", str(photographs), "-o", str(tmp_path / "out"), *options, *QUICK]) == 2
    assert message in capsys.readouterr().err
