"""Torch's threads: the same last bits for any number of them, and their division among several images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn

#: Images and values from which torch leaves a convolution to oneDNN (``use_mkldnn`` in its Convolution.cpp).
_IMAGES, _VALUES = 16, 20_480


class SteadyConv2d(nn.Conv2d):
    """A convolution that gives the same bits with any number of threads.

    oneDNN's sums do not depend on the threads. But torch leaves small convolutions, and with one thread 1 x 1
    convolutions, to a product of matrices, whose sums do. That is no faster: of ten 1 x 1 convolutions with one thread
    oneDNN took twice as long for two, and 0.1 to 1.1 times as long for the others.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not isinstance(self.padding, str) and self._depends_on_threads(input):
            return torch.mkldnn_convolution(input, weight, bias, self.padding, self.stride, self.dilation, self.groups)
        return super()._conv_forward(input, weight, bias)

    def _depends_on_threads(self, images: Tensor) -> bool:
        """Whether torch does not take oneDNN, but could."""
        alone, small = torch.get_num_threads() == 1, images.numel() <= _VALUES
        if not (alone or small) or images.device.type != "cpu" or images.dtype != torch.float32:
            return False
        if self.padding_mode != "zeros" or not torch.backends.mkldnn.is_available():
            return False
        if alone and {*self.kernel_size, *self.stride, *self.dilation} == {1} and len(images) < _IMAGES:
            return True
        return small and self.groups == 1 and len(images) == 1 and min(self.kernel_size) <= 3


def make_steady(network: nn.Module) -> None:
    """Turn the network's convolutions into :class:`SteadyConv2d`."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = SteadyConv2d


@contextmanager
def one_thread() -> Iterator[None]:
    """In this block torch has one thread, for what depends on their number: decompositions of matrices."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Division:
    """What :func:`divided` knows of all its blocks."""

    def __init__(self) -> None:
        self.lock, self.blocks, self.threads = Lock(), 0, 0


_division = _Division()


@contextmanager
def divided() -> Iterator[int]:
    """Number of torch's threads, for a block whose own threads each take a part by ``torch.set_num_threads``.

    Such a call is for the thread that makes it, and for all threads that are still to come. So at the end of the last
    block that divides them the number is set back; a block in another thread meanwhile gets the whole number, too.
    """
    with _division.lock:
        if _division.blocks == 0:
            _division.threads = torch.get_num_threads()
        _division.blocks += 1
    try:
        yield _division.threads
    finally:
        with _division.lock:
            _division.blocks -= 1
            if _division.blocks == 0:
                torch.set_num_threads(_division.threads)
