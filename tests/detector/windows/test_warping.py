"""R-CNN's method: cropping, warping, features, the detector and its training."""

import numpy as np
import pytest
import torch
from detector_options import SMALL_FC, SMALL_WARP
from random_models import random_model
from reference import warp as slow
from sppnet import SPPDetector, WarpDetector, train
from sppnet.data.errors import InputError
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.detector import detector_of
from sppnet.detector.options import FeatureOptions
from sppnet.detector.pooling.spp import spp_pool
from sppnet.detector.training import cache as module
from sppnet.detector.training.cache import RowCache
from sppnet.detector.windows.features import WindowFeatures
from sppnet.detector.windows.warping import WarpFeatures, frames, placements, warp, warp_at_once

WARP = SMALL_WARP["features"]

NASTY = [
    [0, 0, 90, 60],  # the whole image
    [10, 5, 11, 6],  # a pixel
    [0, 0, 90, 1],  # a strip
    [-400, -300, 40, 30],  # mostly outside
    [89.6, 59.6, 90, 60],  # less than a pixel, in the corner
    [20, 10, 20, 10],  # without area
    [200, 200, 300, 300],  # outside
    [3.5, 7.5, 40.5, 30.5],  # edges that are rounded
    [-5000, 20, 5000, 21],  # far wider than the image
]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone():
    return Backbone("squeezenet1_1")


@pytest.fixture(scope="module")
def warped(backbone):
    return WarpFeatures(backbone, WARP)


def test_memory_for_rows_serves_after_scores(backbone, image):
    """Scores are computed in torch's inference mode, whose memory cannot be written to outside of it."""
    features = WarpFeatures(backbone, WARP)
    maps = features.maps(image)
    cells = features.locate(maps, windows_of(5))
    features.scores(maps, cells, torch.zeros(1, features.width), torch.zeros(1))
    rows = torch.cat([rows.clone() for _, rows in features.pooled_chunks(maps, cells)])
    assert torch.equal(rows, features.pool(maps, cells))


def windows_of(count, seed=0):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-20, 110, (count, 2, 2)), axis=1).reshape(count, 4)
    return np.concatenate([corners, NASTY]).astype(np.float32)


@pytest.mark.parametrize(("crop", "context"), [(64, 5), (65, 0), (224, 16), (227, 16)])
def test_squares_equal_the_slow_ones(backbone, image, crop, context):
    windows = windows_of(25)
    pixels = backbone.preprocess(image)
    wanted = frames(windows, crop, context)
    assert wanted.tolist() == [list(slow.frame(window, crop, context)) for window in windows.tolist()]
    squares = warp(pixels, wanted, crop)
    assert squares.shape == (len(windows), 3, crop, crop)
    assert squares.is_contiguous(memory_format=torch.channels_last)
    normalised = pixels[0].permute(1, 2, 0).numpy()
    for square, window in zip(squares, windows.tolist(), strict=True):
        expected = slow.warp(normalised, window, crop, context)
        # OpenCV's weights are float32: a strip of a pixel stretched to hundreds has places off by 1e-5 of a pixel.
        np.testing.assert_allclose(square.permute(1, 2, 0), expected, atol=2e-4)


def test_all_at_once_like_one_by_one(backbone, image):
    pixels = backbone.preprocess(image)
    wanted = frames(windows_of(40, seed=1), 64, 5)
    squares = warp_at_once(pixels, *placements(wanted, (60, 90), 64), 64)
    assert squares.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(squares, warp(pixels, wanted, 64), atol=2e-4)


def test_all_at_once_on_a_photograph_of_noise(backbone):
    """Neighbours of the largest image differ by 4 of these units at most: a place is off by 2e-4 of a pixel at most."""
    rng = np.random.default_rng(2)
    pixels = backbone.preprocess(rng.integers(0, 256, (800, 1200, 3), np.uint8))
    corners = np.sort(rng.uniform(-50, 1250, (30, 2, 2)), axis=1).reshape(30, 4) * [1, 0.7, 1, 0.7]
    wanted = frames(corners, 227, 16)
    squares = warp_at_once(pixels, *placements(wanted, (800, 1200), 227), 227)
    np.testing.assert_allclose(squares, warp(pixels, wanted, 227), atol=1e-3)


