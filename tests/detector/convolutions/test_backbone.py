"""Backbones: measured geometry, exact truncation, weights and their errors."""

import os

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from sppnet.data.errors import InputError
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.dilation import DilatedPool, dilated_average
from sppnet.detector.convolutions.networks import build_without_values
from sppnet.detector.convolutions.truncation import cut
from sppnet.detector.convolutions.zf5 import ZF5
from sppnet.detector.options import MIN_SIDE

#: Networks and limits of their stride; 16 is the default.
NETWORKS = [
    ("alexnet", 16),
    ("vgg16", 16),
    ("zf5", 16),
    ("squeezenet1_1", 16),
    ("squeezenet1_1", 8),
    ("resnet18", 32),
    ("resnet18", 8),
    ("resnet50", 16),
    ("mobilenet_v2", 16),
    ("mobilenet_v3_large", 16),
    ("efficientnet_b0", 16),
    ("efficientnet_lite0", 16),
    ("efficientnet_lite2", 32),
    ("convnext_tiny", 16),
    ("densenet121", 16),
    ("googlenet", 8),
    ("inception_v3", 16),
    ("shufflenet_v2_x1_0", 16),
    ("regnet_y_400mf", 16),
]


def strip(generator, width, axis):
    """A narrow random image, so that receptive fields of a thousand pixels along the other axis stay cheap."""
    images = torch.rand(1, 3, MIN_SIDE, width, generator=generator)
    return images if axis == 3 else images.mT.contiguous()


@pytest.mark.usefixtures("without_gates")
@pytest.mark.parametrize(("name", "stride"), NETWORKS)
def test_moving_the_image_by_the_stride_moves_the_map_by_one_cell(name, stride, random_state):
    backbone = Backbone(name, random_state(name), stride=stride)
    step, axis = backbone.stride, 2 if name in ("resnet18", "zf5") else 3
    assert step == stride
    width = backbone.extent + 6 * step
    image = strip(torch.Generator().manual_seed(1), width + step, axis)

    cells, moved = (backbone(image.narrow(axis, start, width)).mean(dim=5 - axis)[0] for start in (0, step))
    # Cells that see nothing of the strip's ends, nor does the one before them, to which they move.
    centres = backbone.offset0 - 1 + step * torch.arange(cells.shape[1])
    half = (backbone.extent - 1) / 2
    whole = (centres - half >= 0) & (centres + half <= width - 1)
    inside = (whole[1:] & whole[:-1]).nonzero().flatten() + 1
    assert len(inside) >= 4
    scale = float(cells[:, inside].abs().max())
    torch.testing.assert_close(moved[:, inside - 1], cells[:, inside], rtol=1e-4, atol=1e-5 * scale)
    # Neighbouring cells differ, so no other move would have passed.
    assert float((cells[:, inside - 1] - cells[:, inside]).abs().max()) > 0.01 * scale


