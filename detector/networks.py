"""The networks that can be asked for, where their feature maps lie, and the part that computes one of them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ..data.errors import InputError
from ..data.progress import log
from .compact import NETWORKS as COMPACT
from .geometry import PROBE_SIZE, Grid, GridTracker
from .modelfile import tensors_below
from .zf5 import ZF5

_LARGEST_STRIDE = 16

#: Networks that are not torchvision's, with what makes them.
OURS = {"zf5": ZF5, **COMPACT}

Maps = dict[str, tuple[Grid, int] | None]


@dataclass(frozen=True, eq=False)
class Cut:
    """A network up to one of its feature maps, with the geometry of the map.

    Attributes
    ----------
    name, layer : str
        Of the network and of the node whose output is the map.
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
    network : fx.GraphModule
        The part that computes the map, without values (on the meta device), in eval mode; tensors have the names of
        the whole network.
    """

    name: str
    layer: str
    stride: int
    offset0: float
    extent: int
    channels: int
    feeds_classifier: bool
    input_size: int
    network: fx.GraphModule


def cut(name: str, layer: str | None = None) -> Cut:
    """A network up to ``layer``; the default is described at :class:`sppnet.detector.backbone.Backbone`.

    Raises
    ------
    InputError
        For an unknown network or layer, or a layer that is no regular map.
    """
    whole, maps = _analyse(name)
    default = _default_layer(whole, maps)
    if layer is None and default is None:
        raise InputError(f"{name} has no feature map of stride up to {_LARGEST_STRIDE}; name one with layer")
    chosen = str(default) if layer is None else _find_layer(name, layer, maps)
    grid, channels = maps[chosen] or (None, 0)
    if grid is None or grid.axis != 2 or grid.stride[0] != grid.stride[1] or grid.centre[0] != grid.centre[1]:
        raise InputError(f"layer '{chosen}' of {name} is no map of cells at one regular stride; choose another")
    return Cut(
        name=name,
        layer=chosen,
        stride=int(grid.stride[0]),
        offset0=grid.centre[0] + 1,
        extent=int(max(grid.extent)),
        channels=channels,
        feeds_classifier=chosen == default,
        input_size=_input_size(name),
        network=_truncate(whole, chosen),
    )


def to_learn(part: Cut, weights: str | Path | Mapping[str, Tensor] = "none", seed: int = 0) -> fx.GraphModule:
    """The network of a cut with weights of its own, which training may change; channels last in memory.

    Parameters
    ----------
    part : Cut
        Its network is used, and has values afterwards.
    weights, seed
        As in :class:`sppnet.detector.backbone.Backbone`.

    Raises
    ------
    InputError
        For weights that cannot be had or do not fit.
    """
    origin, state = read_weights(part.name, weights, seed)
    own = {name: value.clone() for name, value in select_state(part.network, state, origin).items()}
    part.network.load_state_dict(own, assign=True)
    return part.network.requires_grad_(True).to(memory_format=torch.channels_last)


def names() -> list[str]:
    """The networks that can be asked for: torchvision's classifiers (transformers are refused later) and ours."""
    return [*torchvision.models.list_models(module=torchvision.models), *OURS]


def _input_size(name: str) -> int:
    """From torchvision's transforms, which go with its weights; ours take the 224 pixels of the paper."""
    if name in OURS:
        return 224
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return int(transforms.crop_size[0])


def _build(name: str) -> nn.Module:
    """The whole network with random weights, in eval mode."""
    if name in OURS:
        return OURS[name]().eval()
    if name not in names():
        near = get_close_matches(name, names(), n=4)
        known = (
            f"near names are {', '.join(near)}"
            if near
            else f"known are the classification networks of torchvision, {', '.join(OURS)}"
        )
        raise InputError(f"backbone '{name}' is not known; {known}")
    # These two were converted from TensorFlow and bring their own normalisation on top of torchvision's.
    options = {"transform_input": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


def build_without_values(name: str) -> nn.Module:
    """The whole network on the meta device: shapes alone, at once and without memory."""
    if name.startswith("regnet"):
        # Its constructor computes with tensors, which have no values on the meta device; torchvision has no other such.
        with torch.random.fork_rng(devices=[]):
            return _build(name).to("meta")
    with torch.device("meta"):
        return _build(name)


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
    # In a model of ours the network's tensors stand beside those of other parts.
    own = tensors_below(state, "backbone.") if path.suffix == ".safetensors" else {}
    return str(path), own or state


def _download(name: str) -> Mapping[str, Tensor]:
    if name in OURS:
        raise InputError(f"there are no 'imagenet' weights of {name}; give a file, or 'none'")
    source = torchvision.models.get_model_weights(name).DEFAULT
    log(f"fetching {source} from {source.url} (kept in {torch.hub.get_dir()})")
    try:
        state: Mapping[str, Tensor] = source.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights 'imagenet' of {name} could not be fetched from {source.url} ({error}); give a file instead"
        ) from error
    return state


def select_state(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
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
