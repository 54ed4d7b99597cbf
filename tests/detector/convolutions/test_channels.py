"""The network's last 1 x 1 convolution and the reduction as one product, against one after the other."""

import numpy as np
import pytest
import torch
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.channels import Reduced
from sppnet.detector.convolutions.reduction import learn_reduction
from torch import nn

LAYERS = {
    "sppnet_student_480": None,  # ends in a convolution with a bias
    "mobilenet_v2": "features.14.conv.0,features.16.conv.2",  # the second ends in one behind a batch norm
    "squeezenet1_1": None,  # ends in an activation
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((64, 90), (128, 96))]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("both_signs", [False, True])
@pytest.mark.parametrize("wanted", [1, 7, 10, None])
@pytest.mark.parametrize("name", LAYERS)
def test_one_product_does_what_two_do(name, wanted, both_signs, precision, images):
    backbone = Backbone(name, layer=LAYERS[name])
    reduction = learn_reduction(backbone, images, [wanted] * len(backbone.layer_channels), both_signs)
    batch = backbone.preprocess(images[1])
    expected = torch.cat(
        [
            torch.einsum("bchw,ck->bkhw", one, values) if values.ndim else one * values
            for one, values in zip(backbone.layer_maps(batch), reduction, strict=True)
        ],
        dim=1,
    )
    backbone.reduce(reduction)
    again = Backbone.from_state(name, backbone.layer, backbone.state(), backbone.stride)
    if precision == "bfloat16":
        backbone, again = backbone.in_bfloat16(), again.in_bfloat16()
    (found,) = backbone.maps(batch)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    # bfloat16 has 8 bits, and all layers round to them.
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=largest * (3e-2 if precision == "bfloat16" else 1e-5))
    assert torch.equal(again.maps(batch)[0], found)


@pytest.mark.parametrize("name", LAYERS)
def test_last_convolutions_stay_in_the_state_and_in_the_maps(name, images):
    backbone = Backbone(name, layer=LAYERS[name])
    batch = backbone.preprocess(images[0])
    ends = backbone.layer.split(",")
    for end, found in zip(ends, backbone.layer_maps(batch), strict=True):
        assert torch.equal(found, Backbone(name, backbone.state(), end).layer_maps(batch)[0])
    assert torch.equal(torch.cat(backbone.layer_maps(batch), dim=1), backbone.maps(batch)[0])


def test_negatives_are_copied_exactly():
    matrix = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    cells = torch.randn(2, 12, 3, 5, generator=torch.Generator().manual_seed(1))
    found = Reduced(nn.Identity(), torch.cat([matrix, -matrix[:, :3]], dim=1))
    assert found.negatives == 3
    assert torch.equal(found(cells)[:, 4:], -found(cells)[:, :3])
    assert Reduced(nn.Identity(), matrix).negatives == 0