@pytest.mark.usefixtures("without_gates")
@pytest.mark.parametrize(("name", "stride"), NETWORKS)
def test_receptive_fields_are_centred_where_offset0_says(name, stride, random_state):
    # Positive weights on a positive image: no path from pixel to cell is cut by a ReLU or cancels. Each
    # filter sums to 1, so that signals stay in range; gradients need double precision, since a pixel at the rim
    # reaches a cell of DenseNet by one path in 3 ** 60.
    positive = {
        key: value / value.flatten(1).sum(dim=1).reshape(-1, *[1] * (value.ndim - 1)) if value.ndim > 1 else value
        for key, value in ((key, value.abs()) for key, value in random_state(name).items())
    }
    backbone = Backbone(name, positive, stride=stride).double()
    for path, part in list(backbone.named_modules()):
        # Max pooling lets one pixel through; averaging, at the same places, lets all. ReLU6 stops growing.
        if isinstance(part, torch.nn.MaxPool2d):
            average = torch.nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode)
            backbone.set_submodule(path, average)
        elif isinstance(part, DilatedPool):
            part.pool = dilated_average
            part.arguments.pop("beyond", None)
        elif isinstance(part, torch.nn.ReLU6):
            backbone.set_submodule(path, torch.nn.ReLU())

    axis = 2 if name in ("alexnet", "mobilenet_v2") else 3
    width = backbone.extent + 3 * backbone.stride
    images = strip(torch.Generator().manual_seed(1), width, axis).double().requires_grad_()
    cells = backbone(images)
    middle = int((width / 2 - backbone.offset0) // backbone.stride)
    # Channels weigh differently, since the plain sum of normalised channels has no gradient.
    channels = torch.linspace(0.5, 2, backbone.channels)
    (gradient,) = torch.autograd.grad((cells.select(axis, middle).mT @ channels).sum(), images)
    seen = gradient.abs().sum(dim=(0, 1, 5 - axis)).nonzero().flatten()
    first, last = int(seen[0]), int(seen[-1])
    assert (first + last) / 2 == backbone.offset0 - 1 + backbone.stride * middle
    assert last - first + 1 == backbone.extent


@pytest.mark.parametrize(
    ("name", "layer", "stride", "offset0", "channels"),
    [
        ("alexnet", "features.11", 16, 16, 256),
        ("vgg16", "features.29", 16, 8.5, 512),
        ("zf5", "features.13", 16, 21, 256),
        ("squeezenet1_1", "features.12.cat", 16, 16, 512),
        ("mobilenet_v2", "features.18", 16, 1, 1280),
        ("mobilenet_v3_large", "features.16", 16, 1, 960),
        ("efficientnet_b0", "features.8", 16, 1, 1280),
        ("efficientnet_lite0", "features.17.2", 16, 1, 1280),
        ("resnet18", "layer4.1.relu_1", 16, 1, 512),
        ("resnet50", "layer4.2.relu_2", 16, 1, 2048),
        ("convnext_tiny", "features.7.2.add", 16, 16.5, 768),
        ("densenet121", "relu", 16, 15, 1024),
        ("googlenet", "inception5b.cat", 16, 23, 1024),
        ("inception_v3", "Mixed_7c.cat_2", 16, 38, 2048),
        ("shufflenet_v2_x1_0", "conv5.2", 16, 1, 1024),
        ("mnasnet0_5", "layers.16", 16, 1, 1280),
        ("regnet_y_400mf", "trunk_output.block4.block4-5.activation", 16, 1, 440),
        ("sppnet_student", "features.11", 16, 1, 576),
        ("sppnet_student_480", "features.12", 16, 1, 480),
    ],
)
def test_default_layers_are_the_papers_and_the_customary_ones(name, layer, stride, offset0, channels):
    part = cut(name)
    assert (part.name, part.layer) == (name, layer)
    assert (part.map.stride, part.map.offset0, part.map.channels) == (stride, offset0, channels)


def hooked(model, path, images):
    kept = []
    hook = model.get_submodule(path).register_forward_hook(lambda *arguments: kept.append(arguments[2].clone()))
    with torch.no_grad():
        model(images)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mobilenet_v2", "features.14.conv.0"),
        ("resnet18", "layer3"),
        ("squeezenet1_1", "features.12"),
        ("mobilenet_v3_small", "features.3"),
        ("densenet121", "features.denseblock1"),
    ],
)
def test_cut_and_folded_network_gives_the_whole_networks_map(name, path):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # fresh ones would fold to nothing
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.8, 1.2)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    backbone = Backbone(name, model.state_dict(), path)
    images = torch.randn(2, 3, 96, 130)
    expected = hooked(model, path, images)
    features = backbone(images)
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    kinds = [type(layer) for layer in backbone.modules()]
    if name != "densenet121":  # whose batch norms come first, where there is nothing to fold them into
        assert torch.nn.BatchNorm2d not in kinds
    assert torch.nn.Linear not in kinds


def test_zf5_is_13_cells_wide_at_224_pixels():
    backbone = Backbone("zf5")
    assert backbone(torch.zeros(1, 3, 224, 224)).shape == (1, 256, 13, 13)


