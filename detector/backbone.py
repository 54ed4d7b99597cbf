"""The convolutions of a classification network, cut at a feature map whose geometry is known."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ..data.errors import InputError
from ..data.progress import log
from .geometry import PROBE_SIZE, Grid, GridTracker
from .pyramid import MIN_SIDE
from .zf5 import ZF5

# torchvision's normalisation of RGB / 255; all its networks but those of early TensorFlow origin share it.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_LARGEST_STRIDE = 16


class Backbone(nn.Module):
    """A classification network up to one of its feature maps; always in eval mode, never trained.

    Everything a detector has to know about the map follows from the network itself
    (:mod:`.geometry`). The default map is the paper's "last convolutional layer",
    read as: of the maps whose cells are at most 16 pixels apart, the last one that
    all later layers depend on. That is conv5 (after ReLU) of AlexNet, VGG and ZF-5,
    the output of layer3 of a ResNet, and the 576 channels of ``features.14.conv.0``
    of MobileNetV2, which its stride-32 part starts from.

    Parameters
    ----------
    name : str
        Any convolutional classification network of torchvision, or "zf5".
    weights : str, Path or mapping of tensors
        "none" (random), "imagenet" (downloaded by torchvision), a ``.safetensors``
        file or a ``.pth``/``.pt`` state dict (read as weights only), or a state
        dict. Half precision becomes single.
    layer : str, optional
        A node as :func:`torchvision.models.feature_extraction.get_graph_node_names`
        prints it, or a module, whose last node is meant.
    seed : int
        For the random weights; the global generator is left alone.

    Attributes
    ----------
    name, layer : str
    stride : int
        Pixels from one cell to the next, in both directions.
    offset0 : float
        Receptive-field centre of the first cell in 1-based pixels, as in the paper.
    extent : int
        Side of a cell's receptive field in pixels.
    channels : int
    feeds_classifier : bool
        Whether the map is the default one, from which the network's own classifier goes on.
    input_size : int
        Side of the square images that the network was trained on, pixels.

    Raises
    ------
    InputError
        For an unknown network or layer, a layer that is no regular map, or weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | Mapping[str, Tensor] = "none",
        layer: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        whole, maps = _analyse(name)
        self.name = name
        default = _default_layer(whole, maps)
        if layer is None and default is None:
            raise InputError(f"{name} has no feature map of stride up to {_LARGEST_STRIDE}; name one with layer")
        self.layer = str(default) if layer is None else _find_layer(name, layer, maps)
        self.feeds_classifier = self.layer == default
        grid, self.channels = maps[self.layer] or (None, 0)
        if grid is None or grid.axis != 2 or grid.stride[0] != grid.stride[1] or grid.centre[0] != grid.centre[1]:
            raise InputError(f"layer '{self.layer}' of {name} is no map of cells at one regular stride; choose another")
        self.stride = int(grid.stride[0])
        self.offset0 = grid.centre[0] + 1
        self.extent = int(max(grid.extent))
        self.input_size = _input_size(name)

        network = _truncate(whole, self.layer)
        origin, state = read_weights(name, weights, seed)
        self._state = _select(network, state, origin)
        network.load_state_dict(self._state, assign=True)
        self._network = _fold_batch_norms(network).to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_state(cls, name: str, layer: str, state: Mapping[str, Tensor]) -> Backbone:
        """The backbone whose :meth:`state` this is."""
        return cls(name, weights=state, layer=layer)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers in use, float32 on the CPU, under the names they have in the whole network."""
        return dict(self._state)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode: the convolutions are fixed."""
        return super().train(False)

    def preprocess(self, image: NDArray[Any]) -> Tensor:
        """RGB uint8 (H, W, 3) as normalised float32 (1, 3, H, W) on the CPU, channels last in memory.

        Raises
        ------
        ValueError
            When the image is not uint8 (H, W, 3).
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).float()
        return pixels.sub_(mean * 255).div_(std * 255).permute(2, 0, 1)[None]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float images (B, 3, H, W) to the map (B, C, h, w), float32 whatever the weights' precision is.

        Raises
        ------
        ValueError
            When H or W is below ``pyramid.MIN_SIDE``, where some networks have no cell left.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE:
            raise ValueError(f"images must have shape (B, 3, H >= {MIN_SIDE}, W >= {MIN_SIDE}), not {images.shape}")
        dtype = next(self.parameters()).dtype
        features: Tensor = self._network(images.to(dtype).contiguous(memory_format=torch.channels_last))
        return features.float()

    @torch.no_grad()
    def feature_map(self, image: NDArray[Any]) -> Tensor:
        """The map (C, h, w) of one RGB uint8 image (H, W, 3), on the backbone's device."""
        device = next(self.parameters()).device
        features: Tensor = self(self.preprocess(image).to(device))[0]
        return features

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        return (
            f"{self.name!r}, layer={self.layer!r}, stride={self.stride}, offset0={self.offset0}, "
            f"channels={self.channels}"
        )


