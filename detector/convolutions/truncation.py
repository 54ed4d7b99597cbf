"""Analyse the feature maps of a network, and truncate the network to the part that computes some of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...data.errors import InputError
from ..options import STRIDE, check_stride
from .dilation import dilate, sliding
from .networks import build_without_values, input_size
from .receptive_field import PROBE_SIZE, Grid, GridTracker
from .tracing import named_nodes, trace
from .weights import read_weights, select_state

Maps = dict[str, tuple[Grid, int] | None]


@dataclass(frozen=True)
class MapGrid:
    """Geometry of a map.

    Attributes
    ----------
    stride : int
        Pixels from one cell to the next, in both directions.
    offset0 : float
        Receptive-field centre of the first cell in 1-based pixels, as in the paper.
    extent : int
        Side of a cell's receptive field in pixels.
    channels : int
    """

    stride: int
    offset0: float
    extent: int
    channels: int


@dataclass(frozen=True, eq=False)
class Cut:
    """A network up to some of its feature maps, with the geometry of the maps.

    Attributes
    ----------
    name, layer : str
        Names of the network and of the nodes whose outputs are the maps, with commas between them.
    maps : tuple of MapGrid
        One for each layer.
    feeds_classifier : bool
        Whether the only map is the default one, the input of the network's own classifier.
    input_size : int
        Side of the square images that the network was trained on, pixels.
    network : fx.GraphModule
        The part that computes the maps, without values (on the meta device), in eval mode; tensors keep their names in
        the whole network. Its result is a map, or a tuple if there are several.
    """

    name: str
    layer: str
    maps: tuple[MapGrid, ...]
    feeds_classifier: bool
    input_size: int
    network: fx.GraphModule

    @property
    def channels(self) -> int:
        """Channels of all maps."""
        return sum(grid.channels for grid in self.maps)

    @property
    def map(self) -> MapGrid:
        """The geometry of the only map.

        Raises
        ------
        InputError
            When there are several.
        """
        if len(self.maps) > 1:
            raise InputError(f"one layer of {self.name} is expected here, not {self.layer}")
        return self.maps[0]


def cut(name: str, layer: str | None = None, stride: int | None = STRIDE) -> Cut:
    """Truncate a network after ``layer``, and turn strides beyond ``stride`` into dilations.

    Parameters
    ----------
    name, layer, stride
        As in :class:`.backbone.Backbone`. The resulting stride, given as ``stride``, results in the same network.

    Raises
    ------
    InputError
        For an unknown network or layer, a layer that is not a regular map, or strides that cannot become dilations.
    """
    check_stride(stride)
    whole, maps = _analyse(name)
    default = _default_layer(whole, maps)
    if layer is None and default is None:
        raise InputError(f"{name} has no feature map before its classifier; name one with layer")
    chosen = [str(default)] if layer is None else [_find_layer(name, part.strip(), maps) for part in layer.split(",")]
    if len(set(chosen)) < len(chosen):
        raise InputError(f"the layers {','.join(chosen)} of {name} must be different ones")
    grids = [_regular(name, key, maps[key]) for key in chosen]
    network, largest = _truncate(whole, chosen), max(grid.stride for grid in grids)
    if stride is not None and largest > stride:
        kept = _limit_stride(name, network, stride)
        grids = [replace(grid, stride=min(grid.stride, kept)) for grid in grids]
    return Cut(name, ",".join(chosen), tuple(grids), chosen == [default], input_size(name), network)


def default_layers(name: str, stride: int | None = STRIDE, finer: Sequence[int] = (STRIDE,)) -> str:
    """The default layers of a detector, for :func:`cut`: the last map, and before it the last one of a fine stride.

    The last map has seen most and tells classes apart; the last one whose own stride is at most :data:`.options.STRIDE`
    (or ``stride``, if that is less) places boxes better. A network without larger strides has one default layer.

    Parameters
    ----------
    name, stride
        As in :class:`.backbone.Backbone`.
    finer : sequence of int
        Own strides of the maps before the last one, ascending: for each the last map that has it or a finer one.

    Raises
    ------
    InputError
        For an unknown network, or one without maps before its classifier.
    """
    last = cut(name, None, stride).layer
    whole, maps = _analyse(name)
    earlier = [_default_layer(whole, maps, one if stride is None else min(stride, one)) for one in finer]
    return ",".join(dict.fromkeys([*filter(None, earlier), last]))


def _analyse(name: str) -> tuple[fx.GraphModule, Maps]:
    """The whole network as a graph, without values, and the grid and channels of each node's map."""
    whole = _whole(name)
    followed = _follow(name, whole)
    return whole, {key: followed[node] for key, node in named_nodes(whole.graph).items()}


