"""``sppnet classify``: the SPP classification network, and linear SVMs on features of whole photographs.

A job is a module ``<name>`` of this package with ``HELP``, ``add_arguments(parser)`` and ``run(args)``.
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
    """One sub-command for each job; :func:`run` finds its name in ``args.job``."""
    parser.add_commands(JOBS, dest="job", module_prefix="classify.")


def run(args: argparse.Namespace) -> int:
    """Do the job; its exit status."""
    return int(import_module(f".{args.job}", __package__).run(args))
