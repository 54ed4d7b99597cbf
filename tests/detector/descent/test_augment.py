"""Training crops: position, scaling, colour changes, and their frequencies."""

import itertools

import cv2
import numpy as np
import pytest
from reference import augment as slow
from sppnet.data.errors import InputError
from sppnet.detector.descent import augment
from sppnet.detector.descent.augment import at_size, centre_crop, training_crop, warped
from sppnet.detector.descent.options import KINDS, Augmentation

NASTY = [(1, 1), (3, 500), (500, 3), (1, 20000), (2, 2), (13, 11), (223, 257), (700, 90)]

PLACES = [(0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)]


def noise(height, width, low=0, high=256):
    return np.random.default_rng(0).integers(low, high, (height, width, 3)).astype(np.uint8)


def waves(height, width, slope=6.0):
    """An image whose colours change by at most ``slope`` from a pixel to the next, along either axis."""
    y, x = np.mgrid[:height, :width]
    step = slope / 60
    one = 60 * np.sin(step * x + 0.3) + 60 * np.cos(step * y)
    return np.rint(np.stack([127 + one, 127 - one, 127 + one[::-1]], axis=2)).astype(np.uint8)


def crops_of(image, side, warp=False):
    """The five places that "paper" cuts at, without mirroring and lighting."""
    shorter = round(side * 256 / 224)
    size = (shorter, shorter) if warp else slow.scaled_size(image, shorter)
    return [augment._part_of_scaled(image, size, place, side) for place in PLACES]


def slow_crops(image, side, warp=False):
    shorter = round(side * 256 / 224)
    size = (shorter, shorter) if warp else slow.scaled_size(image, shorter)
    return slow.five_crops(slow.scaled(image, *size), side)


# Sizes at which every place begins between two pixels: scaled by 1, 2, 8, 1/2, and by 1/3 and 1/4, which average.
@pytest.mark.parametrize(
    ("size", "side"), [((32, 48), 28), ((16, 24), 28), ((4, 8), 28), ((64, 96), 28), ((96, 96), 28), ((320, 128), 28)]
)
def test_places_between_pixels_are_those_of_the_whole_image_scaled(size, side):
    image = noise(*size)
    for crop, expected in zip(crops_of(image, side), slow_crops(image, side), strict=True):
        # OpenCV rounds the weights of its interpolation and what comes out.
        assert np.abs(crop - expected).max() <= 1


@pytest.mark.parametrize("warp", [False, True])
@pytest.mark.parametrize(
    "size", [(100, 137), (91, 60), (45, 31), (33, 300), (500, 375), (20, 20), (150, 149), (7, 40), (3, 90)]
)
def test_other_places_are_off_by_no_more_than_half_of_the_smaller_pixels(size, warp):
    slope = 6.0
    image = waves(*size, slope)
    places = zip(crops_of(image, 56, warp), slow_crops(image, 56, warp), strict=True)
    for number, (crop, expected) in enumerate(places):
        assert crop.shape == (56, 56, 3)
        # Half a pixel of the image, or, where it grows, of its copy; along both axes. 1 for the rounding.
        new = (64, 64) if warp else slow.scaled_size(image, 64)
        shift = 0 if number == 1 else sum(0.5 * min(1, old / scaled) for old, scaled in zip(size, new, strict=True))
        assert np.abs(crop - expected).max() <= 1 + slope * shift


@pytest.mark.parametrize("size", [(40, 60), (60, 40)])
@pytest.mark.parametrize("warp", [False, True])
def test_paper_takes_ten_crops_equally_often(size, warp):
    image = noise(*size, 90, 160)
    ten = [version for crop in crops_of(image, 28, warp) for version in (crop, crop[:, ::-1])]
    options, rng, counts = Augmentation("paper", warp=warp), np.random.default_rng(1), np.zeros(10, int)
    for _ in range(600):
        crop = training_crop(image, 28, options, rng).astype(float)
        # Light adds one colour to all pixels, so that only the right crop differs by the same everywhere.
        uneven = [(crop - known).std(axis=(0, 1)).max() for known in ten]
        assert min(uneven) < 0.5
        counts[np.argmin(uneven)] += 1
    # Sixty of each are expected, with a standard deviation of 7.3.
    assert counts.min() >= 35
    assert counts.max() <= 85


def test_lighting_has_the_published_spread():
    rng = np.random.default_rng(0)
    shifts = np.stack([augment._lighting(rng)[:, 3] for _ in range(4000)])
    assert not augment._lighting(rng)[:, :3].any()
    # Along the published components it has their spread times 0.1, in values up to 255, and no correlation.
    along = shifts @ np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    np.testing.assert_allclose(along.std(axis=0), 25.5 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(along.T), np.eye(3), atol=0.05)
    np.testing.assert_allclose(along.mean(axis=0) / along.std(axis=0), 0, atol=0.05)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("factors", [(0.6, 1.4, 0.7), (1.3, 0.6, 1.4), (1, 1, 1), (0, 0.5, 1), (1, 0, 1), (1, 1, 0)])
