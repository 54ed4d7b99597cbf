"""Windows through scales, projection and pooling: the fast path equals one window at a time."""

import pickle

import numpy as np
import pytest
import torch
from sppnet.data.boxes import flip
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.truncation import default_layers
from sppnet.detector.head.head import Head
from sppnet.detector.options import FeatureOptions
from sppnet.detector.pooling.spp import Poolable
from sppnet.detector.windows import features as features_module
from sppnet.detector.windows.features import Cells, FeatureMaps, WindowFeatures
from sppnet.detector.windows.projection import project
from sppnet.detector.windows.scales import choose_scale, resize, scale_boxes, scaled_size
from torch.nn import functional


def random_windows(rng, count, height, width):
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * (width, height)
    return np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1).clip(0, (width, height) * 2).astype(np.float32)


def one_window(features, image, window):
    """The feature of a single window, by the paper's steps and torch's own pooling."""
    options, backbone = features.options, features.backbone
    size = image.shape[:2]
    scale = options.scales[choose_scale(window[None], size, options.scales)[0]]
    with torch.no_grad():
        whole = backbone(backbone.preprocess(resize(image, scale)[0]))[0]
    scaled = scale_boxes(window[None], size, scaled_size(size, scale))
    x0, y0, x1, y1 = project(scaled, tuple(whole.shape[1:]), backbone.stride, backbone.offset0)[0]
    part = whole[:, y0 : y1 + 1, x0 : x1 + 1]
    blocks = [functional.adaptive_max_pool2d(part, n).permute(1, 2, 0).reshape(-1) for n in options.levels]
    return torch.cat(blocks).numpy()


def test_every_window_equals_the_one_at_a_time_path(far_scales):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 140, 3), np.uint8)
    windows = random_windows(rng, 40, 90, 140)
    maps = far_scales.maps(image)
    cells = far_scales.locate(maps, windows)
    assert set(cells.scale) == {0, 1}
    pooled = far_scales.pool(maps, cells).numpy()
    assert pooled.shape == (len(cells), far_scales.width)
    for window, row in zip(windows, cells.inverse, strict=True):
        np.testing.assert_array_equal(pooled[row], one_window(far_scales, image, window))


def test_maps_of_several_strides_are_pooled_beside_each_other():
    """As if there were a network for each layer; windows that differ on one of the maps are different ones."""
    both = Backbone("mobilenet_v2", layer="features.6,features.14.conv.0,features.18", seed=1)
    options = FeatureOptions(scales=(96, 200), levels=(1, 3))
    features = WindowFeatures(both, options)
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (90, 140, 3), np.uint8)
    windows = random_windows(rng, 40, 90, 140)
    windows = np.concatenate([windows, windows + np.float32(0.01)])
    maps = features.maps(image)
    cells = features.locate(maps, windows)
    found = features.pool(maps, cells).numpy()[cells.inverse]
    single = []
    for layer in ("features.6", "features.14.conv.0,features.18"):
        one = WindowFeatures(Backbone("mobilenet_v2", both.state(), layer), options)
        on_one = one.locate(one.maps(image), windows)
        assert len(on_one) <= len(cells)
        single.append(one.pool(one.maps(image), on_one).numpy()[on_one.inverse])
    np.testing.assert_array_equal(found, np.concatenate(single, axis=1))
    assert found.shape[1] == features.pooled_width == (32 + 576 + 1280) * 10
    assert len(cells) < 50
    some = cells[np.arange(0, len(cells), 3)]
    np.testing.assert_array_equal(features.pool(maps, some), features.pool(maps, cells)[::3])


def test_windows_on_the_same_cells_are_pooled_once(far_scales):
    rng = np.random.default_rng(1)
    maps = far_scales.maps(rng.integers(0, 256, (90, 140, 3), np.uint8))
    windows = random_windows(rng, 20, 90, 140)
    cells = far_scales.locate(maps, np.concatenate([windows, windows + np.float32(0.01)]))
    assert len(cells) <= 24
    np.testing.assert_array_equal(cells.inverse[:20], far_scales.locate(maps, windows).inverse)


def test_chunks_make_up_the_whole(far_scales, monkeypatch):
    monkeypatch.setitem(features_module.CHUNK, "cpu", 7)
    rng = np.random.default_rng(2)
    maps = far_scales.maps(rng.integers(0, 256, (90, 140, 3), np.uint8))
    cells = far_scales.locate(maps, random_windows(rng, 40, 90, 140))
    # Cloned, for the next rows overwrite these.
    parts = [(part, rows.clone()) for part, rows in far_scales.chunks(maps, cells)]
    assert [part.start for part, _ in parts] == list(range(0, len(cells), 7))
    np.testing.assert_array_equal(torch.cat([rows for _, rows in parts]), far_scales.pool(maps, cells))


