"""Many views of an image: their places, and that maps of the whole image give the same results as crops."""

import gc
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from reference import views as slow
from sppnet.data.errors import InputError
from sppnet.detector.classification import views as module
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.classification.places import view_windows
from sppnet.detector.classification.views import (
    Views,
    from_crops,
    from_maps,
    named_views,
    predict_views,
    rows_from_crops,
    rows_from_maps,
)
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.windows.scales import resize, scaled_size
from torch import nn

#: For a network of 64-pixel squares: everything there is, at two scales.
ALL = (Views((64, 80), "grid", mirror=True), Views((80,), "full", mirror=True))

#: Grey noise of all kinds of shapes, a pixel and strips among them.
SHAPES = [(1, 1), (1, 300), (300, 1), (37, 53), (200, 90), (64, 64), (96, 97)]


class Network(nn.Module):
    """One convolution with random weights that counts what it sees; with ``kernel`` 1 a cell sees one pixel."""

    def __init__(self, kernel, stride, channels=8):
        super().__init__()
        self.convolution = nn.Conv2d(3, channels, kernel, stride, kernel // 2)
        generator = torch.Generator().manual_seed(0)
        for values in self.parameters():
            values.data = torch.randn(values.shape, generator=generator)
        self.stride, self.seen = stride, []
        self.requires_grad_(False)

    preprocess = Backbone.preprocess

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return self.convolution(images)


def classifier_of(network, size=64, levels=(1, 2, 3), fit="any", classes=5):
    width = 8 * sum(n * n for n in levels)
    # Small ones: of probabilities near 0 and 1 all would seem equal.
    weights = torch.randn(width, classes, generator=torch.Generator().manual_seed(1)) / width
    return SimpleNamespace(
        backbone=network,
        size=size,
        levels=levels,
        input_fit=fit,
        logits=lambda rows: rows @ weights,
        probabilities=lambda logits: logits.softmax(dim=1),
    )


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def smooth(shape):
    """A picture without fine detail, in which all pixels differ."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([y * 255 // shape[0], x * 255 // shape[1], (x + y) % 256], axis=2).astype(np.uint8)


def count(views, shape, size=224):
    return sum(
        len(view_windows(scaled_size(shape, scale), size, one.places)) * (1 + one.mirror)
        for one in views
        for scale in one.scales
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 96])
def test_maps_give_what_crops_give_where_a_cell_sees_one_pixel(shape, size):
    """With a cell for each pixel every view lies on cells of its own; 96 is more than some images are high."""
    classifier = classifier_of(Network(kernel=1, stride=1), size)
    image = noise(shape)
    before = image.copy()
    rows = rows_from_maps(classifier, image, ALL)
    torch.testing.assert_close(rows, rows_from_crops(classifier, image, ALL), rtol=1e-5, atol=1e-4)
    assert rows.shape == (count(ALL, shape, size), 8 * 14)
    np.testing.assert_allclose(from_maps(classifier, image, ALL), from_crops(classifier, image, ALL), atol=1e-5)
    np.testing.assert_array_equal(image, before)


def test_maps_give_what_crops_give_where_views_begin_at_cells():
    """At these sizes all views begin at multiples of the stride, on the mirror image too."""
    classifier = classifier_of(Network(kernel=1, stride=16), size=128)
    views = (Views((128, 256), "grid", mirror=True),)
    image = noise((256, 320))
    rows = rows_from_maps(classifier, image, views)
    assert len(rows) == 6 + 18
    torch.testing.assert_close(rows, rows_from_crops(classifier, image, views), rtol=1e-5, atol=1e-4)


def test_only_the_edges_of_views_differ_where_cells_see_their_surroundings():
    """Of 3 x 3 bins of a view's 16 x 16 cells the middle one has none that sees beyond the view."""
    classifier = classifier_of(Network(kernel=7, stride=4), levels=(3,))
    image, views = noise((128, 192)), (Views((128,), "grid", mirror=True),)
    maps = rows_from_maps(classifier, image, views).reshape(18, 3, 3, 8)
    crops = rows_from_crops(classifier, image, views).reshape(18, 3, 3, 8)
    torch.testing.assert_close(maps[:, 1, 1], crops[:, 1, 1], rtol=1e-5, atol=1e-4)
    assert (maps - crops)[:, 0].abs().max() > 0.1


@pytest.mark.parametrize("shape", [(100, 130), (70, 300)])
def test_both_ways_equal_the_network_on_each_view(shape):
    classifier = classifier_of(Network(kernel=1, stride=1))
    image = noise(shape)
    expected = slow.probabilities(
        classifier,
        [resize(image, 64)[0], resize(image, 80)[0]],
        [(0, "grid", True), (1, "grid", True), (1, "full", True)],
    )
    for way in (from_maps, from_crops):
        found = way(classifier, image, ALL)
        assert found.dtype == np.float32
        assert found.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("way", [from_maps, from_crops])
def test_the_mirror_image_has_the_same_views(way):
    # The room around the views is even, so that the centre is in the middle.
    classifier = classifier_of(Network(kernel=3, stride=4))
    image, views = noise((80, 120)), (Views((64, 80), "grid", mirror=True), Views((80,), "full", mirror=True))
    mirrored = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_allclose(way(classifier, image, views), way(classifier, mirrored, views), atol=1e-5)
    one_sided = tuple(Views(one.scales, one.places, mirror=False) for one in views)
    assert np.abs(way(classifier, image, one_sided) - way(classifier, mirrored, one_sided)).max() > 1e-4


def test_the_convolutions_run_once_for_each_scale_and_mirror_image():
    network = Network(kernel=3, stride=8)
    classifier = classifier_of(network)
    image = noise((100, 150))
    rows_from_maps(classifier, image, named_views("98", 64))
    # The two full views share a map with views of the same scale; the first pass asks for the cells of a square.
    assert network.seen[0] == (1, 3, 64, 64)
    sizes = [scaled_size((100, 150), scale) for scale in named_views("96", 64)[0].scales]
    assert network.seen[1:] == [(1, 3, *size) for size in sizes for _ in range(2)]
    network.seen.clear()
    rows_from_maps(classifier, image, named_views("one", 64))
    assert network.seen == [(1, 3, *scaled_size((100, 150), 73))]


def test_an_image_without_mirror_views_has_no_mirrored_rows():
    classifier = classifier_of(Network(kernel=1, stride=1))
    mixed = (Views((80,), "corners", mirror=False), Views((80,), "full", mirror=True))
    image = noise((90, 100))
    rows = rows_from_maps(classifier, image, mixed)
    assert len(rows) == 5 + 2
    torch.testing.assert_close(rows, rows_from_crops(classifier, image, mixed), rtol=1e-5, atol=1e-4)


def test_cells_of_squares_are_forgotten_with_their_network():
    gc.collect()
    known = len(module._cells_of_squares)
    network = Network(kernel=1, stride=8)
    from_maps(classifier_of(network), noise((70, 70)), named_views("one", 64))
    assert len(module._cells_of_squares) == known + 1
    del network
    gc.collect()
    assert len(module._cells_of_squares) == known


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_batches_change_nothing(batch):
    classifier = classifier_of(Network(kernel=3, stride=4))
    image = noise((70, 100))
    rows = rows_from_crops(classifier, image, ALL, batch)
    torch.testing.assert_close(rows, rows_from_crops(classifier, image, ALL), rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        rows_from_crops(classifier, image, ALL, batch=0)


def test_twins_without_spp_see_squares_only():
    image = smooth((90, 200))
    for fit in ("crop", "warp"):
        network = Network(kernel=3, stride=4)
        classifier = classifier_of(network, size=96, levels=(3,), fit=fit)
        # The shorter side of this strip stays below 96: its views are cut short, and stretched.
        strip = smooth((20, 1000))
        for picture in (image, strip):
            found = predict_views(classifier, picture, named_views("ten", 96))
            np.testing.assert_array_equal(found, from_crops(classifier, picture, named_views("ten", 96)))
        assert {shape[1:] for shape in network.seen} == {(3, 96, 96)}
        with pytest.raises(ValueError, match=f"not '{fit}'"):
            from_maps(classifier, image, named_views("ten", 96))
    with pytest.raises(InputError, match="takes crops of 96 x 96 pixels only"):
        predict_views(classifier_of(network, fit="crop", size=96), image, named_views("one+full", 96))


def test_a_warping_twin_sees_the_whole_image_warped():
    network = Network(kernel=1, stride=4)
    classifier = classifier_of(network, size=64, levels=(2,), fit="warp")
    image = smooth((64, 128))
    pixels = network.preprocess(image)[0].permute(1, 2, 0).numpy()
    warped = torch.from_numpy(cv2.resize(pixels, (64, 64))).permute(2, 0, 1)[None]
    expected = nn.functional.adaptive_max_pool2d(network(warped), 2)[0].permute(1, 2, 0).flatten()
    rows = rows_from_crops(classifier, image, (Views((64,), "full", mirror=False),))
    torch.testing.assert_close(rows[0], expected, rtol=1e-5, atol=1e-4)


def test_any_size_takes_the_maps():
    classifier = classifier_of(Network(kernel=3, stride=4))
    image = noise((70, 100))
    np.testing.assert_array_equal(predict_views(classifier, image, ALL), from_maps(classifier, image, ALL))


def test_nothing_to_look_at_is_refused():
    classifier = classifier_of(Network(kernel=1, stride=4))
    for way in (from_maps, from_crops):
        with pytest.raises(ValueError, match="at least one view"):
            way(classifier, noise((70, 70)), ())
        with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not float32"):
            way(classifier, np.zeros((70, 70, 3), np.float32), ALL)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_real_network_on_the_whole_image(multi_label):
    """Whole images go through the network as they are: both ways are its forward pass."""
    options = ClassifierOptions(levels=(1, 2), width=8, multi_label=multi_label)
    classifier = SPPClassifier(("a", "b", "c"), "squeezenet1_1", options=options).eval()
    image = smooth((70, 100))
    whole = (Views((96,), "full", mirror=False),)
    with torch.no_grad():
        logits = classifier(classifier.backbone.preprocess(resize(image, 96)[0]))
    expected = classifier.probabilities(logits)[0].numpy()
    for way in (from_maps, from_crops, predict_views):
        np.testing.assert_allclose(way(classifier, image, whole), expected, atol=1e-5)
    many = from_maps(classifier, image, named_views("96", 112))
    assert np.abs(many - from_crops(classifier, image, named_views("96", 112))).max() < 0.2
