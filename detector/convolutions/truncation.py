"""Analyse the feature maps of a network, and truncate the network to the part that computes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
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


@dataclass(frozen=True, eq=False)
class Cut:
    """A network up to one of its feature maps, with the geometry of the map.

    Attributes
    ----------
    name, layer : str
        Names of the network and of the node whose output is the map.
    stride : int
        Pixels from one cell to the next, in both directions.
    offset0 : float
        Receptive-field centre of the first cell in 1-based pixels, as in the paper.
    extent : int
        Side of a cell's receptive field in pixels.
    channels : int
    feeds_classifier : bool
        Whether the map is the default one, the input of the network's own classifier.
    input_size : int
        Side of the square images that the network was trained on, pixels.
    network : fx.GraphModule
        The part that computes the map, without values (on the meta device), in eval mode; tensors keep their names in
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
    whole = _whole(name)
    followed = _follow(name, whole)
    maps = {key: followed[node] for key, node in named_nodes(whole.graph).items()}
    default = _default_layer(whole, maps)
    if layer is None and default is None:
        raise InputError(f"{name} has no feature map before its classifier; name one with layer")
    chosen = str(default) if layer is None else _find_layer(name, layer, maps)
    grid, channels = maps[chosen] or (None, 0)
    if grid is None or grid.axis != 2 or grid.stride[0] != grid.stride[1] or grid.centre[0] != grid.centre[1]:
        raise InputError(f"layer '{chosen}' of {name} is no map of cells at one regular stride; choose another")
    network, pixels = _truncate(whole, chosen), int(grid.stride[0])
    return Cut(
        name=name,
        layer=chosen,
        stride=pixels if stride is None or pixels <= stride else _limit_stride(name, network, stride),
        offset0=grid.centre[0] + 1,
        extent=int(max(grid.extent)),
        channels=channels,
        feeds_classifier=chosen == default,
        input_size=input_size(name),
        network=network,
    )


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


def _default_layer(whole: fx.GraphModule, maps: Maps) -> str | None:
    """The last map before the network's own pooling that all later layers depend on, or None."""
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


def _truncate(whole: fx.GraphModule, layer: str) -> fx.GraphModule:
    """The part of the graph that computes ``layer``, in terms of torch.nn's modules."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    wanted = named_nodes(whole.graph)[layer]
    for node in whole.graph.nodes:
        copies[node] = graph.node_copy(node, lambda source: copies[source])
        if node is wanted:
            break
    graph.output(copies[wanted])
    part = fx.GraphModule(whole, graph, class_name="Features")
    part.graph.eliminate_dead_code()
    part.recompile()
    # A second trace opens torchvision's blocks, so that each batch norm directly follows its convolution.
    network = fx.symbolic_trace(part.eval())
    network.delete_all_unused_submodules()
    return network.eval()