def test_zf5_normalises_within_each_channel():
    norm = ZF5().features[2]
    features = torch.rand(1, 2, 5, 6, dtype=torch.float64) * 100
    padded = torch.nn.functional.pad(features, (1, 1, 1, 1))
    expected = torch.empty_like(features)
    for channel in range(2):
        for y in range(5):
            for x in range(6):
                square = padded[0, channel, y : y + 3, x : x + 3].square().sum() / 9
                expected[0, channel, y, x] = features[0, channel, y, x] / (1 + 5e-5 * square) ** 0.75
    torch.testing.assert_close(norm(features), expected)


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = Backbone("zf5", seed=1), Backbone("zf5", seed=1), Backbone("zf5", seed=2)
    assert torch.equal(before, torch.get_rng_state())
    key = "features.0.weight"
    assert torch.equal(first.state()[key], again.state()[key])
    assert not torch.equal(first.state()[key], other.state()[key])


def test_state_rebuilds_the_backbone_bit_for_bit():
    backbone = Backbone("mobilenet_v2", layer="features.17", seed=3)
    state = backbone.state()
    assert not any(key.startswith(("classifier", "features.18")) for key in state)
    again = Backbone.from_state(backbone.name, backbone.layer, state, backbone.stride)
    images = torch.randn(1, 3, 96, 96)
    assert torch.equal(backbone(images), again(images))
    assert all(torch.equal(again.state()[key], value) for key, value in state.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_from_a_half_precision_file(tmp_path, suffix):
    source = Backbone("squeezenet1_1", seed=1)
    path = tmp_path / f"weights{suffix}"
    half = {key: value.half() for key, value in source.state().items()}
    half["classifier.1.weight"] = torch.zeros(7, 512, 1, 1)  # somebody else's classes: not used, not in the way
    save_file(half, path) if suffix == ".safetensors" else torch.save(half, path)
    loaded = Backbone("squeezenet1_1", path)
    for key, value in source.state().items():
        assert loaded.state()[key].dtype == torch.float32
        assert torch.equal(loaded.state()[key], value.half().float())


def test_training_mode_cannot_be_switched_on():
    backbone = Backbone("zf5")
    assert not backbone.train().training
    assert not any(layer.training for layer in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_preprocessing_is_torchvisions():
    backbone = Backbone("zf5")
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    before = image.copy()
    tensor = backbone.preprocess(image)
    expected = torchvision.transforms.functional.normalize(
        torch.from_numpy(image).permute(2, 0, 1) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(tensor[0], expected)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(image, before)
    features = backbone.feature_map(image)
    assert torch.equal(features, backbone(tensor)[0])
    assert not features.is_inference()
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not float32"):
        backbone.preprocess(image.astype(np.float32))


@pytest.mark.parametrize("name", ["alexnet", "zf5", "squeezenet1_1", "inception_v3"])
def test_the_smallest_scaled_image_still_has_a_cell(name, random_state):
    backbone = Backbone(name, random_state(name))
    assert min(backbone(torch.zeros(1, 3, MIN_SIDE, MIN_SIDE)).shape[2:]) >= 1
    with pytest.raises(ValueError, match="H >= 64"):
        backbone(torch.zeros(1, 3, MIN_SIDE - 1, MIN_SIDE))


# What is refused, and in which words


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", "backbone 'resnt18' is not known; near names are resnet18"),
        ("efficientnet_lite3", "near names are efficientnet_lite[012], efficientnet_lite[012], efficientnet_lite[012]"),
        ("?", "known are the classification networks of torchvision, zf5"),
        ("vit_b_16", "vit_b_16 cannot be a backbone: it does not take an image of"),
        ("swin_t", "swin_t has no feature map"),
    ],
)
def test_refuses_networks_without_a_map(name, message):
    with pytest.raises(InputError, match=message):
        Backbone(name)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer3.relu", "resnet18 has no layer 'layer3.relu'; near names are .*layer3"),
        ("avgpool", "layer 'avgpool' of resnet18 is no map of cells"),
        ("fc", "layer 'fc' of resnet18 is no map"),
    ],
)
def test_refuses_layers_without_a_map(layer, message):
    with pytest.raises(InputError, match=message):
        Backbone("resnet18", layer=layer)


