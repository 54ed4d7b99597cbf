"""Image scales, box scaling and the choice of a scale."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sppnet.data import boxes as bx
from sppnet.detector.options import MIN_SIDE
from sppnet.detector.windows.scales import MAX_ASPECT, choose_scale, resize, scale_boxes, scaled_size

SCALES = (480, 576, 688, 864, 1200)


@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from([64, 480, 688, 1200]))
def test_scaled_size_keeps_its_promises(height, width, s):
    new_height, new_width = scaled_size((height, width), s)
    aspect = max(height, width) / min(height, width)
    assert min(new_height, new_width) >= MIN_SIDE
    assert max(new_height, new_width) <= MAX_ASPECT * s + 0.5
    if aspect <= MAX_ASPECT:
        assert min(new_height, new_width) == s
    if min(new_height, new_width) > MIN_SIDE:
        # The aspect ratio is kept up to rounding to whole pixels.
        assert abs(new_height * width - new_width * height) <= 0.5 * (height + width) + 1e-6


def test_the_cap_is_the_callers_to_choose():
    assert scaled_size((100, 1000), 200) == (80, 800)
    assert scaled_size((100, 1000), 200, max_side=1500) == (150, 1500)
    assert scaled_size((1, 10000), 688) == (MIN_SIDE, 2752)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (37, 53), (500, 333), (2000, 3000)])
def test_resize_gives_the_scaled_size_and_its_factors(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    before = image.copy()
    scaled, factor_y, factor_x = resize(image, 96)
    assert scaled.dtype == np.uint8
    assert scaled.shape == (*scaled_size(size, 96), 3)
    assert (factor_y, factor_x) == (scaled.shape[0] / size[0], scaled.shape[1] / size[1])
    np.testing.assert_array_equal(image, before)


def test_resize_of_the_same_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (96, 130, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize(image, 96)[0], image)


def test_strong_shrinking_averages():
    # Stripes of one pixel: their mean is 127.5 everywhere, while plain bilinear would pick some of them.
    image = np.zeros((960, 960, 3), np.uint8)
    image[:, ::2] = 255
    scaled = resize(image, 100)[0]
    assert np.abs(scaled.astype(float) - 127.5).max() < 30


def test_a_bright_spot_and_its_box_stay_together():
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:150, 200:260] = 255
    for s in (150, 300, 450, 900):
        scaled, _, _ = resize(image, s)
        rows, columns = np.nonzero(scaled[..., 0] > 127)
        spot = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        box = scale_boxes([[200, 120, 260, 150]], (300, 400), scaled.shape[:2])[0]
        # The corner rule aligns pixel centres at the corners: it may be off by one scale factor.
        np.testing.assert_allclose(box, spot, atol=max(1.5, s / 300))


def test_resize_refuses_other_images():
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not float32 \(9, 9, 3\)"):
        resize(np.zeros((9, 9, 3), np.float32), 96)
    with pytest.raises(ValueError, match=r"not uint8 \(9, 9\)"):
        resize(np.zeros((9, 9), np.uint8), 96)
    with pytest.raises(ValueError, match="at least 64 pixels, not s=20"):
        resize(np.zeros((9, 9, 3), np.uint8), 20)
    with pytest.raises(ValueError, match="not 0 x 5"):
        scaled_size((0, 5), 100)


def test_boxes_scale_by_the_references_rule():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(1, 300, (50, 2, 2)), axis=1).reshape(-1, 4)  # 1-based inclusive
    scaled = scale_boxes(bx.from_voc(corners), (300, 300), (688, 688))
    np.testing.assert_allclose(bx.to_voc(scaled, np.float64), (corners - 1) * (688 - 1) / (300 - 1) + 1, rtol=1e-12)


def test_first_and_last_pixels_keep_their_places():
    np.testing.assert_allclose(scale_boxes([[0, 0, 500, 333]], (333, 500), (688, 1033)), [[0, 0, 1033, 688]])
    assert scale_boxes([[0, 0, 1, 1]], (1, 1), (96, 96)).tolist() == [[0, 0, 1, 1]]


def test_scaling_and_mirroring_commute():
    boxes = np.sort(np.random.default_rng(0).integers(0, 300, (50, 2, 2)), axis=1).reshape(-1, 4).astype(float)
    sizes = (300, 301), (500, 517)
    np.testing.assert_allclose(
        scale_boxes(bx.flip(boxes, 301), *sizes), bx.flip(scale_boxes(boxes, *sizes), 517), atol=1e-9
    )


def slow_choice(box, image_size, rule):
    x1, y1, x2, y2 = box
    size = max((x2 - x1) * (y2 - y1), 1)
    short = min(image_size)
    best = None
    for index, s in enumerate(SCALES):
        if rule == "area":
            height, width = scaled_size(image_size, s)
            distance = abs(size * height * width / (image_size[0] * image_size[1]) - 224 * 224)
        else:
            distance = abs(s - int(208 * short / size**0.5 + 0.5))
        if best is None or distance < best[0]:
            best = distance, index
    return best[1]


@pytest.mark.parametrize("rule", ["area", "reference"])
def test_choice_of_scale_equals_a_loop(rule):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.integers(0, 375, (300, 2, 2)), axis=1).reshape(-1, 4)
    boxes[0] = 7, 7, 7, 30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = choose_scale(boxes, (375, 500), SCALES, rule)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [slow_choice(box, (375, 500), rule) for box in boxes.tolist()]


@pytest.mark.parametrize("rule", ["area", "reference"])
def test_small_windows_get_large_scales(rule):
    whole, dot, nothing = choose_scale([[0, 0, 500, 375], [5, 5, 15, 15], [5, 5, 5, 5]], (375, 500), SCALES, rule)
    assert (whole, dot, nothing) == (0, 4, 4)


def test_a_window_that_fits_a_scale_gets_it():
    # In an image of 576 pixels the window of 224 is already right; one of 224 * 576 / 864 wants 864.
    for s, index in [(576, 1), (864, 3)]:
        side = 224 * 576 / s
        assert choose_scale([[10, 10, 10 + side, 10 + side]], (576, 800), SCALES).tolist() == [index]


def test_canonical_side_is_the_callers_to_choose():
    assert choose_scale([[0, 0, 100, 100]], (480, 480), (480, 960), canonical=100).tolist() == [0]
    assert choose_scale([[0, 0, 100, 100]], (480, 480), (480, 960), canonical=200).tolist() == [1]


def test_no_boxes_and_no_scales():
    chosen = choose_scale(np.zeros((0, 4)), (100, 100), SCALES)
    assert chosen.shape == (0,)
    assert chosen.dtype == np.int64
    with pytest.raises(ValueError, match="at least one scale"):
        choose_scale([[0, 0, 1, 1]], (100, 100), ())
    with pytest.raises(ValueError, match="'area' or 'reference', not 'size'"):
        choose_scale([[0, 0, 1, 1]], (100, 100), SCALES, "size")