@pytest.mark.parametrize(
    ("channels", "count", "lengths"),
    [
        (100, 600, [256, 256, 88]),  # 5,000 numbers: the whole chunk fits
        (256, 300, [128, 128, 44]),
        (256, 256 + 200, [128, 128, 200]),
        (480, 530, [64] * 8 + [18]),
        (480, 200, [64, 64, 72]),
        (480, 63, [63]),
        (5000, 40, [16, 24]),
        (5000, 0, []),
    ],
)
def test_wide_rows_come_in_parts_that_fit_the_cache(monkeypatch, channels, count, lengths):
    features = WindowFeatures(Backbone("squeezenet1_1"), FeatureOptions(scales=(128,), levels=(1, 2, 3, 6)))
    monkeypatch.setattr(Backbone, "channels", channels)
    monkeypatch.setattr(features, "_pool_into", lambda rows, maps, cells: rows)
    cells = Cells(np.zeros(count, np.int64), np.zeros((count, 4), np.int32), np.arange(count))
    maps = FeatureMaps((90, 140), (torch.zeros(channels, 6, 8),))
    parts = [(part, rows.shape) for part, rows in features.chunks(maps, cells)]
    assert [part.stop - part.start for part, _ in parts] == lengths
    assert [(part.stop - part.start, 50 * channels) for part, _ in parts] == [shape for _, shape in parts]
    assert [index for part, _ in parts for index in range(part.start, part.stop)] == list(range(count))


def test_scores_in_parts_are_those_of_whole_chunks(features, monkeypatch):
    rng = np.random.default_rng(2)
    maps = features.maps(rng.integers(0, 256, (90, 140, 3), np.uint8))
    cells = features.locate(maps, random_windows(rng, 400, 90, 140))
    assert len(cells) > 100
    weights, intercepts = torch.randn(3, features.width, generator=torch.Generator().manual_seed(0)), torch.zeros(3)
    expected = features.scores(maps, cells, weights, intercepts)
    monkeypatch.setattr(features_module, "PART_BYTES", 0)
    assert [len(rows) for _, rows in features.chunks(maps, cells)][:2] == [16, 16]
    # The same bits on some machines, but not on all.
    np.testing.assert_allclose(features.scores(maps, cells, weights, intercepts), expected, rtol=1e-4, atol=1e-4)


def test_a_map_is_prepared_once_for_all_chunks(features, monkeypatch):
    prepared = []
    monkeypatch.setattr(Poolable, "of", lambda level, of=Poolable.of: prepared.append(level) or of(level))
    monkeypatch.setattr(features_module, "PART_BYTES", 0)
    rng = np.random.default_rng(2)
    maps = features.maps(rng.integers(0, 256, (90, 140, 3), np.uint8))
    cells = features.locate(maps, random_windows(rng, 100, 90, 140))
    assert len(list(features.chunks(maps, cells))) > 2
    features.pool(maps, cells)
    assert len(prepared) == len(maps.maps)
    assert maps.to(torch.float32) is maps
    assert maps.to(torch.bfloat16).maps[0].dtype == torch.bfloat16


def test_no_windows(features):
    maps = features.maps(np.zeros((64, 64, 3), np.uint8))
    cells = features.locate(maps, np.zeros((0, 4), np.float32))
    assert features.pool(maps, cells).shape == (0, features.width)
    assert list(features.chunks(maps, cells)) == []


def test_a_wrong_offset_moves_the_windows(features):
    """The feature depends on where the window is: what the pipeline test relies on when it shifts the projection."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[:, 64:] = 255
    maps = features.maps(image)
    window = np.array([[10, 40, 50, 80]], np.float32)
    left = features.pool(maps, features.locate(maps, window))
    right = features.pool(maps, features.locate(maps, flip(window, 128)))
    assert not torch.equal(left, right)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_maps_of_several_images_are_those_of_each(name):
    layer = default_layers(name)
    features = WindowFeatures(Backbone(name, layer=layer), FeatureOptions(scales=(64, 96)))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in [(90, 140, 3), (45, 70, 3), (80, 60, 3), (90, 140, 3)]]
    batches = []
    maps_of = features.backbone.maps
    features.backbone.maps = lambda batch: (batches.append(len(batch)), maps_of(batch))[1]
    together = features.maps_of(images)
    # Those of 90 x 140 and 45 x 70 pixels have one shape at each scale.
    assert batches == [3, 1, 3, 1]
    assert features.maps_of([]) == []
    for image, found in zip(images, together, strict=True):
        alone = features.maps(image)
        assert found.image_size == alone.image_size == image.shape[:2]
        for one, other in zip(found.maps, alone.maps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_used_features_go_to_another_process_whole():
    """With fc layers that have products prepared; the memory for rows stays here."""
    options = FeatureOptions(scales=(64,), levels=(1, 2), kind="fc7")
    features = WindowFeatures(Backbone("squeezenet1_1"), options, Head(512 * 5, 16, 3).eval())
    maps = features.maps(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    cells = features.locate(maps, np.array([[5, 5, 60, 70], [20, 0, 88, 40]], np.float32))
    rows = features.rows(maps, cells)
    assert features._rooms
    other = pickle.loads(pickle.dumps(features))
    assert not other._rooms
    assert torch.equal(other.rows(maps, cells), rows)
