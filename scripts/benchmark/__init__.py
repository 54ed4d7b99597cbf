"""``sppnet benchmark``: timings and comparisons, both sides in one run, with a description of the machine.

A benchmark is a module ``<name>`` of this package with ``HELP``,
``add_arguments(parser)``, ``measure(args)``, which returns a JSON-like dict, and
``table(result)``, which formats it as text. "failed" in the dict lists unreadable
files, if any.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from ..arguments import add_json_argument
from ..common import protect_inputs
from ..parser import CommandParser

HELP = "Time this package against the alternatives on this machine, and print a table."

BENCHMARKS = {
    "proposals": "our selective search against OpenCV's: time, recall, MABO",
    "pooling": "SPP pooling of windows against torchvision's roi_pool",
    "head": "the fc layers of many windows, whole and compressed",
    "rcnn": "one pass of the convolutions against R-CNN's warping of every window, stage by stage",
    "views": "many views of a photograph from its feature maps against cropping each",
    "detect": "whole detections: stages, photographs a second, memory, growth with windows and size",
    "table": "the paper's table of results on any labelled data, its figures beside ours",
    "few": "training on a few photographs against fine-tuning Faster R-CNN for the same minutes",
}


def add_arguments(parser: CommandParser) -> None:
    """Add the sub-commands; :func:`run` finds the chosen name in ``args.benchmark``."""
    parser.add_commands(BENCHMARKS, dest="benchmark", module_prefix="benchmark.", shared=_add_shared_arguments)


def _add_shared_arguments(parser: CommandParser) -> None:
    add_json_argument(parser, "JSON file for the figures and the machine that they belong to")


def run(args: argparse.Namespace) -> int:
    """Measure, write the JSON file if requested, print the table; return 1 if some inputs could not be read."""
    from ...data.store import write_json
    from ...eval.machine import describe_machine
    from .growth import chart_files

    module = import_module(f".{args.benchmark}", __package__)
    plot = getattr(args, "plot", None)
    charts = [] if plot is None else [plot, *chart_files(plot).values()]
    protect_inputs(args, [*([] if args.json is None else [args.json]), *charts])
    result = module.measure(args)
    if args.json is not None:
        report = {"benchmark": args.benchmark, "command": args.command_line, "machine": describe_machine()}
        write_json(args.json, {**report, "result": result})
    print(module.table(result))
    return 1 if result.get("failed") else 0