def test_context_is_as_wide_as_asked():
    # A window of 192 pixels fills 192 of 224: one pixel stays one pixel, 16 lie around it.
    np.testing.assert_array_equal(frames([[100, 50, 292, 242]], 224, 16), [[84, 34, 308, 258]])


def test_rows_are_the_pyramid_of_each_square_s_map(backbone, warped, image):
    windows = windows_of(7)
    maps = warped.maps(image)
    cells = warped.locate(maps, windows)
    rows = warped.pool(maps, cells)[cells.inverse]
    for row, window in zip(rows, windows, strict=True):
        square = warp(backbone.preprocess(image), frames(window[None], 64, 5), 64)
        with torch.inference_mode():
            of_square = backbone(square)[0]
        height, width = of_square.shape[1:]
        expected = spp_pool(of_square, np.array([[0, 0, width - 1, height - 1]]), WARP.levels)[0]
        # Products of a batch and of one are summed in different orders.
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


def test_equal_windows_go_through_the_network_once(warped, image, monkeypatch):
    seen = []
    through = warped.pooled_crops
    monkeypatch.setattr(
        warped, "pooled_crops", lambda pixels, wanted: seen.extend(wanted.tolist()) or through(pixels, wanted)
    )
    maps = warped.maps(image)
    windows = np.array([[5, 5, 60, 50], [30, 10, 80, 59], [5, 5, 60, 50]], np.float32)
    cells = warped.locate(maps, windows)
    warped.pool(maps, cells)
    warped.pool(maps, cells[np.array([1])])
    assert len(seen) == 2


def test_batches_do_not_matter(backbone, image):
    windows = windows_of(20)
    rows = []
    for batch in (1, 3, 100):
        features = WarpFeatures(backbone, WARP, batch=batch)
        maps = features.maps(image)
        rows.append(features.pool(maps, features.locate(maps, windows)))
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rows[0], rows[2], rtol=1e-4, atol=1e-4)


def test_no_windows_are_no_rows(warped, image):
    maps = warped.maps(image)
    assert warped.pool(maps, warped.locate(maps, np.zeros((0, 4)))).shape == (0, warped.pooled_width)


def test_the_crop_is_the_network_s_input_size_unless_given(backbone, warped):
    assert WarpFeatures(backbone, FeatureOptions(method="warp")).crop == 224
    assert warped.crop == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "roi"}, "one of spp, warp, not 'roi'"),
        ({"method": "warp", "crop": 60}, "crop must be a whole number from 64"),
        ({"method": "warp", "crop": 100, "context": 50}, "more than twice the context"),
        ({"method": "warp", "context": -1}, "context must be a whole number from 0 to 2,048, not -1"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        FeatureOptions(**options)


def test_the_cache_gives_back_what_it_was_filled_with_and_grows(warped, image, tmp_path):
    cache = RowCache(tmp_path, warped)
    first, more = windows_of(5), windows_of(9, seed=4)
    assert not cache.has("key", first)
    cache.fill("key", image, first)
    assert cache.has("key", first)
    assert not cache.has("key", more)
    assert not cache.has("other", first)
    cache.fill("key", image, more)
    assert cache.has("key", np.concatenate([more, first]))
    kept = cache.load("key", (60, 90), torch.float16)
    maps = warped.maps(image)
    cells = warped.locate(maps, np.concatenate([first, more]))
    np.testing.assert_array_equal(warped.pool(kept, cells), warped.pool(maps, cells).half())
    with pytest.raises(ValueError, match="were not among those"):
        warped.pool(kept, warped.locate(kept, np.array([[1, 2, 30, 31]])))
    other = RowCache(tmp_path, WarpFeatures(warped.backbone, FeatureOptions(method="warp", crop=80, levels=(1, 2))))
    assert not other.has("key", first)


def test_damaged_rows_are_computed_again(warped, image, tmp_path, monkeypatch):
    """Even when the process ends between the new rows and the frames that belong to them."""
    first, second = windows_of(5), windows_of(9, seed=4)
    RowCache(tmp_path, warped).fill("key", image, first)
    RowCache(tmp_path, warped).fill("key", image, second)
    (rows,) = tmp_path.glob("*-rows.npy")
    rows.write_bytes(rows.read_bytes()[:-1000])
    assert not RowCache(tmp_path, warped).has("key", first)
    save = module.save_array
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_array", lambda path, array: save(path, array) if path == rows else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            RowCache(tmp_path, warped).fill("key", image, second)
    cache = RowCache(tmp_path, warped)
    assert not cache.has("key", first)
    cache.fill("key", image, np.concatenate([first, second]))
    kept, maps = cache.load("key", (60, 90), torch.float16), warped.maps(image)
    cells = warped.locate(maps, np.concatenate([first, second]))
    np.testing.assert_array_equal(warped.pool(kept, cells), warped.pool(maps, cells).half())


@pytest.fixture(scope="module")
def bundle(warped):
    intercepts = torch.tensor([0.0, 0.1, -0.1])
    return random_model("abc", warped, windows=30, boxes=0.001, score_intercepts=intercepts)


def test_the_detector_has_the_interface_of_the_other_one(bundle, warped, image, tmp_path):
    detector = WarpDetector(bundle)
    windows = windows_of(6)
    detector.set_image(image)
    scores = detector.score_windows(windows)
    maps = warped.maps(image)
    cells = warped.locate(maps, windows)
    rows = warped.pool(maps, cells).double()[cells.inverse]
    expected = rows @ bundle.score_weights.double().T + bundle.score_intercepts.double()
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert len(detector.detect(image, threshold=-10))
    detector.save(tmp_path / "m.safetensors")
    again = WarpDetector.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.detect(image, -10, windows).boxes, detector.detect(image, -10, windows).boxes)
    assert isinstance(detector_of(bundle), WarpDetector)


