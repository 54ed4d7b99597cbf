"""Feature rows of photographs: views, layers, norm, and unreadable files."""

import numpy as np
import pytest
import torch
from PIL import Image
from reference import representation as slow
from sppnet.data.errors import InputError
from sppnet.data.labelled import LabelledImage
from sppnet.detector.classification.representation import (
    KINDS,
    VIEWS,
    Representation,
    represent,
    represent_all,
    seen,
    width,
)
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.head.head import Head
from sppnet.detector.windows.scales import resize

SMALL = Representation(levels=(1, 3), scale=80)


@pytest.fixture(scope="module")
def backbone():
    return Backbone("squeezenet1_1")


@pytest.fixture(scope="module")
def head(backbone):
    return Head(backbone.channels * 10, 20, 2, seed=1).eval()


def noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("view", "shape"), [("full", (80, 160, 3)), ("crop", (80, 80, 3)), ("warp", (80, 80, 3))])
def test_the_network_sees_the_view(backbone, view, shape):
    image = noise(0, 40, 80)
    options = Representation(levels=(1, 3), view=view, scale=80)
    assert seen(options, image).shape == shape
    row = represent(backbone, options, image)
    expected = slow.whole_map(backbone.feature_map(seen(options, image)).numpy(), (1, 3))
    assert row.dtype == np.float32
    assert row.shape == (width(backbone, options),) == (backbone.channels * 10,)
    np.testing.assert_allclose(row, expected, atol=1e-6)


def test_views_show_the_whole_or_its_centre():
    image = noise(1, 64, 256)
    of_centre = image[:, 96:160]
    full, crop, warp = (seen(Representation(view=view, scale=64), image) for view in VIEWS)
    np.testing.assert_array_equal(full, image)
    np.testing.assert_array_equal(crop, of_centre)
    painted = image.copy()
    painted[:, :90] = painted[:, 166:] = 0
    np.testing.assert_array_equal(seen(Representation(view="crop", scale=64), painted), crop)
    assert not np.array_equal(seen(Representation(view="warp", scale=64), painted), warp)
    assert not np.array_equal(seen(Representation(view="full", scale=64), painted), full)


def test_a_square_photograph_is_the_same_in_all_views(backbone):
    image = noise(2, 96, 96)
    rows = [represent(backbone, Representation(levels=(2,), view=view, scale=96), image) for view in VIEWS]
    for row in rows[1:]:
        np.testing.assert_array_equal(row, rows[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (700, 2), (37, 53)])
def test_rows_have_norm_one_whatever_the_photograph(backbone, head, kind, view, size):
    options = Representation(kind, (1, 3), view, 64)
    row = represent(backbone, options, noise(3, *size), head)
    assert row.shape == (width(backbone, options, head),)
    assert np.linalg.norm(row.astype(np.float64)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_fc_layers_come_after_the_pooling_and_before_the_norm(backbone, head, layer):
    image = noise(4, 70, 90)
    options = Representation(layer, (1, 3), "full", 80)
    blocks = [
        torch.nn.functional.adaptive_max_pool2d(backbone.feature_map(resize(image, 80)[0]), n).permute(1, 2, 0)
        for n in (1, 3)
    ]
    with torch.no_grad():
        values = torch.relu(head.fc6(torch.cat([block.flatten() for block in blocks])))
        values = values if layer == "fc6" else torch.relu(head.fc7(values))
    row = represent(backbone, options, image, head)
    assert row.shape == (20,)
    np.testing.assert_allclose(row, slow.normalised(values.tolist()), atol=1e-5)


def test_a_row_of_zeros_stays_one(backbone):
    silent = Head(backbone.channels * 10, 20, 2, seed=1).eval()
    with torch.no_grad():
        silent.fc6.bias.fill_(-1e9)
    row = represent(backbone, Representation("fc6", (1, 3), scale=64), noise(5, 70, 70), silent)
    np.testing.assert_array_equal(row, np.zeros(20, np.float32))


def test_features_so_small_that_their_squares_vanish_are_normalised(backbone):
    head = Head(backbone.channels * 10, 20, 2, seed=1).eval()
    whole = represent(backbone, Representation("fc6", (1, 3), scale=64), noise(6, 70, 70), head)
    with torch.no_grad():
        head.fc6.weight.mul_(1e-30)
    head.eval()
    tiny = represent(backbone, Representation("fc6", (1, 3), scale=64), noise(6, 70, 70), head)
    np.testing.assert_allclose(tiny, whole, atol=1e-4)


def test_many_images_are_the_single_ones_in_their_order(backbone, head, tmp_path, capsys):
    images = [noise(seed, 40 + seed, 50) for seed in range(5)]
    labelled = []
    for index, image in enumerate(images):
        path = tmp_path / f"{index}.png"
        Image.fromarray(image).save(path)
        labelled.append(LabelledImage(path, np.array([0])))
    labelled.append(LabelledImage(tmp_path / "0.png", np.array([0]), box=(5, 5, 30, 25)))
    for options in (SMALL, Representation("fc7", (1, 3), "crop", 64)):
        rows, failed = represent_all(backbone, options, labelled, head, quiet=True)
        assert rows.dtype == np.float16
        assert failed == {}
        for row, image in zip(rows, [*images, images[0][5:25, 5:30]], strict=True):
            np.testing.assert_array_equal(row, represent(backbone, options, image, head).astype(np.float16))
    assert capsys.readouterr().err == ""


def test_files_that_cannot_be_read_are_named_and_left_out(backbone, tmp_path):
    Image.fromarray(noise(0, 70, 80)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    names = ["bad.png", "good.png", "absent.png", "good.png"]
    labelled = [LabelledImage(tmp_path / name, np.array([0])) for name in names]
    rows, failed = represent_all(backbone, SMALL, labelled, quiet=True)
    assert list(failed) == [str(tmp_path / "bad.png"), str(tmp_path / "absent.png")]
    assert "bad.png: not an image" in failed[str(tmp_path / "bad.png")]
    assert "absent.png: no such file" in failed[str(tmp_path / "absent.png")]
    assert rows.shape == (2, width(backbone, SMALL))
    np.testing.assert_array_equal(rows[0], rows[1])
    nothing, failed = represent_all(backbone, SMALL, [], quiet=True)
    assert nothing.shape == (0, width(backbone, SMALL))
    assert failed == {}


def test_what_does_not_fit_is_refused(backbone, head):
    with pytest.raises(InputError, match="kind must be one of spp, fc6, fc7, not 'fc8'"):
        Representation(kind="fc8")
    with pytest.raises(InputError, match="view must be one of full, crop, warp, not 'whole'"):
        Representation(view="whole")
    with pytest.raises(InputError, match="must be 64 pixels or more, not 63"):
        Representation(scale=63)
    with pytest.raises(ValueError, match="levels must be one or more positive integers"):
        Representation(levels=())
    image = noise(7, 70, 70)
    for call in (represent, represent_all):
        with pytest.raises(ValueError, match="features fc7 need a head, not None"):
            call(backbone, Representation("fc7"), image if call is represent else [])
    with pytest.raises(ValueError, match=r"rows must have shape \(N, 5120\), not \(1, 512\)"):
        represent(backbone, Representation("fc6", (1,)), image, head)
    for view in VIEWS:
        with pytest.raises(ValueError, match=r"image must be uint8 \(H, W, 3\), not float64"):
            represent(backbone, Representation(view=view), image / 255)


def test_options_go_to_a_dictionary_and_back():
    options = Representation("fc6", (1, 2), "warp", 100)
    assert Representation.from_dict(options.to_dict()) == options
