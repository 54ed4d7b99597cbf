"""The classification network against a slow reference, its files, and its errors."""

import math

import numpy as np
import pytest
import torch
from reference import spp as slow
from safetensors.torch import save_file
from sppnet.data.errors import InputError
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.compact import NETWORKS
from sppnet.detector.convolutions.truncation import cut
from sppnet.detector.convolutions.weights import read_weights
from sppnet.detector.modelfile import read_model, write_model
from sppnet.detector.pooling.spp import spp_pool
from torch import nn

NAMES = ("red", "green", "blue")
SIZES = [(1, 1), (1, 300), (300, 2), (17, 33), (64, 64), (40, 150)]

#: Sums of a thousand products in single precision, in another order; with folded norms each factor is rounded anew.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def images_of(size, count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(size[0] + size[1]))


def slowly(network, images):
    """The whole network as a plain module, bins one by one, and the fc layers by their formulas."""
    whole = NETWORKS[network.name]().eval()
    whole.load_state_dict(network.convolutions.state_dict())
    with torch.no_grad():
        maps = whole(images).numpy()
    windows = [[0, 0, maps.shape[3] - 1, maps.shape[2] - 1]]
    rows = np.concatenate([slow.spp_pool(features, windows, network.levels) for features in maps]).astype(np.float64)
    first, fc6, norm6, _, _, fc7, norm7, _, _, fc8 = network.layers

    def linear(values, layer):
        return values @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()

    def normal(values, norm):
        mean, variance = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
        values = (values - mean) / np.sqrt(variance + norm.eps)
        return values * norm.weight.detach().numpy() + norm.bias.detach().numpy() if norm.affine else values

    values = np.maximum(normal(linear(normal(rows, first), fc6), norm6), 0)
    return linear(np.maximum(normal(linear(values, fc7), norm7), 0), fc8)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_from_one_pixel_up_is_the_slow_way(settled, size):
    network, images = settled(), images_of(size)
    with torch.no_grad():
        found = network(images)
    assert (found.shape, found.dtype) == ((2, 3), torch.float32)
    expected = slowly(network, images)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5 * max(scale, 1))
    # Two images, two answers: nothing is lost on the way.
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("size", [(64, 64), (64, 65), (130, 70)])
def test_the_parts_that_detection_has_compute_the_same(settled, size):
    network, images = settled(), images_of(size)
    maps = network.backbone(images)
    windows = [[0, 0, maps.shape[3] - 1, maps.shape[2] - 1]]
    rows = torch.cat([spp_pool(features, windows, network.levels) for features in maps])
    with torch.no_grad():
        torch.testing.assert_close(rows, network.pooled(images), **CLOSE)
        torch.testing.assert_close(network.logits(rows), network(images), **CLOSE)
        torch.testing.assert_close(network.head(rows), network(images), **CLOSE)
    assert not network.backbone.training
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.backbone.modules())
    assert not network.logits(rows).requires_grad
    assert (network.backbone.layer, network.backbone.stride) == (network.layer, network.stride)
    # What is computed once is kept.
    assert network.backbone is network.backbone
    assert network.head is network.head


def test_a_batch_is_its_images(settled):
    network, images = settled(), images_of((50, 80), count=3)
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]), **CLOSE)
        assert network(images[:0]).shape == (0, 3)


