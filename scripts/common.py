"""What the commands share once their arguments are read."""

from __future__ import annotations

import argparse

from ..data.errors import InputError


def resolve_device(args: argparse.Namespace) -> str:
    """The torch device, ``"cpu"`` or ``"cuda"``, that ``--device`` asks for.

    Raises
    ------
    InputError
        When ``--device cuda`` is given and torch sees no CUDA device.
    """
    if args.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if args.device == "cuda":
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cpu"
