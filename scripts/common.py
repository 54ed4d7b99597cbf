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


def compile_kernels(quiet: bool) -> None:
    """Load the compiled loops, or compile them, which the first run on a machine says and does once for all."""
    import numpy as np

    from ..data.nms import nms
    from ..data.progress import notice_if_slow
    from ..detector.spp_cpu import pool_windows
    from ..proposals.selective_search import selective_search

    with notice_if_slow("compiling the inner loops for this machine, once (about 20 s)", quiet):
        selective_search(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
        pool_windows(np.zeros((6, 6, 16), np.float32), np.array([[0, 0, 5, 5]]))
        nms(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), 0.5)
