"""The pages of train, evaluate and check: in a browser they complain about nothing, and say what the figures say."""

import json
import re
import shutil

import browser
import pytest
from browser import Page
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import read_annotation, write_annotation
from sppnet.scripts.cli import main

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Scenes with an evil class and a faulty box, a detector of them, and the pages of the commands."""
    place = tmp_path_factory.mktemp("place")
    make_scenes(place / "scenes", {"train": 24, "val": 8}, size=(120, 160))
    root = next(path.parent for path in place.rglob("Annotations"))
    for path in sorted((root / "Annotations").iterdir()):
        old = read_annotation(path)
        names = [EVIL if name == "disc" else name for name in old.names]
        write_annotation(path, old.filename, old.size, old.boxes, names, old.difficult)
    shutil.copy(path, place / "last.xml")
    write_annotation(path, old.filename, old.size, old.boxes[[0, *range(len(old.boxes))]], [names[0], *names])
    quick = ["--max-windows", "200", "--quiet"]
    network = [
        "--backbone",
        "sppnet_small",
        "--weights",
        "none",
        "--scales",
        "160",
        "--effort",
        "quick",
        "--folds",
        "3",
    ]
    model = str(place / "mine.safetensors")
    assert main(["train", str(root), "--set", "train", "--out", model, *network, *quick]) == 0
    assert (
        main(["evaluate", str(root), "--set", "val", "--model", model, "-o", str(place / "e"), "--report", *quick]) == 0
    )
    assert main(["check", str(root), "-o", str(place / "c"), "--report", "--quiet"]) == 1
    return place


PAGES = {"train": "mine.html", "evaluate": "e/report.html", "check": "c/check.html"}


@pytest.fixture(scope="module")
def chromium():
    with browser.start() as one:
        yield one


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_everybody_can_read_it(chromium, place, name, width, scheme):
    one = Page(chromium, place / PAGES[name], width=width, scheme=scheme)
    one.check()
    assert one.axe() == {}
    assert EVIL in one.page.locator("main").inner_text()
    cards = one.page.locator("#cards button")
    if cards.count():
        cards.nth(0).click()
        one.page.keyboard.press("Escape")
    one.check()
    one.page.context.close()


def test_kinds_of_mistakes_are_chosen(chromium, place):
    one = Page(chromium, place / PAGES["evaluate"])
    metrics = json.loads((place / "e/metrics.json").read_text())
    missed = sum(figures["objects"] - figures["right"] for figures in metrics["shown"].values())
    one.page.locator("#group").select_option("missed")
    assert one.page.locator("#cards li").count() == min(30, missed)
    row = one.page.locator("tr", has_text="no detection of the object is shown")
    assert row.locator("td").nth(1).inner_text() == str(missed)
    assert set(metrics["mistakes"]) >= {"background", "missed", "wrong place"}
    one.page.context.close()


def test_the_page_of_a_training_is_one_file_with_its_figures(place):
    text = (place / "mine.html").read_text(encoding="utf-8")
    assert not [address for address in re.findall('src="([^"]*)"', text) if not address.startswith("data:")]
    assert "What to do next" in text
    assert "hard negatives" in text
    assert "Average precision of each class" in text


def test_a_training_without_a_page(place, tmp_path):
    root = next(path.parent for path in place.rglob("Annotations"))
    options = ["--backbone", "sppnet_small", "--weights", "none", "--scales", "96", "--max-windows", "30", "--quiet"]
    out = ["--out", str(tmp_path / "m.safetensors"), "--no-report", "--effort", "quick", "--held-out", "0"]
    assert main(["train", str(root), "--set", "train", *out, *options]) == 0
    assert not (tmp_path / "m.html").exists()
    # Without held-out photographs the page has no scores.
    assert main(["train", str(root), "--set", "train", *out[:2], *out[3:], *options]) == 0
    assert "Accuracy on photographs" not in (tmp_path / "m.html").read_text(encoding="utf-8")


def test_a_file_of_the_user_is_not_replaced(place, tmp_path, capsys):
    root = next(path.parent for path in place.rglob("Annotations"))
    (tmp_path / "m.html").write_text("mine")
    assert main(["train", str(root), "--set", "train", "--out", str(tmp_path / "m.safetensors"), "--quiet"]) == 2
    assert "m.html: already exists and is no page" in capsys.readouterr().err
    assert (tmp_path / "m.html").read_text() == "mine"


def test_a_combination_has_no_page(place, tmp_path, capsys):
    root, model = next(path.parent for path in place.rglob("Annotations")), str(place / "mine.safetensors")
    models = ["--model", model, "--model", model]
    assert main(["evaluate", str(root), "--set", "val", *models, "--report", "-o", str(tmp_path)]) == 2
    assert "--report is for one model" in capsys.readouterr().err