def test_any_other_map_can_be_named():
    backbone = Backbone("alexnet", layer="features.4")
    assert (backbone.stride, backbone.offset0, backbone.channels) == (8, 8, 192)
    assert len(backbone.state()) == 4


def test_refuses_weights_that_do_not_fit(tmp_path):
    state = Backbone("zf5").state()
    less = {key: value for key, value in state.items() if key != "features.0.bias"}
    save_file(less, tmp_path / "less.safetensors")
    with pytest.raises(
        InputError, match=r"less\.safetensors: 1 of the network's tensors are missing: features\.0\.bias"
    ):
        Backbone("zf5", tmp_path / "less.safetensors")
    save_file({**state, "features.0.bias": torch.zeros(5)}, tmp_path / "shape.safetensors")
    with pytest.raises(InputError, match=r"shape\.safetensors: .*features\.0\.bias is \(5,\), expected \(96,\)"):
        Backbone("zf5", tmp_path / "shape.safetensors")
    save_file({**state, "features.0.scale": torch.zeros(5)}, tmp_path / "more.safetensors")
    with pytest.raises(InputError, match=r"more\.safetensors: 1 tensors are not the network's: features\.0\.scale"):
        Backbone("zf5", tmp_path / "more.safetensors")


def test_refuses_files_that_hold_no_weights(tmp_path):
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(InputError, match=f"{name}: cannot be read as a state dict"):
            Backbone("zf5", tmp_path / name)
        with pytest.raises(InputError, match="no such file"):
            Backbone("zf5", tmp_path / "absent" / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list\.pt: expected a state dict"):
        Backbone("zf5", tmp_path / "list.pt")
    with pytest.raises(InputError, match="not 'imagenet21k'"):
        Backbone("zf5", "imagenet21k")


def test_a_pickle_is_never_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match=r"trap\.pth: cannot be read .*more than tensors in it.*which is not run"):
        Backbone("zf5", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_refuses_what_people_take_for_weights(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "whole.pth")
    for content, message in (
        (b"", "it is empty"),
        (pointer, "it is a Git LFS pointer .*'git lfs pull'"),
        (b"<!doctype html><html></html>", "it is a web page"),
        ((tmp_path / "whole.pth").read_bytes()[:2000], ""),
        (b"\x80\x02]q\x00(", ""),
    ):
        (tmp_path / "m.pth").write_bytes(content)
        with pytest.raises(InputError, match=rf"m\.pth: cannot be read as a state dict \(.*{message}") as caught:
            Backbone("zf5", tmp_path / "m.pth")
        assert "\n" not in str(caught.value)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"folder\.pth: cannot be read as a state dict \(it is no file\)"):
        Backbone("zf5", tmp_path / "folder.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_does_not_wait_for_a_pipe(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    with pytest.raises(InputError, match="it is no file"):
        Backbone("zf5", tmp_path / f"pipe.{suffix}")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_refuses_weights_that_no_network_computes_with(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    state = Backbone("sppnet_small").state()
    save = torch.save if suffix == "pth" else save_file
    for name, value, message in (
        ("features.0.weight", torch.nan, "'features.0.weight' has numbers that are not finite"),
        ("features.1.bias", -torch.inf, "'features.1.bias' has numbers that are not finite"),
        ("features.1.running_var", -1.0, "1 variances are negative: features.1.running_var"),
    ):
        save({**state, name: torch.full_like(state[name], value)}, path)
        with pytest.raises(InputError, match=rf"m\.{suffix}: {message}"):
            Backbone("sppnet_small", path)


def test_a_tensor_with_more_numbers_than_are_stored_is_refused(tmp_path):
    torch.save({"features.0.bias": torch.zeros(1).expand(10**12)}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m\.pth: expected a state dict"):
        Backbone("zf5", tmp_path / "m.pth")


def test_reads_the_state_in_a_checkpoint_of_a_parallel_training(tmp_path):
    state = Backbone("zf5", seed=3).state()
    parallel = {f"module.{name}": value for name, value in state.items()}
    for number, saved in enumerate([parallel, {"state_dict": state, "epoch": 3}, {"state_dict": parallel}]):
        torch.save(saved, tmp_path / f"{number}.pth")
        found = Backbone("zf5", tmp_path / f"{number}.pth").state()
        assert all(torch.equal(found[name], value) for name, value in state.items())


def test_refuses_reductions_that_do_not_belong_to_the_maps():
    backbone = Backbone("sppnet_small")
    width = backbone.channels
    for reduction, message in (
        ({"reduction.1": torch.tensor(1.0)}, "not numbered from 0"),
        ({"reduction.x": torch.tensor(1.0)}, "not numbered from 0"),
        ({"reduction.0": torch.ones(width)}, "cannot be reduced by matrices of the shapes"),
        ({"reduction.0": torch.ones(width, 3, 2)}, "cannot be reduced by matrices of the shapes"),
    ):
        with pytest.raises(InputError, match=message):
            Backbone.from_state("sppnet_small", backbone.layer, backbone.state() | reduction, 16)


@pytest.mark.usefixtures("messages")
def test_a_failed_download_is_one_clear_line(monkeypatch, capsys):
    def fail(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fail)
    with pytest.raises(InputError, match=r"'imagenet' of alexnet could not be fetched from https://.*no route to host"):
        Backbone("alexnet", "imagenet")
    assert "fetching" in capsys.readouterr().err
    with pytest.raises(InputError, match="no 'imagenet' weights of zf5"):
        Backbone("zf5", "imagenet")


def test_a_constructor_that_computes_with_tensors_is_built_too():
    before = torch.random.get_rng_state()
    network = build_without_values("regnet_y_400mf")
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "resnet18", "squeezenet1_1", "sppnet_student"])
def test_maps_in_bfloat16_are_as_close_as_its_rounding_allows(name, random_state):
    state, images = random_state(name), 4 * torch.rand(1, 3, 96, 128) - 2
    generator = torch.Generator().manual_seed(0)

    def rounded(values):
        """Other values, as far away as half of bfloat16's last bit; how much they matter depends on the network."""
        return values * (1 + (2 * torch.rand(values.shape, generator=generator) - 1) * 2**-9)

    exact, half, other = (Backbone(name, state) for _ in range(3))
    for values in other.parameters():
        values.copy_(rounded(values))
    expected = exact(images)
    found = half.in_bfloat16()(images)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    # bfloat16 also rounds every map between image and result.
    assert 0 < relative(found, expected) < 4 * relative(other(rounded(images)), expected)
    assert all(torch.equal(value, state[key]) for key, value in half.state().items())


def test_a_reduction_in_bfloat16_adds_only_its_own_rounding(random_state):
    backbone = Backbone("squeezenet1_1", random_state("squeezenet1_1"), "features.7.cat,features.12.cat")
    generator = torch.Generator().manual_seed(0)
    matrix, factor = torch.linalg.qr(torch.randn(512, 40, generator=generator))[0], torch.tensor(1.003)
    backbone.reduce([factor, matrix]).in_bfloat16()
    images = torch.rand(1, 3, 96, 128)
    first, second = backbone.layer_maps(images)
    scaled, found = backbone.maps(images)
    assert (scaled.dtype, found.dtype) == (torch.float32, torch.float32)
    # The factor is not rounded, which would move the whole map.
    assert torch.equal(scaled, first * factor)
    assert 0 < relative(found, torch.einsum("bchw,ck->bkhw", second, matrix)) < 2**-8
    assert torch.equal(backbone.state()["reduction.1"], matrix)
