"""Small random weights for any network, and networks whose gates are open."""

import functools

import pytest
import torch
import torchvision
from sppnet.detector.convolutions.truncation import cut


@pytest.fixture(scope="session")
def random_state():
    """Small random weights for any network's used part, without the time a whole network's own start takes."""

    @functools.cache
    def make(name):
        generator = torch.Generator().manual_seed(0)
        state = {}
        for key, like in cut(name).network.state_dict().items():
            fan_in = max(like[0].numel(), 1) if like.ndim > 1 else 1
            values = torch.randn(like.shape, generator=generator) * (2 / fan_in) ** 0.5
            if like.ndim < 2 and key.endswith(("weight", "running_var")):
                values = 1 + 0.1 * values.abs()
            elif like.ndim < 2:
                values = 0.1 * values
            state[key] = values.to(like.dtype)
        return state

    return make


@pytest.fixture
def without_gates(monkeypatch):
    """Squeeze-and-excitation gates look at the whole image: geometry is that of what they scale."""
    monkeypatch.setattr(torchvision.ops.SqueezeExcitation, "forward", lambda self, features: features)
