"""The fc layers on pooled windows: fc6, fc7 and the fine-tuned network's classifier fc8 (paper, section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.errors import InputError
from ..options import FEATURE_KINDS
from .products import Product

_FC_LAYERS = FEATURE_KINDS[1:]

#: Names of the tensors of a state.
_NAMES = re.compile(r"scale|fc[678]\.(weight|bias)|fc[67]\.(0\.weight|1\.weight|1\.bias)")


class Head(nn.Module):
    """fc6, fc7 (each with ReLU and dropout) and fc8, with an output for each class and a last one for the background.

    The weights are random; use :meth:`from_state` and :func:`start_from_classifier` for others.

    Parameters
    ----------
    width_in : int
        Length of a pooled row.
    width : int
        Outputs of fc6 and of fc7.
    classes : int
        Number of classes without the background.
    dropout : float
        Fraction of the outputs of fc6 and fc7 that dropout sets to zero in training.
    seed : int
        Seed of the random weights; does not change the global generator.
    scale : float
        Factor on pooled rows, to give them the norm that the weights expect.
    background : bool
        Whether fc8 has the background output: yes for windows of a detector, no for whole photographs.
    """

    scale: Tensor
    pretrained = False
    """Whether the layers come from a trained classifier; fine-tuning then uses a lower learning rate."""

    def __init__(
        self,
        width_in: int,
        width: int,
        classes: int,
        dropout: float = 0.5,
        seed: int = 0,
        scale: float = 1.0,
        background: bool = True,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.fc6: nn.Module = random_layer(width_in, width, generator)
        self.fc7: nn.Module = random_layer(width, width, generator)
        self.fc8: nn.Module = random_layer(width, classes + int(background), generator, deviation=0.01)
        self.dropout = dropout
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits (N, classes + 1) of pooled rows (N, width_in), in single precision for training.

        Raises
        ------
        ValueError
            For a head without fc8.
        """
        self._check_has("fc8")
        values = rows * self.scale
        for layer in (self.fc6, self.fc7):
            values = functional.dropout(functional.relu(layer(values)), self.dropout, self.training)
        return cast(Tensor, self.fc8(values))

    @torch.no_grad()
    def output(self, rows: Tensor, name: str) -> Tensor:
        """Float32 outputs (N, width) of fc6 or fc7, after ReLU and without dropout; later layers are not computed.

        Products use the weights' precision and skip columns of fc6 without weights (of pyramid levels that a
        pretrained layer does not have).

        Raises
        ------
        ValueError
            For another name, a layer that the head does not have, or rows of another width.
        """
        if name not in _FC_LAYERS:
            raise ValueError(f"a head has the layers {' and '.join(_FC_LAYERS)}, not {name!r}")
        self._check_has(name)
        start = factors(self.fc6)[0]
        if rows.ndim != 2 or rows.shape[1] != start.in_features:
            raise ValueError(f"rows must have shape (N, {start.in_features}), not {tuple(rows.shape)}")
        layers = self._ready_products()
        values = rows
        for products in layers[: 1 + _FC_LAYERS.index(name)]:
            for product in products:
                values = product(values)
            values.relu_()
        return values.float()

    def _check_has(self, name: str) -> None:
        if not factors(self.get_submodule(name)):
            raise ValueError(f"this head has no {name}")

    def _ready_products(self) -> tuple[list[Product], list[Product]]:
        """The factors of fc6 and fc7; prepared once in eval mode."""
        if self._products is None or self.training:
            start, *rest = factors(self.fc6)
            first, last = (0, start.in_features) if self.training else used_columns(start.weight)
            fc6 = [Product(start, float(self.scale), first, last), *map(Product, rest)]
            self._products = fc6, [Product(factor) for factor in factors(self.fc7)]
        return self._products

    _products: tuple[list[Product], list[Product]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Prepared weights have a layout of their own, which another process makes itself.
        return {**self.__dict__, "_products": None}

    def train(self, mode: bool = True) -> Head:
        """Switch between training and eval mode; drops the prepared products, because weights may change."""
        self._products = None
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Head:
        """Change the device or precision (``to``, ``half`` and similar methods)."""
        self._products = None
        return super()._apply(fn, recurse)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the products of fc6 and fc7."""
        return factors(self.fc6)[0].weight.dtype

    def width(self, name: str) -> int:
        """Number of outputs of the layer of that name."""
        return factors(self.get_submodule(name))[-1].out_features

    def state(self, upto: str = "fc8") -> dict[str, Tensor]:
        """Tensors on the CPU for :meth:`from_state`, without the layers after ``upto``."""
        names = ["fc6", "fc7", "fc8"]
        left_out = tuple(f"{name}." for name in names[names.index(upto) + 1 :])
        return {
            name: value.detach().cpu().contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith(left_out)
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Head:
        """The head with this :meth:`state`, in eval mode; it shares the memory of the tensors.

        A factored layer ("fc6.0.weight", "fc6.1.weight", "fc6.1.bias") is a product of two. Layers after fc6 may be
        missing.

        Raises
        ------
        InputError
            When names or shapes do not fit together.
        """
        unknown = [name for name in state if not _NAMES.fullmatch(name)]
        if unknown:
            raise InputError(f"fc layers do not have a tensor '{unknown[0]}'")
        head = cls(1, 1, 1)
        width = None
        absent = None
        try:
            if state["scale"].ndim != 0:
                raise InputError(f"the scale of fc layers is one number, not {tuple(state['scale'].shape)}")
            head.scale = state["scale"].float()
            for name in ("fc6", "fc7", "fc8"):
                if name != "fc6" and not any(key.startswith(f"{name}.") for key in state):
                    absent = absent or name
                    setattr(head, name, nn.Identity())
                    continue
                if absent:
                    raise InputError(f"fc layers are not complete: there is {name} without {absent}")
                layer = _layer_of(state, name)
                for factor in factors(layer):
                    if width is not None and factor.in_features != width:
                        raise InputError(
                            f"fc layers do not fit together: {name} takes {factor.in_features} numbers, gets {width}"
                        )
                    width = factor.out_features
                setattr(head, name, layer)
        except KeyError as error:
            raise InputError(f"fc layers are not complete: {error} is missing") from error
        if not all(value.is_floating_point() for value in state.values()):
            raise InputError("fc layers have floating-point weights")
        precisions = {part.dtype for layer in (head.fc6, head.fc7) for part in layer.parameters()}
        if len(precisions) > 1:
            raise InputError(f"fc6 and fc7 have one precision, not {' and '.join(sorted(map(str, precisions)))}")
        return head.eval()


def random_layer(
    width_in: int, width_out: int, generator: torch.Generator, deviation: float | None = None
) -> nn.Linear:
    """Linear layer with normal weights and zero biases; the default deviation is that of He et al., ICCV 2015."""
    layer = nn.Linear(width_in, width_out, device="meta")
    weight = torch.empty(width_out, width_in)
    weight.normal_(0, (2 / width_in) ** 0.5 if deviation is None else deviation, generator=generator)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(width_out))
    return layer


def factors(layer: nn.Module) -> list[nn.Linear]:
    """The linear factors of a layer (none, one or two), in order."""
    return [part for part in layer.modules() if isinstance(part, nn.Linear)]


def used_columns(weight: Tensor) -> tuple[int, int]:
    """Start and end of the columns with nonzero weights in a matrix; all columns if every weight is zero."""
    used = (weight != 0).any(dim=0).nonzero()
    return (int(used[0]), int(used[-1]) + 1) if len(used) else (0, weight.shape[1])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    if weight.ndim != 2:
        raise InputError(f"fc layers do not fit together: weights of shape {tuple(weight.shape)}")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        if bias.shape != weight.shape[:1]:
            raise InputError(
                f"fc layers do not fit together: {tuple(weight.shape)} weights, {tuple(bias.shape)} biases"
            )
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _layer_of(state: Mapping[str, Tensor], name: str) -> nn.Module:
    if f"{name}.0.weight" in state:
        first = _linear(state[f"{name}.0.weight"], None)
        return nn.Sequential(first, _linear(state[f"{name}.1.weight"], state[f"{name}.1.bias"]))
    return _linear(state[f"{name}.weight"], state[f"{name}.bias"])