def test_a_model_of_the_other_method_is_refused(bundle, tmp_path):
    bundle.save(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="method warp, not spp"):
        SPPDetector.load(tmp_path / "m.safetensors")


def test_training_learns(scenes, tmp_path):
    detector = train(scenes, out=tmp_path / "m.safetensors", **SMALL_WARP)
    assert isinstance(detector, WarpDetector)
    assert detector.bundle.features.crop == 64
    sample = scenes[0]
    detector.set_image(sample.image)
    own = detector.score_windows(sample.boxes)[np.arange(len(sample.boxes)), sample.labels]
    others = detector.score_windows(np.array([[0, 0, 12, 12], [100, 80, 128, 96]], np.float32))
    assert own.mean() > others.mean()


def test_kept_rows_and_the_image_serve_for_all_windows(scenes, warped, tmp_path):
    """Held-out photographs are scored on kept rows, and where their boxes were moved to on new ones."""
    sample, cache = scenes[0], RowCache(tmp_path, warped)
    cache.fill("key", sample.image, sample.boxes)
    kept, whole = cache.load("key", sample.image.shape[:2]), warped.maps(sample.image)
    moved = sample.boxes + np.float32([3, 0, 3, 0])
    with pytest.raises(ValueError, match="not among those"):
        warped.pool(kept, warped.locate(kept, moved))
    both = np.concatenate([sample.boxes, moved])
    rows = [warped.pool(maps, warped.locate(maps, both)) for maps in (warped.complete(kept, sample), whole)]
    torch.testing.assert_close(*rows, rtol=2e-3, atol=1e-4)


def test_fc_layers_learn_from_warped_windows_too(scenes, tmp_path):
    options = SMALL_FC | {"features": FeatureOptions(method="warp", crop=64, levels=(1, 2), kind="fc7")}
    detector = train(scenes, out=tmp_path / "m.safetensors", **options)
    assert detector.bundle.features.kind == "fc7"
    assert len(detector.detect(scenes[0].image, threshold=-np.inf))


def test_both_methods_agree_on_a_window_that_is_the_whole_crop(backbone, image):
    """The same pyramid of the same map, once by either class."""
    square = np.ascontiguousarray(np.tile(image, (2, 2, 1))[:64, :64])
    whole = np.array([[0, 0, 64, 64]], np.float32)
    warped = WarpFeatures(backbone, FeatureOptions(method="warp", crop=64, context=0))
    maps = warped.maps(square)
    row = warped.pool(maps, warped.locate(maps, whole))[0]
    pooled = WindowFeatures(backbone, FeatureOptions(scales=(64,)))
    maps = pooled.maps(square)
    height, width = maps.maps[0].shape[1:]
    expected = spp_pool(maps.maps[0], np.array([[0, 0, width - 1, height - 1]]), (1, 2, 3, 6))[0]
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
