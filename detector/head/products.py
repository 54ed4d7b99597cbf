"""Products of rows with the weights of a fixed layer, by the library that is quickest at them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# What torch.compile makes of linear layers; torch has no public name for it.
_ONEDNN = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)

#: Rows that the weights are laid out for; others are multiplied as well.
_ROWS = 512


class Product:
    """``scale * rows @ weight.T + bias`` for a layer that does not change, made ready once.

    Single precision on the CPU goes to oneDNN, which does the convolutions too, with weights laid out for it before:
    torch's own choice, MKL, takes twice as long on AMD's processors (12,800 to 4,096 numbers on two cores of an EPYC:
    220 against 500 GFLOP/s). What is computed is the same, but for the order of additions.

    Parameters
    ----------
    layer : nn.Linear
    scale : float
        Factor on the rows.
    first, last : int
        The columns of the weights that are not left out.
    """

    def __init__(self, layer: nn.Linear, scale: float = 1.0, first: int = 0, last: int | None = None):
        self.columns, self.scale = slice(first, last), scale
        self.weight = layer.weight.detach()[:, self.columns]
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.by_onednn = self.weight.device.type == "cpu" and self.weight.dtype == torch.float32 and _ONEDNN
        if self.by_onednn:
            # As a factor of the weights the scale costs nothing.
            self.weight, self.scale = torch.ops.mkldnn._reorder_linear_weight(self.weight * scale, _ROWS), 1.0

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (N, columns of the whole layer) in any precision to (N, outputs) in that of the weights."""
        used = rows[:, self.columns].to(self.weight.dtype)
        if self.by_onednn:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(
                used.contiguous(), self.weight, self.bias, "none", [], ""
            )
            return product
        # The scale goes on the products: there are fewer of them, and a bfloat16 scale would be up to 0.4 % off.
        values = functional.linear(used, self.weight).mul_(self.scale)
        return values if self.bias is None else values.add_(self.bias)
