"""The same last bits for any number of threads."""

import numpy as np
import pytest
import torch
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.threads import SteadyConv2d, make_steady, one_thread
from torch import nn


@pytest.fixture
def threads():
    """Sets the number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("cells", [(4, 5), (20, 31)])
def test_a_convolution_does_not_depend_on_the_threads(threads, batch, size, cells):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 96, *cells, generator=generator).to(memory_format=torch.channels_last)
    layer, results = SteadyConv2d(96, 40, size, padding=size // 2), []
    for number in (1, 2, 3):
        threads(number)
        with torch.inference_mode():
            results.append(layer(images))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0].double(), layer.double()(images.double()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_maps_do_not_depend_on_the_threads(threads, name):
    image = np.random.default_rng(0).integers(0, 256, (320, 400, 3), np.uint8)
    backbone, results = Backbone(name), []
    for number in (1, 2, 3):
        threads(number)
        results.append(backbone.feature_map(image))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("padding", [0, "same"])
def test_gradients_are_those_of_the_layer(padding):
    layer, gradients = nn.Conv2d(8, 4, 3, padding=padding), []
    for change in (lambda network: None, make_steady):
        change(layer)
        images = torch.ones(1, 8, 20, 31, requires_grad=True)
        layer(images).square().sum().backward()
        gradients.append(images.grad)
    assert isinstance(layer, SteadyConv2d)
    torch.testing.assert_close(*gradients)


def test_one_thread_is_for_the_block_alone(threads):
    threads(3)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
