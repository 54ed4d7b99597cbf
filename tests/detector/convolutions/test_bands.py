"""Inverted residual blocks in bands give the values of the whole block."""

import copy

import pytest
import torch
from sppnet.detector.convolutions import bands
from sppnet.detector.convolutions.backbone import Backbone
from torch import fx, nn


def block(channels, wide, kernel, stride, dilation, activation):
    margin = (kernel - 1) // 2 * dilation
    depthwise = nn.Conv2d(wide, wide, kernel, stride, margin, dilation, wide)
    return [nn.Conv2d(channels, wide, 1), activation(), depthwise, activation(), nn.Conv2d(wide, channels, 1)]


@pytest.fixture
def small_bands(monkeypatch):
    monkeypatch.setattr(bands, "LARGE", 0)
    monkeypatch.setattr(bands, "BAND", 4000)


@pytest.mark.parametrize("size", [(1, 40), (2, 31), (37, 20), (64, 9)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2), (3, 1, 3)])
def test_bands_give_the_values_of_the_whole_block(small_bands, kernel, stride, dilation, size):
    torch.manual_seed(0)
    parts = block(4, 12, kernel, stride, dilation, nn.ReLU6)
    features = torch.randn(2, 4, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = nn.Sequential(*parts)(features)
        found = bands.Banded(*parts)(features)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_bands_in_bfloat16_give_the_values_of_the_whole_block(small_bands):
    torch.manual_seed(0)
    parts = [part.to(torch.bfloat16) for part in block(4, 12, 5, 2, 1, nn.ReLU6)]
    features = torch.randn(2, 4, 64, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = nn.Sequential(*parts)(features)
        found = bands.Banded(*parts)(features)
    assert found.dtype == torch.bfloat16
    # Sums in another order may be rounded the other way.
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-8 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "count"), [("mobilenet_v2", 16), ("efficientnet_lite0", 15), ("squeezenet1_1", 0)])
def test_blocks_of_networks_are_found_and_change_nothing(small_bands, monkeypatch, name, count):
    images = torch.randn(1, 3, 70, 90)
    banded = Backbone(name)
    monkeypatch.setattr("sppnet.detector.convolutions.backbone.band", lambda network: network)
    plain = Backbone(name)
    assert sum(isinstance(part, bands.Banded) for part in banded.modules()) == count
    expected = plain(images)
    # oneDNN may add in another order when the size is another.
    torch.testing.assert_close(banded(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_map_inside_a_block_keeps_the_block_as_it_is(small_bands):
    backbone = Backbone("mobilenet_v2", layer="features.14.conv.0,features.18")
    whole = Backbone("mobilenet_v2", backbone.state(), "features.14.conv.0")
    images = torch.randn(1, 3, 64, 96)
    assert sum(isinstance(part, bands.Banded) for part in backbone.modules()) == 15
    assert torch.equal(backbone(images)[:, :576], whole(images))


@pytest.mark.parametrize("where", range(5))
def test_other_chains_are_left_alone(where):
    parts = block(4, 12, 3, 1, 1, nn.ReLU)
    other = [nn.Conv2d(4, 12, 3, padding=1), nn.Softmax(1), nn.Conv2d(12, 12, 3, padding=1), nn.Softmax(1)]
    parts[where] = [*other, nn.Conv2d(12, 4, 1, groups=4)][where]
    network = fx.symbolic_trace(nn.Sequential(*parts))
    found = bands.band(copy.deepcopy(network))
    assert not any(isinstance(part, bands.Banded) for part in found.modules())
