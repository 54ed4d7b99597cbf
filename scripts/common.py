"""Helpers of several commands, for use after parsing the arguments."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.addresses import Photograph
from ..data.embedded import DEFAULT_MODEL
from ..data.errors import InputError

#: Exit status of a command that was interrupted.
INTERRUPTED = 130

#: What the first bytes of our pages hold (``eval/pages/base.html``).
PAGE_MARK = b'name="generator" content="sppnet'

#: Names of arguments with input files, folders or patterns.
_READ = (
    *("images", "inputs", "folders", "dataset", "test", "test_dataset", "test_images", "val", "val_images", "accuracy"),
    *("model", "models", "weights", "opponent_weights"),
)


def model_names(args: argparse.Namespace) -> list[str]:
    """Names and files of ``--model`` as given, or the default's name."""
    # Not argparse's default: "append" would add the given models to a default list.
    return args.model or [DEFAULT_MODEL]


def model_name(args: argparse.Namespace) -> str:
    """Name of the models of ``--model`` in results."""
    return " + ".join(model_names(args))


def resolve_device(args: argparse.Namespace) -> str:
    """Torch device for ``--device``: ``"cpu"``, ``"cuda"``, which is then the one that was chosen, or another one.

    Raises
    ------
    InputError
        When torch does not find the device.
    """
    if args.device == "cpu":
        return "cpu"
    import torch

    kind, _, number = args.device.partition(":")
    if kind in ("mps", "xpu"):
        from ..data.progress import warn
        from ..detector.device import usable_device

        usable_device(kind)
        warn(f"warning: --device {kind}: nothing of this package has been tried on such a device")
        return str(kind)
    if torch.cuda.is_available():
        if number:
            count = torch.cuda.device_count()
            if int(number) >= count:
                raise InputError(f"--device {args.device}: torch finds {count} here, from cuda:0 on")
            torch.cuda.set_device(int(number))
        return "cuda"
    if kind == "cuda":
        raise InputError(f"--device {args.device}: torch finds no CUDA device here; use --device cpu or auto")
    return "cpu"


def report_slow_precision(args: argparse.Namespace) -> None:
    """Say so when ``--precision`` makes nothing faster on this device."""
    if args.precision == "float32":
        return
    import torch

    from ..data.progress import log
    from ..detector.head.compression import bfloat16_is_fast

    device = torch.device(resolve_device(args))
    if args.precision == "tf32" and device.type != "cuda":
        log("--precision tf32: only CUDA devices have it; the convolutions compute in float32", args.quiet)
    elif args.precision == "bfloat16" and not bfloat16_is_fast(device):
        log("--precision bfloat16: this device has no instructions for it, so float32 is faster here", args.quiet)


def work_folder(args: argparse.Namespace) -> Path:
    """Folder of ``--work``, or its default, beside the file of ``--out``."""
    return args.work or Path(f"{args.out}.work")


def protect_inputs(args: argparse.Namespace, outputs: Iterable[Path], inputs: Iterable[Photograph] = ()) -> None:
    """Refuse to overwrite input files of the arguments, or ``inputs``; call this before any computation.

    Outputs that cannot be written are refused as well, and so is such a folder ``--work``.

    Raises
    ------
    InputError
        When an output is the same file as an input, and the message names both; or when it cannot be written.
    """
    from ..data.outputs import check_writable, files_named, refuse_inputs

    outputs = list(outputs)
    named = (path for name in _READ for one in _flat(getattr(args, name, None)) for path in files_named(one))
    files = (path for path in inputs if isinstance(path, Path))
    refuse_inputs(outputs, (path for part in (files, named) for path in part))
    check_writable(outputs, [work_folder(args)] if "work" in args else [])


def refuse_other_page(path: Path) -> None:
    """Refuse to overwrite a file that is no page of ours: call this before any computation.

    Raises
    ------
    InputError
        When there is such a file; the message names it.
    """
    if path.exists() and not (path.is_file() and PAGE_MARK in path.read_bytes()[:1000]):
        raise InputError(f"{path}: already exists and is no page of this command; choose another --out")


def _flat(value: Any) -> Iterator[str | Path]:
    """The files of an argument, which may be a list, or a list of lists."""
    if isinstance(value, str | Path):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)


@contextmanager
def loading() -> Iterator[None]:
    """Keep Python's garbage collector from scanning the objects created inside: modules, models, compiled loops.

    During the import of torch it would scan hundreds of thousands of objects for cycles many times, and once more at
    exit. This takes a third of the import time, and all these objects stay in use.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Once: a caller that runs many commands in one process creates garbage later, which must not be frozen.
        if not gc.get_freeze_count():
            gc.freeze()
        if enabled:
            gc.enable()


def compile_kernels(quiet: bool) -> None:
    """Load the compiled loops, or compile them with a message: once per machine, or each time without a cache."""
    import numpy as np
    import torch

    from ..data.compiled import is_kept
    from ..data.nms import nms
    from ..data.progress import notice_if_slow
    from ..detector.pooling.spp import spp_pool
    from ..proposals.heap import push
    from ..proposals.selective_search import selective_search

    when = "once" if is_kept(push) else "at each start, because no cache folder is writable"
    with notice_if_slow(f"compiling the inner loops for this machine, {when} (about 20 s)", quiet):
        selective_search(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
        for dtype in (torch.float32, torch.float16):
            spp_pool(torch.zeros(16, 6, 6, dtype=dtype), [[0, 0, 5, 5]])
        nms(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), 0.5)
