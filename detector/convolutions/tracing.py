"""Networks as graphs of operations, with the node names of torchvision's feature extraction."""

from __future__ import annotations

import re
from collections import Counter

from torch import fx, nn


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a network in its current mode; modules of torch.nn and torchvision.ops stay single nodes."""
    graph = _Tracer().trace(model)
    for node in graph.nodes:
        # Annotations, here as texts, are of no use, and torch 2.6 cannot pickle graphs that have some.
        node.type = None
    return fx.GraphModule(model, graph).train(model.training)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        of_torchvision = any(kind.__module__.startswith("torchvision.ops") for kind in type(m).__mro__)
        return of_torchvision or super().is_leaf_module(m, module_qualified_name)


def named_nodes(graph: fx.Graph) -> dict[str, fx.Node]:
    """The nodes except the output, in the order of computation, by the names used in model files and by users.

    The node of a module has the module's path as its name; other nodes have the path of their module and the
    operation. Repeated names get a number: ``layer3.1.relu_1``. These are the names of
    :func:`torchvision.models.feature_extraction.get_graph_node_names`.
    """
    nodes: dict[str, fx.Node] = {}
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "output":
            continue
        name = str(node.target) if node.op == "call_module" else ".".join([*_path(node), node.name])
        # fx counts equal operations in the whole network; here they are counted within their module.
        name = re.sub(r"(?<=.)_[0-9]+$", "", name)
        nodes[f"{name}_{uses[name]}" if uses[name] else name] = node
        uses[name] += 1
    return nodes


def _path(node: fx.Node) -> list[str]:
    """The path of the operation's module; empty in the network's own ``forward``."""
    modules = node.meta.get("nn_module_stack")
    return [list(modules.values())[-1][0]] if modules else []
