"""The public function: any image, the same boxes on any number of threads, objects found."""

import os
from pathlib import Path

import numpy as np
import pytest
from sppnet.data.boxes import as_boxes, iou
from sppnet.data.errors import InputError
from sppnet.data.scenes import draw_scene
from sppnet.proposals.ranking import ranked
from sppnet.proposals.selective_search import MODES, selective_search
from sppnet.proposals.working_image import large_enough, to_original, working_image


def scene(seed=0, size=(120, 160)):
    return draw_scene(np.random.default_rng(seed), size)


def assert_valid(boxes, height, width):
    assert boxes.dtype == np.float32
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    assert len(boxes) > 0
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (boxes == [0, 0, width, height]).all(axis=1).any()


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_boxes_on_any_number_of_threads(mode):
    image = scene().image
    once = selective_search(image, mode, None, seed=3, threads=1)
    assert_valid(once, *image.shape[:2])
    for threads in (2, 5, None):
        assert np.array_equal(once, selective_search(image, mode, None, seed=3, threads=threads))
    other = selective_search(image, mode, None, seed=4)
    assert not np.array_equal(once, other)
    assert np.array_equal(np.unique(once, axis=0), np.unique(other, axis=0))


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (2, 2), (5, 3), (10, 2000), (2000, 10), (900, 1200), (1, 70000)],
)
def test_any_size_and_proportions(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert_valid(selective_search(image), *shape)
    assert_valid(selective_search(np.zeros((*shape, 3), np.uint8)), *shape)


def test_a_single_pixel_is_its_own_box():
    assert selective_search(np.zeros((1, 1, 3), np.uint8)).tolist() == [[0, 0, 1, 1]]


def test_grey_is_three_equal_channels():
    grey = scene().image[:, :, 1]
    boxes = selective_search(grey)
    assert_valid(boxes, *grey.shape)
    assert np.array_equal(boxes, selective_search(np.repeat(grey[:, :, None], 3, axis=2)))


def test_arguments_are_left_alone_and_views_are_welcome():
    image = scene().image
    before = image.copy()
    boxes = selective_search(image[:, ::-1])
    assert np.array_equal(image, before)
    assert np.array_equal(boxes, selective_search(np.ascontiguousarray(image[:, ::-1])))


def test_max_boxes_keeps_the_first():
    image = scene().image
    everything = selective_search(image, max_boxes=None)
    assert len(everything) > 50
    assert np.array_equal(selective_search(image, max_boxes=50), everything[:50])


def test_planted_objects_are_found():
    overlaps = []
    for seed in range(10):
        drawn = scene(seed, (240, 320))
        found = selective_search(drawn.image)
        overlaps.extend(iou(drawn.boxes[~drawn.difficult], found).max(axis=1))
    assert len(overlaps) > 10
    assert np.mean(np.array(overlaps) >= 0.7) > 0.8


def test_quality_finds_more_than_fast():
    image = scene(size=(240, 320)).image
    assert len(selective_search(image, "quality", None)) > 2 * len(selective_search(image, "fast", None))


def test_small_images_get_small_boxes():
    image = np.full((80, 100, 3), 60, np.uint8)
    image[30:38, 40:50] = (250, 40, 40)
    assert iou(np.array([[40, 30, 50, 38]], np.float32), selective_search(image)).max() > 0.8


def test_large_images_are_scaled_and_their_boxes_scaled_back():
    image = np.full((1500, 2000, 3), 60, np.uint8)
    image[300:900, 500:1500] = (250, 40, 40)
    boxes = selective_search(image)
    assert_valid(boxes, 1500, 2000)
    assert iou(np.array([[500, 300, 1500, 900]], np.float32), boxes).max() > 0.97
    assert working_image(image).shape == (433, 577, 3)


def test_working_image_is_the_image_itself_when_small_enough():
    image = np.zeros((500, 500, 3), np.uint8)
    assert working_image(image) is image
    assert working_image(np.zeros((1, 10**6, 3), np.uint8)).shape == (1, 250000, 3)


def test_narrow_boxes_are_dropped_unless_the_image_is_as_narrow():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 9, 50], [0, 0, 50, 9], [0, 0, 400, 5]])
    assert large_enough(boxes, 400, 400).tolist() == [[0, 0, 10, 10]]
    assert large_enough(boxes, 5, 400).tolist() == [[0, 0, 10, 10], [0, 0, 9, 50], [0, 0, 50, 9], [0, 0, 400, 5]]


def test_scaling_back_reaches_the_border_exactly():
    image, working = np.zeros((1000, 3001, 3)), np.zeros((289, 866, 3))
    assert to_original(np.array([[0, 0, 866, 289]]), working, image).tolist() == [[0, 0, 3001, 1000]]
    assert to_original(as_boxes([]), working, image).shape == (0, 4)


def test_rank_is_position_times_chance_without_repeats():
    hierarchy = np.arange(400).reshape(100, 4) % 97
    first = ranked([hierarchy, hierarchy], seed=1)
    assert np.array_equal(first, ranked([hierarchy, hierarchy], seed=1))
    assert not np.array_equal(first, ranked([hierarchy, hierarchy], seed=2))
    assert np.array_equal(np.unique(first, axis=0), np.unique(hierarchy, axis=0))
    # The last of a long hierarchy come early on average, not always.
    long = np.stack([np.arange(1000)] * 4, axis=1)
    place = np.empty(1000)
    place[ranked([long], seed=0)[:, 0]] = np.arange(1000)
    assert place[900:].mean() < place[:900].mean() - 200
    assert place[999] < 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "best"}, "mode must be one of fast, quality, not 'best'"),
        ({"max_boxes": 0}, "max_boxes must be at least 1, or None for all, not 0"),
        ({"threads": 0}, "threads must be at least 1, or None for all CPUs, not 0"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError) as error:
        selective_search(np.zeros((5, 5, 3), np.uint8), **arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5, 3)), np.zeros((5, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8), np.zeros(5, np.uint8)]
)
def test_wrong_images_are_refused(image):
    with pytest.raises(ValueError, match="image must"):
        selective_search(image)


@pytest.mark.parametrize("name", ["000004", "001551"])
def test_boxes_cover_those_of_fast_rcnns_demo(name):
    """Most boxes of the authors' MATLAB code have one of ours nearby."""
    shared = os.environ.get("SPPNET_SHARED")
    if not shared:
        pytest.skip("SPPNET_SHARED names no folder with selective-search-reference")
    from scipy.io import loadmat
    from sppnet.data.image import read_image

    folder = Path(shared) / "data" / "selective-search-reference"
    theirs = loadmat(folder / f"{name}_boxes.mat")["boxes"].astype(np.float32) + np.array([0, 0, 1, 1], np.float32)
    ours = selective_search(read_image(folder / f"{name}.jpg"), max_boxes=None)
    assert np.mean(iou(theirs, ours).max(axis=1) >= 0.5) > 0.8