def test_the_parts_follow_what_is_learnt_and_stay_as_they_were(settled):
    # AlexNet has no norms: its biases are not made anew on the way to a backbone.
    shapes = {key: value.shape for key, value in cut("alexnet").network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    weights = {key: torch.randn(shape, generator=generator) / 30 for key, shape in shapes.items()}
    network = SPPClassifier(NAMES, "alexnet", weights, options=ClassifierOptions(levels=(1,), width=8))
    images = images_of((64, 64))
    backbone, head = network.eval().backbone, network.head
    before = backbone(images)
    answer = head(torch.ones(1, 256))
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1
    assert torch.equal(backbone(images), before)
    assert torch.equal(head(torch.ones(1, 256)), answer)
    assert not torch.equal(network.backbone(images), before)  # in training mode they are what they are now
    network.eval()
    assert not torch.equal(network.backbone(images), before)
    assert not torch.equal(network.head(torch.ones(1, 256)), answer)


def test_pretrained_batch_norms_keep_their_statistics(settled):
    state = settled().convolutions.state_dict()
    pretrained = SPPClassifier(NAMES, "sppnet_small", state, options=ClassifierOptions(levels=(1,), width=8))
    assert pretrained.training
    images = images_of((64, 64), count=2)
    with torch.no_grad():
        in_training = pretrained.convolutions(images)
        assert torch.equal(in_training, pretrained.eval().convolutions(images))
    pretrained.train()
    for name, value in pretrained.convolutions.state_dict().items():
        assert torch.equal(value, state[name]), name
    pretrained(images).sum().backward()
    assert all(parameter.grad is not None for parameter in pretrained.convolutions.parameters())
    fresh = settled().train()
    before = fresh.convolutions.state_dict()["features.1.running_mean"].clone()
    fresh(images)
    assert not torch.equal(fresh.convolutions.state_dict()["features.1.running_mean"], before)


def test_weights_loaded_in_eval_mode_are_those_it_answers_with(settled):
    network, other = settled(), settled().train()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1
    images, before = images_of((64, 64)), network.backbone(images_of((64, 64)))
    network.load_state_dict(other.state_dict())
    assert not torch.equal(network.backbone(images), before)
    assert torch.equal(network.backbone(images), other.eval().backbone(images))


@pytest.mark.parametrize("fit", ["crop", "warp"])
def test_the_twin_without_spp_takes_one_size(settled, fit):
    network = settled(levels=(1, 3, 2), fit=fit, size=80)
    assert network.levels == (3,)
    images = images_of((80, 80))
    with torch.no_grad():
        np.testing.assert_allclose(network(images).numpy(), slowly(network, images), rtol=1e-4, atol=1e-4)
    assert network.head.fc6.in_features == 160 * 9
    for size in [(80, 81), (96, 80), (64, 64)]:
        with pytest.raises(ValueError, match=f"takes images of 80 x 80 pixels, not {size[0]} x {size[1]}"):
            network(images_of(size))


def test_gradients_reach_every_parameter(settled):
    network = settled().train()
    nn.functional.cross_entropy(network(images_of((64, 80), count=4)), torch.tensor([0, 1, 2, 0])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 64, 64, 3)])
def test_images_of_another_shape_are_refused(settled, shape):
    with pytest.raises(ValueError, match=r"must have shape \(B, 3, H, W\), not"):
        settled()(torch.zeros(shape))


def test_images_without_a_cell_are_refused(settled):
    network = settled("squeezenet1_1", levels=(1,))
    for size in [(1, 1), (16, 64), (64, 2)]:
        with pytest.raises(
            ValueError, match=f"squeezenet1_1 has no cell left in an image of {size[0]} x {size[1]} pixels"
        ):
            network(images_of(size))
    assert network(images_of((20, 20))).shape == (2, 3)
    with pytest.raises(ValueError, match="no cell left in an image of 0 x 5 pixels"):
        settled()(torch.zeros(1, 3, 0, 5))


def test_other_errors_are_not_taken_for_small_images(settled):
    with pytest.raises(RuntimeError, match="type"):
        settled()(images_of((64, 64)).double())


def test_probabilities(settled):
    logits = torch.tensor([[0.0, math.log(3), -100.0], [2.0, 2.0, 2.0]])
    one, several = settled(), settled(multi_label=True)
    torch.testing.assert_close(one.probabilities(logits), torch.tensor([[0.25, 0.75, 0.0], [1 / 3] * 3]))
    sigmoid = 1 / (1 + math.exp(-2))
    torch.testing.assert_close(several.probabilities(logits), torch.tensor([[0.5, 0.75, 0.0], [sigmoid] * 3]))


