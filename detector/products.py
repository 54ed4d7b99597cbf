"""Products of rows with the weights of a fixed layer, by the library that is quickest at them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Product:
    """``rows @ weight.T + bias`` for a layer that does not change, made ready once.

    Single precision on the CPU goes to oneDNN, which does the convolutions too: torch's own choice, MKL, takes twice as
    long on AMD's processors (12,800 to 4,096 numbers on two cores of an EPYC: 220 against 450 to 500 GFLOP/s). What is
    computed is the same, but for the order of additions.

    Parameters
    ----------
    layer : nn.Linear
    first, last : int
        The columns of the weights that are not left out.
    with_bias : bool
        Add the layer's bias, if it has one.
    """

    def __init__(self, layer: nn.Linear, first: int = 0, last: int | None = None, with_bias: bool = True):
        self.columns = slice(first, last)
        self.weight = layer.weight.detach()[:, self.columns]
        self.bias = layer.bias.detach() if with_bias and layer.bias is not None else None
        self.by_onednn = (
            self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
        )
        if self.by_onednn:
            self.weight = self.weight.contiguous().to_mkldnn()
            self.bias = None if self.bias is None else self.bias.to_mkldnn()

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (N, columns of the whole layer) in any precision to (N, outputs) in that of the weights."""
        used = rows[:, self.columns].to(self.weight.dtype)
        if not self.by_onednn:
            return functional.linear(used, self.weight, self.bias)
        product: Tensor = functional.linear(used.contiguous().to_mkldnn(), self.weight, self.bias).to_dense()
        return product
