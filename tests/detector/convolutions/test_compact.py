"""The small networks: size, geometry, a block against a slow reference, and that all parameters can be trained."""

import math

import pytest
import torch
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.compact import NETWORKS, BasicBlock, CompactNet
from torch import nn
from torch.nn import functional

NAMES = list(NETWORKS)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return CompactNet((4, 6, 8, 10), (1, 2, 1))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("sppnet_small", 0.9e6, 1.1e6),
        ("sppnet_medium", 2.8e6, 3.2e6),
        ("sppnet_student", 2.7e6, 2.9e6),
        ("sppnet_student_small", 0.9e6, 1.1e6),
        ("sppnet_student_480", 3.0e6, 3.1e6),
        ("sppnet_student_small_480", 1.1e6, 1.2e6),
    ],
)
def test_convolution_weights(name, least, most):
    with torch.device("meta"):
        network = NETWORKS[name]()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert least <= sum(module.weight.numel() for module in convolutions) <= most
    # A batch norm has its own, and follows all but a projection.
    assert [module for module in convolutions if module.bias is not None] == convolutions[-1:] * name.endswith("_480")


@pytest.mark.parametrize("name", NAMES)
def test_as_a_backbone_it_is_cut_at_its_last_layer(name):
    backbone = Backbone(name)
    assert (backbone.stride, backbone.offset0, backbone.input_size) == (16, 1.0, 224)
    assert backbone.feeds_classifier
    image = torch.randn(1, 3, 70, 101, generator=torch.Generator().manual_seed(1))
    # The weights that the backbone took by name, in the whole network.
    network = NETWORKS[name]().eval()
    network.load_state_dict(backbone.state())
    with torch.no_grad():
        expected = network(image)
    assert expected.shape == (1, backbone.channels, 5, 7)
    # Only a projection has values of both signs.
    assert (expected.min() < 0) == name.endswith("_480")
    assert name.endswith("_480") or expected.min() == 0
    torch.testing.assert_close(backbone(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (16, 17), (33, 15), (64, 65), (97, 2)])
def test_every_started_sixteen_pixels_give_a_cell(tiny, size):
    cells = tiny.eval()(torch.randn(2, 3, *size))
    assert cells.shape == (2, 10, math.ceil(size[0] / 16), math.ceil(size[1] / 16))
    assert torch.isfinite(cells).all()


def test_the_first_cell_is_centred_on_the_first_pixel(tiny):
    # What offset0 = 1 means: seen from cell (i, j), pixel (16 i, 16 j) is the middle of what matters.
    tiny.eval()
    image = torch.rand(1, 3, 257, 257, requires_grad=True)
    tiny(image)[0, :, 8, 8].sum().backward()
    rows, columns = image.grad[0].abs().sum(0).nonzero(as_tuple=True)
    assert (rows.min() + rows.max()) / 2 == (columns.min() + columns.max()) / 2 == 8 * 16


@pytest.mark.parametrize(("width_in", "stride"), [(5, 1), (5, 2), (7, 1), (7, 2)])
def test_a_block_is_what_the_paper_draws(width_in, stride):
    torch.manual_seed(0)
    block = BasicBlock(width_in, 7, stride).eval()
    for norm in (module for module in block.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(values)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    features = torch.randn(2, width_in, 9, 10)

    def normalised(values, norm):
        mean, variance = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        return (values - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]

    between = normalised(functional.conv2d(features, block.conv1.weight, stride=stride, padding=1), block.bn1).relu()
    changes = normalised(functional.conv2d(between, block.conv2.weight, padding=1), block.bn2)
    beside = features
    if (width_in, stride) != (7, 1):
        convolution, norm = block.shortcut
        beside = normalised(functional.conv2d(features[:, :, ::stride, ::stride], convolution.weight), norm)
    torch.testing.assert_close(block(features), (changes + beside).relu(), rtol=1e-4, atol=1e-5)


def test_a_new_block_is_its_shortcut():
    block = BasicBlock(6, 6, 1)
    features = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(block(features), features.relu())


def test_weights_start_with_the_variance_of_their_outputs():
    torch.manual_seed(0)
    network = CompactNet((16, 48, 96, 160), (1, 1, 2))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_the_gradient_reaches_every_parameter(tiny):
    images, wanted = torch.randn(4, 3, 48, 48), torch.randn(4, 10, 3, 3)
    for module in tiny.modules():
        if isinstance(module, BasicBlock):
            nn.init.ones_(module.bn2.weight)  # at its start, 0, nothing passes but the shortcut
    (tiny(images) - wanted).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in tiny.parameters())


def test_it_learns_from_its_start(tiny):
    # Two kinds of images that only their colour parts: the loss falls, and the blocks leave their shortcuts.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16) % 2
    images = 0.3 * torch.randn(16, 3, 32, 32, generator=generator)
    images[labels == 1, 0] += 1
    optimiser = torch.optim.SGD(tiny.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(tiny(images).mean(dim=(2, 3))[:, :2], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(module.bn2.weight.abs().max() > 0 for module in tiny.modules() if isinstance(module, BasicBlock))


def test_an_expansion_gives_the_map_its_channels():
    torch.manual_seed(0)
    network = CompactNet((4, 6, 8, 10), (1, 2, 1), expanded=24).eval()
    image = torch.randn(1, 3, 40, 64)
    with torch.no_grad():
        *body, convolution, norm, _ = network.features
        whole = nn.Sequential(*body)(image)
        expected = functional.relu(norm(functional.conv2d(whole, convolution.weight)))
        assert torch.equal(network(image), expected)
    assert expected.shape == (1, 24, 3, 4)
    with torch.no_grad():
        projected = CompactNet((4, 6, 8, 10), (1, 2, 1), expanded=24, projected=5).eval()
        projected.features[:-1].load_state_dict(network.features.state_dict())
        last = projected.features[-1]
        assert torch.equal(projected(image), functional.conv2d(expected, last.weight, last.bias))
    for wrong in ({"expanded": 0}, {"projected": 0}):
        with pytest.raises(ValueError, match="one channel or more in the last layers, not "):
            CompactNet((4, 6, 8, 10), (1, 2, 1), **wrong)


@pytest.mark.parametrize(
    ("widths", "depths"), [((4, 6, 8), (1, 1, 1)), ((4, 6, 8, 10), (1, 1)), ((4, 6, 8, 10), (1, 0, 1))]
)
def test_other_plans_are_refused(widths, depths):
    with pytest.raises(ValueError, match="four widths and three depths from 1 up, not"):
        CompactNet(widths, depths)
