"""Multiply rows by the weights of a fixed layer with the fastest library."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# torch.compile uses these operations for linear layers; torch has no public names for them.
_ONEDNN = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)

#: Number of rows for which the weight layout is optimised; other numbers work as well.
_ROWS = 512


class Product:
    """``scale * rows @ weight.T + bias`` for a layer that does not change, prepared once.

    Single precision on the CPU uses oneDNN, like the convolutions, with weights reordered in advance: torch's default,
    MKL, takes twice as long on AMD's processors (12,800 to 4,096 numbers on two cores of an EPYC: 220 against 500
    GFLOP/s). Only the order of additions differs.

    Parameters
    ----------
    layer : nn.Linear
    scale : float
        Factor on the rows.
    first, last : int
        Start and end of the columns of the weights that are used.
    """

    def __init__(self, layer: nn.Linear, scale: float = 1.0, first: int = 0, last: int | None = None):
        self.columns, self.scale = slice(first, last), scale
        self.weight = layer.weight.detach()[:, self.columns]
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.by_onednn = self.weight.device.type == "cpu" and self.weight.dtype == torch.float32 and _ONEDNN
        if self.by_onednn:
            # Folded into the weights, the scale costs nothing.
            self.weight, self.scale = torch.ops.mkldnn._reorder_linear_weight(self.weight * scale, _ROWS), 1.0

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply rows (N, columns of the whole layer) of any precision; gives (N, outputs) in the weights' dtype."""
        used = rows[:, self.columns].to(self.weight.dtype)
        if self.by_onednn:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(
                used.contiguous(), self.weight, self.bias, "none", [], ""
            )
            return product
        # Scale the products: there are fewer of them, and a bfloat16 scale would be up to 0.4 % off.
        values = functional.linear(used, self.weight).mul_(self.scale)
        return values if self.bias is None else values.add_(self.bias)