def test_one_colour_change_is_three_steps_in_any_order(order, factors):
    crop = noise(12, 9, 100, 156)
    change = augment._colour_change(crop.mean(axis=(0, 1)), *factors)
    expected = np.clip(slow.jittered(crop, *factors, order), 0, 255)
    # OpenCV has the matrix in steps of 1/1024, and rounds what comes out.
    assert np.abs(augment._recoloured(crop, change) - expected).max() <= 1.25


def test_colours_stay_within_their_range():
    crop = noise(8, 8)
    brighter = augment._recoloured(crop, np.hstack([1.4 * np.eye(3), np.full((3, 1), 20.0)]))
    assert np.abs(brighter - np.clip(1.4 * crop + 20, 0, 255)).max() <= 1.25


@pytest.mark.parametrize("warp", [False, True])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (200, 200)])
def test_regions_have_the_area_and_the_shape_asked_for(size, warp):
    rng, options = np.random.default_rng(0), Augmentation("strong", warp=warp, area=(0.3, 0.6))
    regions = np.array([augment._random_region(size, options, rng) for _ in range(1500)], float)
    left, top, right, bottom = regions.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= size[1]
    assert bottom.max() <= size[0]
    area = (right - left) * (bottom - top) / (size[0] * size[1])
    shape = (right - left) / (bottom - top) / (size[1] / size[0] if warp else 1)
    # Sides are rounded to whole pixels.
    assert 0.295 <= area.min() < 0.31
    assert 0.59 < area.max() <= 0.605
    assert 0.74 <= shape.min() < 0.77
    assert 1.3 < shape.max() <= 1.35
    # Uniform: as many below the middle of the range as above it, of the area and of the logarithm of the shape.
    assert np.mean(area < 0.45) == pytest.approx(0.5, abs=0.05)
    assert np.mean(shape < 1) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("size", "region"),
    [((3, 500), (248, 0, 252, 3)), ((500, 3), (0, 248, 3, 252)), ((50, 500), (216, 0, 283, 50))],
)
def test_where_no_shape_has_room_the_centre_is_taken(size, region):
    # At most 4/3 of the other side: 3 * 4/3 and 50 * 4/3 = 66.7 pixels, and a quarter of these areas has no room.
    found = augment._random_region(size, Augmentation("strong", area=(0.9, 1.0)), np.random.default_rng(0))
    assert found == region


def test_strong_shows_the_region_that_was_drawn(monkeypatch):
    image = noise(60, 80)
    monkeypatch.setattr(augment, "_random_region", lambda *_: (10, 5, 60, 55))
    monkeypatch.setattr(augment, "_JITTER", 0.0)
    monkeypatch.setattr(augment, "_LIGHTING", 0.0)
    monkeypatch.setattr(augment, "_ERASE_PROBABILITY", 0.0)
    expected = slow.scaled(image[5:55, 10:60], 32, 32)
    rng, mirrored = np.random.default_rng(0), 0
    for _ in range(200):
        crop = training_crop(image, 32, Augmentation("strong"), rng)
        straight, turned = (np.abs(crop - known).max() for known in (expected, expected[:, ::-1]))
        assert min(straight, turned) <= 1
        mirrored += turned < straight
    assert 75 <= mirrored <= 125


