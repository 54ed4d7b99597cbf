"""Pages in a browser: the gallery does what its controls say, and nothing that comes from outside runs as a script."""

import json
import re

import browser
import numpy as np
import pytest
from browser import Page
from sppnet.data.image import is_drawing, read_image, write_image
from sppnet.eval.page import PREVIEW, Gallery, Picture, preview, write_page, write_preview

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def chromium():
    with browser.start() as one:
        yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page of 130 photographs with two classes, one of an evil name; photograph i has objects of 0.00 to i / 100."""
    folder = tmp_path_factory.mktemp("page")
    write_image(folder / "grey.jpg", np.full((60, 90, 3), 128, np.uint8))
    pictures = [
        Picture(
            f"{number:03d}.jpg" if number else EVIL,
            "grey.jpg",
            90,
            60,
            [[number % 2, number / 200 + 0.001, 10, 10, 50, 40], [0, 0.05, 0, 0, 20, 20]],
            truth=[[0, 5, 5, 60, 50]] if number == 1 else [],
            note="a note" if number == 2 else "",
        )
        for number in range(130)
    ]
    gallery = Gallery(("cat", EVIL), (0.5, 0.4), (0.0, 1.0, 0.01), pictures)
    write_page(folder / "page.html", "detections.html", f"Found {EVIL}", [EVIL], gallery, failed=[EVIL])
    return folder


@pytest.fixture
def opened(chromium, folder):
    one = Page(chromium, folder / "page.html")
    yield one
    one.check()
    one.page.context.close()


def slide(page, value):
    page.locator("#level").fill(str(value))


def shown(page):
    return page.locator("#status").inner_text()


def test_nothing_from_outside_is_markup(folder):
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    assert "unsafe" not in policy
    assert "default-src &#39;none&#39;" in policy
    data = json.loads(re.search('id="data">(.*?)</script>', text)[1])
    assert data["images"][0]["file"] == data["classes"][1]["name"] == EVIL


def test_each_class_has_its_default_threshold_until_the_slider_moves(opened):
    page = opened.page
    # Even photographs hold cats above 0.5, odd ones others above 0.4: numbers 100 to 128, and 81 to 129.
    assert shown(page) == "40 objects shown in 40 of 130 photographs"
    assert page.locator("#level-value").inner_text() == "default"
    slide(page, 0.55)
    assert page.locator("#level-value").inner_text() == "0.55"
    assert shown(page) == "20 objects shown in 20 of 130 photographs"
    slide(page, 0.04)
    assert shown(page) == "252 objects shown in 130 of 130 photographs"
    page.locator("#level-default").click()
    assert shown(page) == "40 objects shown in 40 of 130 photographs"
    assert page.locator("#level-default").is_disabled()


def test_classes_are_chosen_and_counted(opened):
    page = opened.page
    assert page.locator("#count-0").inner_text() == "(15)"
    assert page.locator("#count-1").inner_text() == "(25)"
    page.locator("#classes input").nth(0).uncheck()
    assert shown(page) == "25 objects shown in 25 of 130 photographs"
    assert page.locator("#classes label").nth(1).inner_text().startswith(EVIL)
    page.locator("#only").check()
    assert shown(page) == "25 objects shown in 25 of 26 photographs"  # and the one that is labelled
    assert page.locator("#cards li").count() == 26


def test_order_and_pages(opened):
    page = opened.page
    names = page.locator("#cards .name")
    assert names.count() == 60
    assert page.locator("#page").inner_text() == "Page 1 of 3"
    assert page.locator("#previous").is_disabled()
    page.locator("#next").click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#page").inner_text() == "Page 3 of 3"
    assert names.all_inner_texts() == [f"{number:03d}.jpg" for number in range(120, 130)]
    page.locator("#order").select_option("confidence")
    assert page.locator("#page").inner_text() == "Page 1 of 3"
    assert names.nth(0).inner_text() == "129.jpg"
    slide(page, 0.04)
    page.locator("#order").select_option("count")
    assert names.nth(0).inner_text() == "008.jpg"


def test_boxes_lie_where_they_belong(opened):
    page = opened.page
    page.locator("#order").select_option("confidence")
    picture = page.locator("#cards .picture").nth(0).bounding_box()
    box = page.locator("#cards .box.found").nth(0).bounding_box()
    for side, of_box, expected in (("x", "width", (10, 40)), ("y", "height", (10, 30))):
        scale = picture[of_box] / (90 if side == "x" else 60)
        assert box[side] - picture[side] == pytest.approx(expected[0] * scale, abs=0.6)
        assert box[of_box] == pytest.approx(expected[1] * scale, abs=0.6)
    page.locator("#order").select_option("given")
    assert page.locator("#cards li").nth(1).locator(".box.truth").count() == 1


def test_a_large_picture_by_keyboard(opened):
    page = opened.page
    page.locator("#cards button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#zoom").is_visible()
    assert page.locator("#zoom-name").inner_text() == "001.jpg"
    assert page.locator("#zoom .tag").all_inner_texts() == ["cat, labelled"]
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom-name").inner_text() == "002.jpg"
    assert page.locator("#zoom-found").inner_text() == "a note: nothing shown"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#zoom-name").inner_text() == EVIL
    assert page.locator("#zoom-previous").is_disabled()
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    # The focus is where it was.
    assert page.evaluate("document.activeElement.className") == "card"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_everybody_can_read_it(chromium, folder, scheme, width):
    one = Page(chromium, folder / "page.html", width=width, scheme=scheme)
    assert one.axe() == {}
    one.page.locator("#cards button").nth(1).click()
    assert one.axe() == {}
    one.check()
    one.page.context.close()


def test_previews_are_small_and_known_as_ours(tmp_path):
    large = np.zeros((1200, 2000, 3), np.uint8)
    large[:, :1000] = 200
    assert preview(large).shape == (480, 800, 3)
    small = np.zeros((20, 30, 3), np.uint8)
    assert preview(small).shape == small.shape
    write_preview(tmp_path / "a.jpg", large)
    assert max(read_image(tmp_path / "a.jpg").shape) == PREVIEW
    assert is_drawing(tmp_path / "a.jpg")


def test_a_page_without_a_gallery_has_no_script(tmp_path):
    write_page(tmp_path / "a.html", "base.html", "Nothing", [])
    assert "<script" not in (tmp_path / "a.html").read_text()
