"""The same last bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def same_bits() -> AbstractContextManager[Any]:
    """In this block layers of convolutions on the CPU do not depend on the number of threads.

    oneDNN's sums do not. But torch leaves small convolutions, and with one thread 1 x 1 convolutions, to a product of
    matrices, whose sums do. That is no faster: of ten 1 x 1 convolutions with one thread oneDNN took twice as long for
    two, and 0.1 to 1.1 times as long for the others.
    """
    return _WithOneDNN() if torch.backends.mkldnn.is_available() else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """In this block torch has one thread, for what depends on their number: decompositions of matrices."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _WithOneDNN(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # A layer gives all seven arguments by place; its padding may be a word.
        if function is torch.conv2d and len(args) == 7 and not isinstance(args[4], str):
            images, weights, bias, stride, padding, dilation, groups = args
            if images.device.type == "cpu" and images.dtype == torch.float32:
                pairs = [(value, value) if isinstance(value, int) else value for value in (padding, stride, dilation)]
                return torch.ops.aten.mkldnn_convolution(images, weights, bias, *pairs, groups)
        return function(*args, **(kwargs or {}))
