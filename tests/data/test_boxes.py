import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.iou import area as slow_area
from reference.iou import iou as slow_iou
from sppnet.data import boxes as bx

# A coarse grid of corners makes ties, shared edges, equal boxes and boxes turned inside out common.
GRID_BOXES = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-4, 6).map(float))
WHOLE_BOXES = arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.integers(-(2**20), 2**20))


@given(GRID_BOXES, GRID_BOXES)
def test_iou_and_area_are_those_of_the_slow_twin(a, b):
    expected = np.array([[slow_iou(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    np.testing.assert_array_equal(bx.iou(a, b), expected)
    np.testing.assert_array_equal(bx.area(a), [slow_area(x) for x in a])


def test_iou_of_planted_boxes():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(bx.iou(a, b), [[1, 1 / 3, 0, 0.04, 0]], rtol=1e-6)
    assert bx.iou(a, b).dtype == np.float32


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 3), (3, 0)])
def test_iou_of_nothing_keeps_its_shape(rows, columns):
    assert bx.iou(np.zeros((rows, 4), np.float32), np.zeros((columns, 4), np.float32)).shape == (rows, columns)


@given(WHOLE_BOXES)
def test_voc_corners_there_and_back(boxes):
    np.testing.assert_array_equal(bx.from_voc(bx.to_voc(boxes)), boxes)
    np.testing.assert_array_equal(bx.to_voc(bx.from_voc(boxes)), boxes)


def test_voc_corners_of_a_whole_image():
    """VOC's 1-based inclusive corners of a 500 x 375 image are 1, 1, 500, 375."""
    np.testing.assert_array_equal(bx.to_voc([[0, 0, 500, 375]]), [[1, 1, 500, 375]])
    assert bx.area(bx.from_voc([[1, 1, 500, 375]])) == 500 * 375


def test_as_boxes_gives_empty_boxes_their_shape():
    assert bx.as_boxes([]).shape == (0, 4)
    assert bx.as_boxes(np.zeros((0, 4))).dtype == np.float32


@pytest.mark.parametrize("wrong", [np.zeros((3, 5)), np.zeros(4), np.zeros((1, 2, 4))])
def test_as_boxes_refuses_other_shapes(wrong):
    with pytest.raises(ValueError, match=rf"shape \(N, 4\), not \({wrong.shape[0]}"):
        bx.as_boxes(wrong)


def test_clip_scale_flip_on_planted_boxes():
    boxes = np.array([[-5, 2, 30, 8]], np.float32)
    np.testing.assert_array_equal(bx.clip(boxes, height=6, width=20), [[0, 2, 20, 6]])
    np.testing.assert_array_equal(bx.scale(boxes, factor_y=2, factor_x=0.5), [[-2.5, 4, 15, 16]])
    np.testing.assert_array_equal(bx.flip(boxes, width=20), [[-10, 2, 25, 8]])
    np.testing.assert_array_equal(boxes, [[-5, 2, 30, 8]])


@given(WHOLE_BOXES)
def test_flip_twice_is_nothing(boxes):
    np.testing.assert_array_equal(bx.flip(bx.flip(boxes, 640), 640), boxes)


def test_flip_is_the_flip_of_the_pixels():
    image = np.zeros((6, 10), bool)
    image[1:4, 2:5] = True
    rows, columns = np.nonzero(image[:, ::-1])
    expected = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    np.testing.assert_array_equal(bx.flip(np.array([[2, 1, 5, 4]], np.float32), 10), expected)


@given(GRID_BOXES)
def test_unique_keeps_first_appearances_in_order(boxes):
    seen = []
    for box in boxes.tolist():
        if box not in seen:
            seen.append(box)
    np.testing.assert_array_equal(bx.unique(boxes), np.array(seen).reshape(-1, 4))


@given(st.data())
def test_decode_undoes_encode(data):
    side = st.floats(1, 500)
    corner = st.floats(-500, 500)
    windows, targets = (
        np.array(
            [
                [x, y, x + w, y + h]
                for x, y, w, h in data.draw(st.lists(st.tuples(corner, corner, side, side), min_size=3, max_size=3))
            ]
        )
        for _ in range(2)
    )
    # decode holds sizes at exp(4) times the window's, which these may pass.
    ratio = (targets[:, 2:] - targets[:, :2]) / (windows[:, 2:] - windows[:, :2])
    fits = (ratio < np.exp(4)).all(axis=1)
    np.testing.assert_allclose(bx.decode(windows, bx.encode(windows, targets))[fits], targets[fits], atol=1e-6)


def test_encode_of_a_planted_pair():
    """Moved by half its width and twice as high: dx = 0.5, dh = log 2."""
    window, target = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, -5, 15, 15]])
    np.testing.assert_allclose(bx.encode(window, target), [[0.5, 0, 0, np.log(2)]])


def test_decode_of_wild_numbers_stays_finite():
    assert np.isfinite(bx.decode(np.array([[0, 0, 10, 10]], np.float32), np.full((1, 4), 1000, np.float32))).all()
