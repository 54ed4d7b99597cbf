"""The other proposal methods behind the Protocol."""

import importlib.util

import cv2
import numpy as np
import pytest
from sppnet.data.boxes import iou
from sppnet.data.errors import InputError
from sppnet.data.scenes import draw_scene
from sppnet.proposals.backends import METHODS, OpenCVSelectiveSearch, SelectiveSearch, make_proposer
from sppnet.proposals.selective_search import selective_search

needs_contrib = pytest.mark.skipif(not hasattr(cv2, "ximgproc"), reason="OpenCV without contrib modules")
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("selectivesearch") is None, reason="selectivesearch is not installed"
)
ALL = [
    "fast",
    "quality",
    "dense",
    pytest.param("opencv", marks=needs_contrib),
    pytest.param("selectivesearch", marks=needs_package),
]


@pytest.mark.parametrize("method", ALL)
def test_every_method_finds_a_plain_object(method):
    image = np.full((90, 120, 3), 60, np.uint8)
    image[20:60, 30:90] = (250, 40, 40)
    boxes = make_proposer(method)(image)
    assert boxes.dtype == np.float32
    assert iou(np.array([[30, 20, 90, 60]], np.float32), boxes).max() > 0.85


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (4, 90), (120, 20), (30, 120), (700, 900)])
@pytest.mark.parametrize("grey", [False, True])
def test_every_method_takes_any_image(method, shape, grey):
    image = np.full(shape if grey else (*shape, 3), 128, np.uint8)
    image[: shape[0] // 2] = 40
    boxes = make_proposer(method, max_boxes=7)(image)
    assert boxes.dtype == np.float32
    assert 1 <= len(boxes) <= 7
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2:] <= [shape[1], shape[0]]).all()


@pytest.mark.parametrize("method", ALL)
def test_options_tell_different_proposers_apart(method):
    few, many = make_proposer(method, max_boxes=10), make_proposer(method, max_boxes=11)
    assert few.name == method
    assert few.options() != many.options()
    assert few.options() == make_proposer(method, max_boxes=10).options()


def test_our_own_is_the_public_function():
    image = draw_scene(np.random.default_rng(0), (100, 130)).image
    assert np.array_equal(make_proposer("fast", 100, seed=5)(image), selective_search(image, "fast", 100, seed=5))


def test_an_unknown_method_is_refused_with_the_nearest_one():
    with pytest.raises(InputError, match="unknown proposal method 'qualty'; did you mean 'quality'"):
        make_proposer("qualty")
    with pytest.raises(InputError, match=f"expected one of {', '.join(METHODS)}"):
        make_proposer("xyz")


@pytest.mark.parametrize("method", ALL)
def test_max_boxes_is_checked_at_once(method):
    with pytest.raises(InputError, match="max_boxes must be at least 1"):
        make_proposer(method, max_boxes=0)


def test_an_unknown_mode_is_refused_at_once():
    with pytest.raises(InputError, match="mode must be one of fast, quality"):
        SelectiveSearch("slow")


def test_opencv_without_contrib_says_what_to_install(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    with pytest.raises(InputError, match="pip install opencv-contrib-python-headless"):
        OpenCVSelectiveSearch()
