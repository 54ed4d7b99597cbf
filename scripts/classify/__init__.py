"""``sppnet classify``: the SPP classification network, and linear SVMs on features of whole photographs.

Each sub-command is a module ``<name>`` of this package with ``HELP``, ``add_arguments(parser)`` and ``run(args)``.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from ..parser import CommandParser

HELP = "Label whole photographs with networks that take images of any size by spatial pyramid pooling."

JOBS = {
    "train": "train a classification network on labelled photographs",
    "evaluate": "measure a network's accuracy, in one view of each photograph or many",
    "predict": "label photographs",
    "svm": "linear SVMs on features of whole photographs, with the protocols of VOC07 and Caltech101",
}


def add_arguments(parser: CommandParser) -> None:
    """Add the sub-commands; :func:`run` finds the chosen name in ``args.job``."""
    parser.add_commands(JOBS, dest="job", module_prefix="classify.")


def run(args: argparse.Namespace) -> int:
    """Run the sub-command; return its exit status."""
    return int(import_module(f".{args.job}", __package__).run(args))