def test_predict_names_the_classes_the_most_probable_first(settled, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    for multi_label in (False, True):
        network = settled(multi_label=multi_label)
        found = network.predict(image)
        assert set(found) == set(NAMES)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        if not multi_label:
            assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(RuntimeError, match=r"training mode; call eval\(\)"):
        network.train().predict(image)
    with pytest.raises(InputError, match=r"absent\.png: no such file"):
        network.eval().predict(tmp_path / "absent.png")


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(settled):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (SPPClassifier(NAMES, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    for name in ("layers.1.weight", next(iter(dict(first.convolutions.named_parameters())))):
        full = name if name.startswith("layers") else f"convolutions.{name}"
        assert not torch.equal(first.state_dict()[full], other.state_dict()[full])
    assert first.training
    assert not first.pretrained


def test_a_class_list_that_is_none_is_refused():
    with pytest.raises(InputError, match="needs a list of classes, not 'cat'"):
        SPPClassifier("cat")
    with pytest.raises(InputError, match=r"needs a list of classes, not \[\]"):
        SPPClassifier([])
    with pytest.raises(InputError, match="backbone 'sppnet_smal' is not known; near names are sppnet_small"):
        SPPClassifier(NAMES, "sppnet_smal")
    with pytest.raises(InputError, match="no 'imagenet' weights of sppnet_small"):
        SPPClassifier(NAMES, weights="imagenet")


# Pretrained fc layers


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A file with AlexNet's convolutions and narrow fc layers, all at random."""
    generator = torch.Generator().manual_seed(0)
    shapes = {key: value.shape for key, value in cut("alexnet").network.state_dict().items()}
    shapes |= {"classifier.1.weight": (10, 256 * 36), "classifier.1.bias": (10,)}
    shapes |= {"classifier.4.weight": (7, 10), "classifier.4.bias": (7,)}
    state = {
        key: torch.randn(shape, generator=generator) * (2 / max(1, math.prod(shape[1:]))) ** 0.5
        for key, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.safetensors"
    save_file(state, path)
    return path, state


def test_alexnets_fc_layers_come_along(alexnet):
    path, state = alexnet
    options = ClassifierOptions(levels=(1, 6, 2), dropout=0.4)
    network = SPPClassifier(NAMES, "alexnet", path, options=options).eval()
    assert network.pretrained
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in network.layers)
    assert [layer.p for layer in network.layers if isinstance(layer, nn.Dropout)] == [0.4, 0.4]
    images = images_of((150, 110))
    with torch.no_grad():
        pooled = nn.functional.adaptive_max_pool2d(network.convolutions(images), 6).flatten(1)
        fc6 = nn.functional.linear(pooled, state["classifier.1.weight"], state["classifier.1.bias"]).relu()
        fc7 = nn.functional.linear(fc6, state["classifier.4.weight"], state["classifier.4.bias"]).relu()
        torch.testing.assert_close(network.layers[:-1](network.pooled(images)), fc7, **CLOSE)
        assert fc7.std() > 0.01
        assert network(images).shape == (2, 3)
    # The weights of the levels that AlexNet does not have start at zero and can learn.
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_alexnets_fc_layers_need_their_level(alexnet):
    path, _ = alexnet
    with pytest.raises(InputError, match="the pyramid 1,2 has no level 6; give it one, such as 1,6"):
        SPPClassifier(NAMES, "alexnet", path, options=ClassifierOptions(levels=(1, 2)))
    # A network of one bin, or cut at another map, has no place for them.
    alone = SPPClassifier(NAMES, "alexnet", path, options=ClassifierOptions(levels=(1,), width=9))
    assert alone.head.fc6.weight.shape == (9, 256)
    early = SPPClassifier(NAMES, "alexnet", path, "features.4", ClassifierOptions(levels=(1, 2), width=9))
    assert (early.stride, early.head.fc6.weight.shape) == (8, (9, 192 * 5))


# Files


@pytest.fixture
def saved(settled, tmp_path):
    network = settled(multi_label=True, dropout=0.25)
    network.card = {"images": 3, "training": {"epochs": 2}, "held_out": None}
    network.save(tmp_path / "model.safetensors")
    return network, tmp_path / "model.safetensors"


def test_a_file_gives_the_network_back(saved, tmp_path):
    network, path = saved
    again = SPPClassifier.load(path)
    assert not again.training
    assert (again.class_names, again.options, again.card) == (network.class_names, network.options, network.card)
    assert (again.name, again.layer, again.stride, again.channels) == ("sppnet_small", network.layer, 16, 160)
    images = images_of((70, 100))
    maps = network.backbone(images)
    assert torch.equal(again.backbone(images), maps)
    rows = again.pooling(maps)
    assert torch.equal(again.logits(rows), network.logits(rows))
    with torch.no_grad():
        torch.testing.assert_close(again(images), network(images), **CLOSE)
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    assert again.predict(image) == network.predict(image)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    # It can learn on, with the same dropout.
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert [layer.p for layer in again.layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


def test_saving_in_training_mode_writes_the_same(saved, tmp_path):
    network, path = saved
    network.train().save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert network.training


def test_a_file_is_weights_for_other_networks(saved):
    network, path = saved
    images = images_of((64, 90))
    state = network.convolutions.state_dict()
    origin, found = read_weights("sppnet_small", path, 0)  # as `sppnet train --weights FILE` does
    assert origin == str(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert torch.equal(Backbone("sppnet_small", path)(images), network.backbone(images))
    other = SPPClassifier(["x", "y"], "sppnet_small", path, options=ClassifierOptions(levels=(1,), width=5))
    assert other.pretrained
    assert torch.equal(other.eval().backbone(images), network.backbone(images))
    assert other.head.fc8.out_features == 2
    with pytest.raises(InputError, match=r"model\.safetensors: \d+ tensors have other shapes"):
        SPPClassifier(NAMES, "sppnet_medium", path)
    with pytest.raises(InputError, match=r"model\.safetensors: \d+ of the network's tensors are missing"):
        Backbone("squeezenet1_1", path)


def test_weights_given_stay_as_they_are():
    weights = Backbone("sppnet_small", seed=4).state()
    before = {name: value.clone() for name, value in weights.items()}
    network = SPPClassifier(NAMES, weights=weights)
    network(images_of((64, 64)))  # moves the running means
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_files_that_are_not_complete_are_refused(saved, tmp_path):
    _, path = saved
    header, tensors = read_model(path, "classifier")
    headless = {name: value for name, value in tensors.items() if not name.startswith("head.fc7")}
    bare = {name: value for name, value in tensors.items() if not name.startswith("backbone.")}
    for number, (new_header, new_tensors, message) in enumerate(
        [
            ({key: value for key, value in header.items() if key != "classes"}, tensors, "'classes' is missing"),
            (header | {"classes": ["a"]}, tensors, "fc layers take 2240 numbers to 1 classes here, not 2240 to 3"),
            (header | {"options": {"levels": [1]}}, tensors, "take 160 numbers to 3 classes here, not 2240 to 3"),
            (header | {"options": {"depth": 3}}, tensors, "unknown option 'depth'"),
            (header | {"backbone": "zf6"}, tensors, "'zf6' is not known"),
            (header, headless, "fc8 without fc7"),
            (header, bare, "tensors are missing"),
        ]
    ):
        other = tmp_path / f"{number}.safetensors"
        write_model(other, new_header, new_tensors)
        with pytest.raises(InputError, match=rf"{number}\.safetensors: .*{message}") as caught:
            SPPClassifier.load(other)
        assert "\n" not in str(caught.value)
