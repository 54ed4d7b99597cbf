"""The precision of convolutions on a CUDA device, and nobody else's setting."""

import pytest
import torch
from sppnet.detector.device import convolutions_in_tf32

CUDA = torch.device("cuda")


def setting():
    backend = torch.backends.cudnn
    return backend.conv.fp32_precision if hasattr(backend, "conv") else backend.allow_tf32


@pytest.mark.parametrize("allowed", [True, False])
def test_the_setting_holds_inside_and_comes_back(allowed):
    before = setting()
    with convolutions_in_tf32(allowed, CUDA):
        assert setting() in (("tf32", True) if allowed else ("ieee", False))
    assert setting() == before
    with pytest.raises(ZeroDivisionError), convolutions_in_tf32(allowed, CUDA):
        _ = 1 / 0
    assert setting() == before


def test_other_devices_have_no_such_setting():
    before = setting()
    for allowed in (True, False):
        with convolutions_in_tf32(allowed, torch.device("cpu")):
            assert setting() == before
