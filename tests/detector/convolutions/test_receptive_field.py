"""Shapes on the meta device, where the tracker has its own rules, against shapes that torch computes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sppnet.detector.convolutions.receptive_field import GridTracker
from torch import nn
from torch.nn import functional

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def both(function, *shapes):
    """The shapes that a function of tensors gives on the meta device inside a tracker, and on the CPU."""
    with torch.no_grad(), GridTracker():
        tracked = function(*(torch.empty(shape, device="meta") for shape in shapes))
    computed = function(*(torch.rand(shape) for shape in shapes))
    return tuple(tracked.shape), tuple(computed.shape)


@given(kernel=PAIRS, stride=PAIRS, padding=PAIRS, dilation=PAIRS, groups=st.sampled_from([1, 2]))
def test_convolutions_have_torchs_shapes(kernel, stride, padding, dilation, groups):
    def convolve(images, weight):
        return functional.conv2d(images, weight, None, stride, padding, dilation, groups)

    tracked, computed = both(convolve, (2, 4, 13, 10), (6, 4 // groups, *kernel))
    assert tracked == computed


def test_a_convolution_without_a_cell_is_refused_as_by_torch():
    with torch.no_grad(), GridTracker(), pytest.raises(RuntimeError):
        functional.conv2d(torch.empty(1, 3, 4, 9, device="meta"), torch.empty(2, 3, 7, 7, device="meta"))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: b * a,
        lambda a, b: torch.pow(1 + a, -0.75) - b,
        lambda a, b: functional.hardswish(a) * torch.sigmoid(b),
        lambda a, b: functional.relu(a, inplace=True) + b,
        lambda a, b: functional.conv_transpose2d(a, torch.empty(3, 2, 2, 2, device=a.device), stride=2),
        lambda a, b: functional.avg_pool2d(functional.max_pool2d(a, 2), 2),
        lambda a, b: functional.hardtanh(a, 0, 6, inplace=True) - b,
        lambda a, b: functional.adaptive_avg_pool2d(a, 1) + b,
        lambda a, b: a.mean((-1, 2)) + a.mean(3).mean(2),
        lambda a, b: a.mean(),
        lambda a, b: functional.linear(a.mean((2, 3)), b.new_ones(7, 3), b.new_ones(7)),
        lambda a, b: functional.batch_norm(a, *(torch.ones(3, device=a.device) for _ in range(2))),
    ],
)
def test_other_operations_have_torchs_shapes(function):
    tracked, computed = both(function, (2, 3, 8, 12), (3, 1, 1))
    assert tracked == computed


def grid_after(function):
    images = torch.empty(1, 3, 21, 30, device="meta")
    with torch.no_grad(), GridTracker() as tracker:
        tracker.watch(images)
        return tracker.grid(function(images))


def test_padding_before_a_convolution_is_padding_of_the_convolution():
    weight = torch.empty(4, 3, 5, 3, device="meta")
    inside = grid_after(lambda images: functional.conv2d(images, weight, stride=2, padding=(2, 1)))
    before = grid_after(lambda images: functional.conv2d(functional.pad(images, (1, 1, 2, 2)), weight, stride=2))
    assert inside == before
    # Of edges that differ, the left and the upper ones move the first cell.
    assert grid_after(lambda images: functional.pad(images, (3, 1, 2, 0))).centre == (-2, -3)
    assert grid_after(lambda images: functional.pad(images, (0, 1, 0, 4))).centre == (0, 0)
    assert grid_after(lambda images: functional.pad(images, (1, 1))) is None


def test_what_is_not_on_the_meta_device_is_computed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid()).eval()
    images = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        expected = network(images)
        with GridTracker() as tracker:
            tracker.watch(images)
            found = network(images)
    assert torch.equal(found, expected)
    assert tracker.grid(found).cells == (7, 9)