def _regular(name: str, layer: str, found: tuple[Grid, int] | None) -> MapGrid:
    """The geometry of a map, which must be the same in both directions."""
    grid, channels = found or (None, 0)
    if grid is None or grid.axis != 2 or grid.stride[0] != grid.stride[1] or grid.centre[0] != grid.centre[1]:
        raise InputError(f"layer '{layer}' of {name} is no map of cells at one regular stride; choose another")
    return MapGrid(int(grid.stride[0]), grid.centre[0] + 1, int(max(grid.extent)), channels)


def to_learn(part: Cut, weights: str | Path | Mapping[str, Tensor] = "none", seed: int = 0) -> fx.GraphModule:
    """Give the network of a cut its own weights for training; channels last in memory.

    Parameters
    ----------
    part : Cut
        Its network is changed in place and has values afterwards.
    weights, seed
        As in :class:`.backbone.Backbone`.

    Raises
    ------
    InputError
        For weights that are missing or do not fit.
    """
    origin, state = read_weights(part.name, weights, seed)
    own = {name: value.clone() for name, value in select_state(part.network, state, origin).items()}
    part.network.load_state_dict(own, assign=True)
    return part.network.requires_grad_(True).to(memory_format=torch.channels_last)


def _whole(name: str) -> fx.GraphModule:
    """The whole network as a graph, without values."""
    model = build_without_values(name)
    try:
        return trace(model)
    except (TypeError, fx.proxy.TraceError) as error:
        raise _unsuitable(name, error) from error


def _follow(name: str, network: fx.GraphModule) -> dict[fx.Node, tuple[Grid, int] | None]:
    """The grid and channels of each node's map."""
    image = torch.empty(1, 3, *PROBE_SIZE, device="meta")
    try:
        with torch.no_grad(), GridTracker() as tracker:
            tracker.watch(image)
            found = _Maps(network, tracker)
            found.run(image)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise _unsuitable(name, error) from error
    return found.maps


def _unsuitable(name: str, error: Exception) -> InputError:
    height, width = PROBE_SIZE
    return InputError(
        f"{name} cannot be a backbone: it does not take an image of {height} x {width} pixels "
        f"({str(error).splitlines()[0]})"
    )


def _limit_stride(name: str, network: fx.GraphModule, limit: int) -> int:
    """Turn the strides of a network beyond ``limit`` into dilations in place; returns the stride of its last map."""
    before = {node: found[0] for node, found in _follow(name, network).items() if found is not None}
    kept = dilate(network, before, limit)
    after = _follow(name, network)
    for node, grid in before.items():
        stride = (min(grid.stride[0], kept), min(grid.stride[1], kept))
        found = after[node]
        # A dilation moves no cell, and changes nothing in what a cell sees.
        if found is None or replace(found[0], cells=grid.cells) != replace(grid, stride=stride):
            largest = round(max(max(grid.stride) for grid in before.values()))
            raise InputError(
                f"{name} cannot have a map of stride {limit}: '{node.target}' cannot skip cells; "
                f"--stride {largest} leaves the network as it is"
            )
    return kept


class _Maps(fx.Interpreter):
    """Runs a graph and records the grid and channels of each node's map."""

    def __init__(self, whole: fx.GraphModule, tracker: GridTracker) -> None:
        super().__init__(whole)
        self.tracker = tracker
        self.maps: dict[fx.Node, tuple[Grid, int] | None] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        grid = self.tracker.grid(value)
        self.maps[node] = None if grid is None else (grid, value.shape[1])
        return value