def test_one_crop_in_four_loses_a_rectangle():
    crop, rng = noise(60, 60, 0, 100), np.random.default_rng(0)
    before, erased, areas = crop.copy(), 0, []
    mean = np.rint(crop.mean(axis=(0, 1)))
    for _ in range(1000):
        result = augment._erased(crop, rng)
        rows, columns = np.nonzero((result != crop).any(axis=2))
        if len(rows) == 0:
            continue
        erased += 1
        part = result[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (part == mean).all()
        areas.append(part.size / crop.size)
    np.testing.assert_array_equal(crop, before)
    # A few long rectangles have no room.
    assert 200 <= erased <= 290
    assert 0.015 <= min(areas) < 0.03
    assert 0.18 < max(areas) <= 0.21


def test_strong_changes_colours_and_erases():
    # An even image stays even, in other colours from time to time; one with a white half shows where it was erased.
    even = np.full((50, 60, 3), (120, 100, 80), np.uint8)
    crops = [training_crop(even, 24, Augmentation("strong"), np.random.default_rng(seed)) for seed in range(60)]
    colours = np.array([crop[0, 0] for crop in crops], float)
    assert all(np.ptp(crop.reshape(-1, 3), axis=0).max() <= 1 for crop in crops)
    assert (colours.std(axis=0) > 10).all()
    halves = even.copy()
    halves[:25] = 255
    found = [training_crop(halves, 24, Augmentation("strong"), np.random.default_rng(seed)) for seed in range(200)]
    # Between the two colours and the row where they meet there is a third one only where something was erased.
    third = sum(len(np.unique(crop[:, :, 2])) > 3 for crop in found)
    assert 20 <= third <= 80


def test_none_is_the_centre_and_draws_nothing():
    image, rng = noise(64, 96), np.random.default_rng(0)
    state = rng.bit_generator.state
    crop = training_crop(image, 28, Augmentation("none"), rng)
    np.testing.assert_array_equal(crop, centre_crop(image, 28, 32))
    assert np.abs(crop - slow_crops(image, 28)[0]).max() <= 1
    np.testing.assert_array_equal(training_crop(image, 28, Augmentation("none", warp=True), rng), warped(image, 28))
    assert rng.bit_generator.state == state


@pytest.mark.parametrize(
    ("size", "side"), [((40, 30), 28), ((90, 120), 28), ((9, 5), 28), ((28, 28), 28), ((60, 20), 28)]
)
def test_warped_shows_the_whole_image(size, side):
    image = noise(*size)
    assert np.abs(warped(image, side) - slow.scaled(image, side, side)).max() <= 1


def test_at_size_is_a_square_at_another_size():
    crop = noise(56, 56)
    for side in (20, 45, 56, 80):
        assert np.abs(at_size(crop, side) - slow.scaled(crop, side, side)).max() <= 1
    with pytest.raises(ValueError, match=r"must be square, not \(56, 50, 3\)"):
        at_size(crop[:, :50], 45)


@pytest.mark.parametrize("warp", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", NASTY)
def test_any_image_gives_a_square(size, kind, warp):
    image, options = noise(*size), Augmentation(kind, warp=warp)
    before = image.copy()
    for side in (1, 32, 224):
        crop = training_crop(image, side, options, np.random.default_rng(5))
        assert (crop.shape, crop.dtype) == ((side, side, 3), np.uint8)
        assert crop.flags.c_contiguous
        np.testing.assert_array_equal(crop, training_crop(image, side, options, np.random.default_rng(5)))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_other_arrays_are_images_too(kind):
    image = noise(40, 50)
    for view in (image[::-1, ::-1], image[:, :, ::-1], image.transpose(1, 0, 2)[5:, 3:]):
        crops = [training_crop(each, 24, Augmentation(kind), np.random.default_rng(2)) for each in (view, view.copy())]
        np.testing.assert_array_equal(*crops)


def test_a_narrow_image_is_not_scaled_as_a_whole(monkeypatch):
    # The whole would have 256 x 25,600,000 pixels.
    sizes, real = [], cv2.resize
    monkeypatch.setattr(
        cv2, "resize", lambda image, *rest, **named: sizes.append(image.size) or real(image, *rest, **named)
    )
    crop = training_crop(noise(1, 100_000), 224, Augmentation("paper"), np.random.default_rng(0))
    assert crop.shape == (224, 224, 3)
    assert max(sizes) <= 10


@pytest.mark.parametrize("call", [warped, at_size, lambda image, side: centre_crop(image, side, 300)])
def test_other_arguments_are_refused(call):
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not float32 \(9, 9, 3\)"):
        call(np.zeros((9, 9, 3), np.float32), 28)
    with pytest.raises(ValueError, match=r"not uint8 \(9, 9\)"):
        call(np.zeros((9, 9), np.uint8), 28)
    with pytest.raises(ValueError, match=r"not uint8 \(0, 9, 3\)"):
        call(np.zeros((0, 9, 3), np.uint8), 28)
    with pytest.raises(ValueError, match="at least 1 x 1 pixels, not 0 x 0"):
        call(noise(9, 9), 0)
    with pytest.raises(ValueError, match="shorter side of at least 28 pixels, not 27"):
        centre_crop(noise(9, 9), 28, 27)
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not uint8 \(9, 9\)"):
        training_crop(np.zeros((9, 9), np.uint8), 28, Augmentation(), np.random.default_rng(0))


def test_options_go_to_json_and_back_and_are_checked():
    options = Augmentation("strong", warp=True, area=(0.5, 0.9))
    assert Augmentation.from_dict(options.to_dict()) == options
    with pytest.raises(InputError, match="one of none, paper, strong, not 'weak'"):
        Augmentation("weak")
    for area in [(0.0, 1.0), (0.5, 0.4), (0.5, 1.1)]:
        with pytest.raises(InputError, match="area must be two shares of a photograph, 0 < least <= most <= 1, not"):
            Augmentation("strong", area=area)
