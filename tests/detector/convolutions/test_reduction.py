"""Reduction of maps: principal components against a slow twin, equal norms, and backbones that apply it."""

import numpy as np
import pytest
import torch
from sppnet.data.errors import InputError
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.reduction import learn_reduction
from sppnet.detector.convolutions.truncation import default_layers


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((64, 90), (128, 96), (80, 80))]


@pytest.fixture
def backbone():
    return Backbone("mobilenet_v2", layer="features.7,features.14.conv.0")


def cells_of(backbone, images, number):
    maps = [backbone.layer_maps(backbone.preprocess(image))[number][0] for image in images]
    return [cells.flatten(1).T.double().numpy() for cells in maps]


def test_components_are_those_of_numpy(backbone, images):
    matrix, factor = learn_reduction(backbone, images, (5, None), both_signs=False)
    cells = cells_of(backbone, images, 0)
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in cells])
    covariance = np.cov(np.concatenate(cells).T, bias=True, aweights=weights)
    _, vectors = np.linalg.eigh(covariance)
    best = vectors[:, ::-1][:, :5]
    found = matrix.double().numpy()
    # Equal up to signs and one factor.
    cosines = np.abs(np.sum(found * best, axis=0)) / np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    assert factor.shape == ()


@pytest.mark.parametrize("wanted", [1, 2, 5, 6])
def test_half_of_the_channels_are_the_negatives_of_the_others(backbone, images, wanted):
    matrix, _ = learn_reduction(backbone, images, (wanted, None))
    half = wanted // 2
    assert matrix.shape == (64, wanted)
    assert torch.equal(matrix[:, wanted - half :], -matrix[:, :half])
    alone, _ = learn_reduction(backbone, images, (wanted - half, None), both_signs=False)
    torch.testing.assert_close(
        matrix[:, : wanted - half] / matrix.norm(), alone / alone.norm() * np.sqrt((wanted - half) / wanted)
    )


def test_reduced_maps_have_the_same_mean_square_norm(backbone, images):
    reduction = learn_reduction(backbone, images, (5, None))
    for number, values in enumerate(reduction):
        parts = cells_of(backbone, images, number)
        reduced = [part @ values.double().numpy() if values.ndim else part * float(values) for part in parts]
        assert np.mean([np.mean(np.sum(part**2, axis=1)) for part in reduced]) == pytest.approx(1, rel=1e-5)


def test_backbone_multiplies_its_maps(backbone, images):
    batch = backbone.preprocess(images[0])
    first, second = backbone.layer_maps(batch)
    reduction = learn_reduction(backbone, images, (5, None))
    backbone.reduce(reduction)
    (found,) = backbone.maps(batch)
    expected = torch.cat([torch.einsum("bchw,ck->bkhw", first, reduction[0]), second * reduction[1]], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (backbone.channels, backbone.layer_channels) == (5 + 576, [64, 576])
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_state_keeps_the_reduction(backbone, images):
    backbone.reduce(learn_reduction(backbone, images, (5, 7)))
    again = Backbone.from_state(backbone.name, backbone.layer, backbone.state(), backbone.stride)
    batch = backbone.preprocess(images[0])
    assert torch.equal(again(batch), backbone(batch))
    plain = backbone.reduce(())
    assert not any(key.startswith("reduction") for key in plain.state())
    assert plain.channels == 64 + 576


def test_no_reduction_of_as_many_channels(backbone, images):
    assert [values.shape for values in learn_reduction(backbone, images, (64, 1000))] == [(), ()]


@pytest.mark.parametrize("reduction", [[torch.ones(64, 3)], [torch.ones(3, 64), torch.tensor(1.0)]])
def test_matrices_that_do_not_fit_are_refused(backbone, reduction):
    with pytest.raises(InputError, match=r"\[64, 576\] channels"):
        backbone.reduce(reduction)


def test_images_and_channels_are_needed(backbone, images):
    with pytest.raises(ValueError, match="one image or more"):
        learn_reduction(backbone, [], (5, 5))
    with pytest.raises(ValueError, match="2 numbers of channels"):
        learn_reduction(backbone, images, (5,))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mobilenet_v2", "features.14.conv.0,features.18"),
        ("efficientnet_lite0", "features.12.expand,features.17"),
        ("resnet18", "layer3.1.relu_1,layer4.1.relu_1"),
        ("squeezenet1_1", "features.12.cat"),
        ("alexnet", "features.11"),
    ],
)
def test_default_layers_are_the_last_map_and_the_last_of_a_stride_up_to_16(name, layers):
    backbone = Backbone(name, layer=layers)
    for stride in (16, 32, None):
        assert default_layers(name, stride) == backbone.layer
    assert [grid.stride for grid in backbone.grids] == [16]
    as_it_is = Backbone(name, layer=layers, stride=None)
    assert [grid.stride for grid in as_it_is.grids] == ([16, 32] if "," in layers else [16])


@pytest.mark.parametrize(
    ("name", "stride", "layers", "strides"),
    [
        ("mobilenet_v2", None, "features.7.conv.0,features.14.conv.0,features.18", [8, 16, 32]),
        ("mobilenet_v2", 8, "features.7.conv.0,features.18", [8]),
        ("resnet18", None, "layer2.1.relu_1,layer3.1.relu_1,layer4.1.relu_1", [8, 16, 32]),
        ("squeezenet1_1", None, "features.7.cat,features.12.cat", [8, 16]),
    ],
)
def test_finer_maps_come_before_the_last_one(name, stride, layers, strides):
    assert default_layers(name, stride, (8, 16)) == layers
    assert [grid.stride for grid in Backbone(name, layer=layers, stride=stride).grids] == strides


def test_maps_of_different_strides_stay_apart(images):
    backbone = Backbone("mobilenet_v2", layer="features.6,features.18")
    assert [(grid.stride, grid.channels) for grid in backbone.grids] == [(8, 32), (16, 1280)]
    batch = backbone.preprocess(images[1])
    fine, coarse = backbone.maps(batch)
    assert torch.equal(fine, Backbone("mobilenet_v2", backbone.state(), "features.6")(batch))
    assert torch.equal(coarse, Backbone("mobilenet_v2", backbone.state(), "features.18")(batch))
    with pytest.raises(ValueError, match="call maps"):
        backbone(batch)


def test_later_layers_do_not_write_into_earlier_maps(images):
    """torchvision's ReLUs and additions work in place."""
    backbone = Backbone("resnet18", layer="layer4.0.bn1,layer4.0.bn2,layer4.1")
    batch = backbone.preprocess(images[1])
    maps = backbone.layer_maps(batch)
    for layer, found in zip(backbone.layer.split(","), maps, strict=True):
        assert torch.equal(found, Backbone("resnet18", backbone.state(), layer)(batch)), layer


def test_equal_layers_are_refused():
    with pytest.raises(InputError, match="different"):
        Backbone("resnet18", layer="layer4,layer4.1")