def _default_layer(whole: fx.GraphModule, maps: Maps, stride: float = inf) -> str | None:
    """The last map of at most this stride before the network's own pooling that all later layers depend on, or None."""
    nodes = named_nodes(whole.graph)
    place = {node: index for index, node in enumerate(whole.graph.nodes)}
    end = _end_of_maps(whole, nodes, maps)
    chosen, open_until = None, 0
    for key, node in nodes.items():
        found = maps[key]
        if found is None or place[node] >= end:
            continue
        grid = found[0]
        # The graph can be cut here: no earlier map is used after this one.
        if (
            open_until <= place[node]
            and max(grid.stride) <= stride
            and min(grid.extent) > max(grid.stride)
            and grid.axis == 2
            and not isinstance(_module(whole, node), nn.Dropout)
        ):
            chosen = key
        reach = max((place[user] for user in node.users if user.op != "output"), default=0)
        open_until = max(open_until, reach)
    return chosen


def _end_of_maps(whole: fx.GraphModule, nodes: dict[str, fx.Node], maps: Maps) -> int:
    """The place in the graph of the pooling that prepares the last map for the classifier, or of the classifier."""
    place = {node: index for index, node in enumerate(whole.graph.nodes)}
    weights = [key for key, node in nodes.items() if _has_weights(whole, node)]
    # Outputs of the classifier are not feature maps, even if it consists of convolutions.
    own = weights if maps[list(nodes)[-1]] else weights[:-1]
    last = max((place[nodes[key]] for key in own if maps[key]), default=0)
    pools = [place[node] for node in nodes.values() if place[node] > last and sliding(whole, node) is not None]
    return min([*pools, len(place) if own is weights else place[nodes[weights[-1]]]])


def _module(whole: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return whole.get_submodule(str(node.target)) if node.op == "call_module" else None


def _has_weights(whole: fx.GraphModule, node: fx.Node) -> bool:
    module = _module(whole, node)
    return node.op == "get_attr" or (module is not None and any(True for _ in module.parameters()))


def _find_layer(name: str, layer: str, maps: Maps) -> str:
    """Find the node for the name of a node or a module."""
    inside = [node for node in maps if node == layer or node.startswith(layer + ".")]
    if inside:
        return inside[-1]
    parts = [node.split(".") for node in maps]
    known = sorted({".".join(path[:depth]) for path in parts for depth in range(1, len(path) + 1)})
    near = get_close_matches(layer, known, n=4, cutoff=0.3) or list(maps)[-4:]
    raise InputError(f"{name} has no layer '{layer}'; near names are {', '.join(near)}")


def _truncate(whole: fx.GraphModule, layers: Sequence[str]) -> fx.GraphModule:
    """The part of the graph that computes ``layers``, in terms of torch.nn's modules."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    nodes = named_nodes(whole.graph)
    for node in whole.graph.nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    outputs = tuple(copies[nodes[layer]] for layer in layers)
    graph.output(outputs if len(outputs) > 1 else outputs[0])
    part = fx.GraphModule(whole, graph, class_name="Features")
    part.graph.eliminate_dead_code()
    part.recompile()
    # A second trace opens torchvision's blocks, so that each batch norm directly follows its convolution.
    network = fx.symbolic_trace(part.eval())
    network.delete_all_unused_submodules()
    if len(outputs) > 1:
        _protect(network, next(iter(reversed(network.graph.nodes))).args[0])
    return network.eval()


def _protect(network: fx.GraphModule, maps: Any) -> None:
    """Let no later layer write into maps that are results."""
    for node in {user for found in maps for user in found.users}:
        if node.op == "call_module":
            vars(network.get_submodule(str(node.target))).update(inplace=False)
        elif node.op == "call_function" and node.target is operator.iadd:
            node.target = operator.add
        elif node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
    network.recompile()
