"""What the commands share once their arguments are read."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.embedded import DEFAULT_MODEL
from ..data.errors import InputError

#: What commands call the arguments that name files, folders or patterns that they read.
_READ = (
    *("images", "inputs", "folders", "dataset", "test", "test_dataset", "test_images", "val", "val_images", "accuracy"),
    *("model", "models", "weights"),
)


def model_names(args: argparse.Namespace) -> list[str]:
    """The names and files of ``--model``, as they were given, or the default's name."""
    # Not argparse's default: to a list that is one, what is given would be added.
    return args.model or [DEFAULT_MODEL]


def model_name(args: argparse.Namespace) -> str:
    """What results call the models of ``--model``."""
    return " + ".join(model_names(args))


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


def protect_inputs(args: argparse.Namespace, outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Refuse to write over what the arguments name, or over ``inputs``; called before anything is computed.

    Raises
    ------
    InputError
        When an output is the same file as an input; the message names both.
    """
    from ..data.outputs import files_named, refuse_inputs

    given = [getattr(args, name, None) for name in _READ]
    listed = [one for value in given for one in (value if isinstance(value, list | tuple) else [value])]
    named = (path for one in listed if isinstance(one, str | Path) for path in files_named(one))
    refuse_inputs(outputs, (path for part in (inputs, named) for path in part))


@contextmanager
def loading() -> Iterator[None]:
    """Keep Python's garbage collector from searching what is made in here: modules, models, compiled loops.

    While torch is imported it looks for cycles again and again among hundreds of thousands of objects, and once more at
    the program's end, which takes a third of the time of the import. All of them stay in use.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def compile_kernels(quiet: bool) -> None:
    """Load the compiled loops, or compile them, which is said: once on a machine, or each time where none are kept."""
    import numpy as np
    import torch

    from ..data.compiled import is_kept
    from ..data.nms import nms
    from ..data.progress import notice_if_slow
    from ..detector.pooling.spp import spp_pool
    from ..proposals.heap import push
    from ..proposals.selective_search import selective_search

    when = "once" if is_kept(push) else "at each start, as no folder to keep them in can be written"
    with notice_if_slow(f"compiling the inner loops for this machine, {when} (about 20 s)", quiet):
        selective_search(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
        for dtype in (torch.float32, torch.float16):
            spp_pool(torch.zeros(16, 6, 6, dtype=dtype), [[0, 0, 5, 5]])
        nms(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), 0.5)
