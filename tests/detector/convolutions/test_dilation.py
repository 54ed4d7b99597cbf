"""Dilated networks: between their new cells they compute what the network computes with its strides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dilated_pool as slow
from sppnet.data.errors import InputError
from sppnet.detector.convolutions import networks
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.dilation import DilatedPool
from sppnet.detector.convolutions.truncation import cut
from torch import nn
from torch.nn import functional

#: One network of each family, and its own stride.
FAMILIES = {
    "alexnet": 16,
    "vgg11_bn": 16,
    "zf5": 16,
    "sppnet_small": 16,
    "squeezenet1_1": 16,
    "googlenet": 32,
    "inception_v3": 32,
    "resnet18": 32,
    "densenet121": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "mnasnet0_5": 32,
    "shufflenet_v2_x0_5": 32,
    "efficientnet_b0": 32,
    "efficientnet_lite0": 32,
    "regnet_y_400mf": 32,
    "convnext_tiny": 32,
}


@pytest.mark.usefixtures("without_gates")
@pytest.mark.parametrize(("limit", "sides"), [(8, (97, 118)), (16, (128, 109))])
@pytest.mark.parametrize(("name", "own"), FAMILIES.items())
def test_every_other_cell_is_the_networks_own(name, own, limit, sides, random_state):
    whole, dilated = (Backbone(name, random_state(name), stride=stride) for stride in (None, limit))
    assert (whole.stride, dilated.stride) == (own, limit)
    assert (dilated.offset0, dilated.extent) == (whole.offset0, whole.extent)
    apart = own // limit
    image = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(1))
    expected, found = whole(image), dilated(image)
    torch.testing.assert_close(
        found[:, :, ::apart, ::apart], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )
    if apart > 1:  # the cells between are not copies
        assert not torch.allclose(found[:, :, 1::apart, 1::apart], found[:, :, :-1:apart, :-1:apart])


@pytest.mark.parametrize(
    ("name", "layer"),
    [("mobilenet_v2", None), ("resnet18", "layer3"), ("googlenet", "maxpool4"), ("alexnet", "features.12")],
)
@pytest.mark.parametrize("limit", [8, 12, 32])
def test_the_stride_in_use_leads_to_the_same_network(name, layer, limit):
    first = cut(name, layer, limit)
    again = cut(name, first.layer, first.map.stride)
    assert first.map.stride <= limit
    assert again.maps == first.maps
    layers = [[str(part) for part in of.network.modules() if not list(part.children())] for of in (first, again)]
    assert layers[0] == layers[1]
    assert first.network.code == again.network.code


def test_a_large_limit_changes_nothing():
    for limit in (32, 1000):
        assert [str(part) for part in cut("resnet18", stride=limit).network.modules()] == [
            str(part) for part in cut("resnet18", stride=None).network.modules()
        ]


@pytest.mark.parametrize("stride", [0, -8, 8.0, "16", True])
def test_a_limit_is_a_whole_number(stride):
    with pytest.raises(InputError, match=f"a whole number of pixels from 1 up, not {stride!r}"):
        cut("alexnet", stride=stride)


NUMBERS = st.sampled_from([0.0, -0.0, 1.5, -2.0, -3.25, 1e30, float("nan"), float("inf"), float("-inf")])


@settings(deadline=None)
@given(
    cells=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 3),
    padded=st.booleans(),
    lost=st.integers(1, 2),
    ceil_mode=st.booleans(),
    data=st.data(),
)
def test_maxima_over_windows_that_skip_cells(cells, kernel, dilation, padded, lost, ceil_mode, data):
    count = cells[0] * cells[1]
    values = data.draw(st.lists(NUMBERS, min_size=count, max_size=count))
    features = torch.tensor(values).reshape(1, 1, *cells)
    padding = tuple(side // 2 if padded else 0 for side in kernel)
    layer = DilatedPool(nn.MaxPool2d(kernel, lost, padding, ceil_mode=ceil_mode), dilation, lost)
    beyond = (lost - 1) * dilation if ceil_mode else 0
    expected = slow.pool(
        features.numpy(), False, kernel, tuple(side * dilation for side in padding), (dilation, dilation), beyond
    )
    np.testing.assert_array_equal(layer(features).numpy(), expected)


@settings(deadline=None)
@given(
    seed=st.integers(0, 100),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 3),
    padded=st.booleans(),
)
def test_averages_over_windows_that_skip_cells(seed, kernel, dilation, padded):
    features = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(seed))
    padding = tuple(side // 2 if padded else 0 for side in kernel)
    layer = DilatedPool(nn.AvgPool2d(kernel, 1, padding), dilation, 1)
    padding = tuple(side * dilation for side in padding)
    expected = slow.pool(features.numpy(), True, kernel, padding, (dilation, dilation))
    np.testing.assert_allclose(layer(features).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sides", [(11, 8), (12, 13), (9, 9), (14, 10)])
@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (nn.MaxPool2d, {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        (nn.MaxPool2d, {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
        (nn.MaxPool2d, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        (nn.MaxPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        (nn.MaxPool2d, {"kernel_size": 2, "stride": 2, "dilation": 2}),
        (nn.AvgPool2d, {"kernel_size": 2, "stride": 2}),
        (nn.AvgPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ],
)
def test_two_strides_in_a_row_can_be_lost_at_every_size(pool, options, sides):
    features = torch.randn(1, 2, *sides, generator=torch.Generator().manual_seed(0))
    layer = pool(**options)
    found = DilatedPool(layer, 2, 2)(DilatedPool(layer, 1, 2)(features))
    torch.testing.assert_close(found[:, :, ::4, ::4], layer(layer(features)))


# Networks that cannot be dilated


class Refused(nn.Module):
    """Stride 16, then the layer in question, then a convolution."""

    def __init__(self, layer):
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 4, 16, stride=16), layer
        self.last, self.fc = nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 2)

    def forward(self, images):
        return self.fc(self.last(self.layer(self.stem(images))).mean(dim=(2, 3)))


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(4, 4, 3, 3))

    def forward(self, features):
        return self.function(features, self.weight)


@pytest.mark.parametrize(
    ("layer", "culprit"),
    [
        (lambda: nn.AvgPool2d(2, 2, ceil_mode=True), "layer"),
        (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), "layer"),
        (lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, 1, 1, count_include_pad=False)), "layer.1"),
        (lambda: nn.AvgPool2d(2, 2, divisor_override=3), "layer"),
        (lambda: Function(lambda features, weight: functional.conv2d(features, weight, stride=2)), "conv2d"),
        (
            lambda: nn.Sequential(
                nn.MaxPool2d(2), Function(lambda features, weight: functional.conv2d(features, weight, padding=1))
            ),
            "conv2d",
        ),
    ],
)
def test_what_cannot_be_dilated_is_named(layer, culprit, monkeypatch):
    monkeypatch.setitem(networks.OURS, "refused", lambda: Refused(layer()))
    assert cut("refused", stride=32).map.stride == 32
    assert cut("refused", "stem").map.stride == 16
    with pytest.raises(InputError) as refused:
        cut("refused", stride=16)
    message = str(refused.value)
    assert message.startswith("refused cannot have a map of stride 16: ")
    assert culprit in message.split("'")[1]
    assert message.endswith("--stride 32 leaves the network as it is")
    assert "\n" not in message


def test_pooling_functions_are_dilated_too(monkeypatch):
    def build():
        def pool(features, weight):
            wide = functional.max_pool2d(features, 3, 2, 1, ceil_mode=True)
            return functional.avg_pool2d(
                functional.max_pool2d(wide, 3, stride=1, padding=1), (3, 3), stride=1, padding=1
            )

        return Refused(Function(pool))

    monkeypatch.setitem(networks.OURS, "pools", build)
    state = build().state_dict()
    whole, dilated = (Backbone("pools", state, stride=stride) for stride in (None, 16))
    image = torch.rand(1, 3, 240, 210)
    torch.testing.assert_close(dilated(image)[:, :, ::2, ::2], whole(image))
