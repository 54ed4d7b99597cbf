"""Maps for training are read ahead where cores are idle."""

import threading

import pytest
import torch
from sppnet.detector.training.images import AHEAD, read_for


@pytest.mark.parametrize(("device", "most"), [("cpu", 0), ("cuda", AHEAD)])
def test_maps_are_read_ahead_for_a_gpu_alone(device, most):
    read, known = [], [threading.Event() for _ in range(9)]

    def take(item):
        read.append(item)
        known[item].set()
        return item

    results = []
    for item in read_for(torch.device(device), take, range(9)):
        assert known[min(item + most, 8)].wait(30)
        assert len(read) <= item + most + 1
        results.append(item)
    assert results == read == list(range(9))