def names() -> list[str]:
    """The networks that can be asked for: torchvision's classifiers (transformers are refused later) and ZF-5."""
    return [*torchvision.models.list_models(module=torchvision.models), "zf5"]


def _input_size(name: str) -> int:
    """From torchvision's transforms, which go with its weights; ZF-5 takes the 224 pixels of the paper."""
    if name == "zf5":
        return 224
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return int(transforms.crop_size[0])


Maps = dict[str, tuple[Grid, int] | None]


def _build(name: str) -> nn.Module:
    """The whole network with random weights, in eval mode."""
    if name == "zf5":
        return ZF5().eval()
    if name not in names():
        near = get_close_matches(name, names(), n=4)
        known = f"near names are {', '.join(near)}" if near else "any classification network of torchvision is, and zf5"
        raise InputError(f"backbone '{name}' is not known; {known}")
    # These two were converted from TensorFlow and bring their own normalisation on top of torchvision's.
    options = {"transform_input": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


def build_without_values(name: str) -> nn.Module:
    """The whole network on the meta device: shapes alone, at once and without memory."""
    try:
        with torch.device("meta"):
            return _build(name)
    except NotImplementedError:  # a constructor that computes with tensors (RegNet)
        with torch.random.fork_rng(devices=[]):
            return _build(name).to("meta")


def _analyse(name: str) -> tuple[fx.GraphModule, Maps]:
    """The network as a graph that returns every node, and what each node's map is: its grid and channels."""
    model = build_without_values(name)
    image = torch.empty(1, 3, *PROBE_SIZE, device="meta")
    try:
        train_names, node_names = get_graph_node_names(model, suppress_diff_warning=True)
        whole = create_feature_extractor(
            model, train_return_nodes=train_names, eval_return_nodes=node_names, suppress_diff_warning=True
        ).eval()
        with torch.no_grad(), GridTracker() as tracker:
            tracker.watch(image)
            values = whole(image)
            maps: Maps = {}
            for node, value in values.items():
                grid = tracker.grid(value)
                maps[node] = None if grid is None else (grid, value.shape[1])
    except (RuntimeError, AssertionError, TypeError, fx.proxy.TraceError) as error:
        height, width = PROBE_SIZE
        raise InputError(
            f"{name} cannot be a backbone: it does not take an image of {height} x {width} pixels "
            f"({str(error).splitlines()[0]})"
        ) from error
    return whole, maps


def _nodes(whole: fx.GraphModule) -> dict[str, fx.Node]:
    """The graph's nodes by the names that torchvision gives them."""
    output = next(node for node in whole.graph.nodes if node.op == "output")
    return dict(output.args[0])


def _default_layer(whole: fx.GraphModule, maps: Maps) -> str | None:
    """The last map of stride at most 16 that everything after it is computed from, if there is one."""
    nodes = _nodes(whole)
    place = {node: index for index, node in enumerate(whole.graph.nodes)}
    last_name = list(nodes)[-1]
    # What the classifier makes of the features is no feature map, even where it is made by convolutions.
    end = len(place) if maps[last_name] else max(place[node] for node in place if _has_weights(whole, node))
    reaches: dict[fx.Node, int] = {
        nodes[key]: max((place[user] for user in nodes[key].users if user.op != "output"), default=0)
        for key, found in maps.items()
        if found
    }
    chosen, open_until = None, 0
    for key, node in nodes.items():
        found = maps[key]
        if found is None or place[node] >= end:
            continue
        grid = found[0]
        # A cut: no earlier map is used again after this one.
        if (
            open_until <= place[node]
            and max(grid.stride) <= _LARGEST_STRIDE
            and min(grid.extent) > max(grid.stride)
            and grid.axis == 2
            and not isinstance(_module(whole, node), nn.Dropout)
        ):
            chosen = key
        open_until = max(open_until, reaches[node])
    return chosen


def _module(whole: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return whole.get_submodule(str(node.target)) if node.op == "call_module" else None


def _has_weights(whole: fx.GraphModule, node: fx.Node) -> bool:
    module = _module(whole, node)
    return node.op == "get_attr" or (module is not None and any(True for _ in module.parameters()))


def _find_layer(name: str, layer: str, maps: Maps) -> str:
    """The node meant by a node's or a module's name."""
    inside = [node for node in maps if node == layer or node.startswith(layer + ".")]
    if inside:
        return inside[-1]
    parts = [node.split(".") for node in maps]
    known = sorted({".".join(path[:depth]) for path in parts for depth in range(1, len(path) + 1)})
    near = get_close_matches(layer, known, n=4, cutoff=0.3) or list(maps)[-4:]
    raise InputError(f"{name} has no layer '{layer}'; near names are {', '.join(near)}")


def _truncate(whole: fx.GraphModule, layer: str) -> fx.GraphModule:
    """The part of the graph that computes ``layer``, down to torch.nn's own modules."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    wanted = _nodes(whole)[layer]
    for node in whole.graph.nodes:
        copies[node] = graph.node_copy(node, lambda source: copies[source])
        if node is wanted:
            break
    graph.output(copies[wanted])
    part = fx.GraphModule(whole, graph, class_name="Features")
    part.graph.eliminate_dead_code()
    part.recompile()
    # Tracing once more opens torchvision's own blocks, so that each batch norm stands beside its convolution.
    network = fx.symbolic_trace(part.eval())
    network.delete_all_unused_submodules()
    return network.eval()


def read_weights(name: str, weights: str | Path | Mapping[str, Tensor], seed: int) -> tuple[str, Mapping[str, Tensor]]:
    """Where the weights come from, in words, and the state dict."""
    if isinstance(weights, Mapping):
        return "the state", weights
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return "the random weights", _build(name).state_dict()
    if weights == "imagenet":
        return "the download", _download(name)
    path = Path(weights)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"weights must be 'imagenet', 'none' or a .safetensors, .pth or .pt file, not '{weights}'")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a state dict ({reason})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a state dict, names with tensors")
    return str(path), state


def _download(name: str) -> Mapping[str, Tensor]:
    if name == "zf5":
        raise InputError("there are no 'imagenet' weights of zf5; give a file, or 'none'")
    source = torchvision.models.get_model_weights(name).DEFAULT
    log(f"fetching {source} from {source.url} (kept in {torch.hub.get_dir()})")
    try:
        state: Mapping[str, Tensor] = source.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights 'imagenet' of {name} could not be fetched from {source.url} ({error}); give a file instead"
        ) from error
    return state


def _select(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The tensors that the truncated network needs, in single precision; others (the classifier's) are left."""
    wanted = network.state_dict()
    # A counter that only training needs, and that old files do not have.
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in state and key not in counters]
    if missing:
        raise InputError(f"{origin}: {len(missing)} of the network's tensors are missing: {_first(missing)}")
    misshaped = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if misshaped:
        raise InputError(f"{origin}: {len(misshaped)} tensors have other shapes: {_first(misshaped)}")
    layers = {path for path, module in network.named_modules() if not list(module.children())}
    foreign = [key for key in state if key not in wanted and key.rpartition(".")[0] in layers]
    if foreign:
        raise InputError(f"{origin}: {len(foreign)} tensors are not the network's: {_first(foreign)}")
    chosen = {}
    for key, like in wanted.items():
        tensor = torch.zeros((), dtype=torch.int64) if key not in state else state[key].detach().cpu()
        chosen[key] = tensor.to(like.dtype).contiguous()
    return chosen


def _first(items: list[str]) -> str:
    return ", ".join(items[:4]) + (", ..." if len(items) > 4 else "")


def _fold_batch_norms(network: fx.GraphModule) -> fx.GraphModule:
    """Multiply each batch norm that follows a convolution, and nothing else does, into its weights."""
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
