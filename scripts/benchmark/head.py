"""``sppnet benchmark head``: time fc6 and fc7 on many windows, whole and compressed."""

from __future__ import annotations

import argparse
from typing import Any

from ...detector.options import Compression, DetectOptions
from ..arguments import add_count
from ..parser import CommandParser

HELP = """\
Time the fc layers on the windows of an image, with random weights: whole (float32) and compressed by bfloat16, by
truncated SVD, and by both.
"""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark head``."""
    network = parser.groups["network"]
    add_count(parser.groups["windows"], "--windows", DetectOptions.max_windows, "windows of an image")
    add_count(network, "--inputs", 12800, "numbers in a pooled window")
    add_count(network, "--width", 4096, "outputs of fc6 and fc7")
    add_count(network, "--rank", 1024, "rank of the SVD, in fc6 and in fc7")
    add_count(parser.groups["measurement"], "--repeats", 9, "timed rounds")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds, ratios round by round, and multiplications."""
    import numpy as np
    import torch

    from ...detector.head.compression import bfloat16_is_fast, compress, describe
    from ...detector.head.head import Head
    from ...eval.timing import interleave, ratios, synchroniser
    from ..common import resolve_device

    device = torch.device(resolve_device(args))
    rows = torch.from_numpy(np.random.default_rng(args.seed).random((args.windows, args.inputs), np.float32)).to(device)
    plain = Head(args.inputs, args.width, 20, seed=args.seed).eval()
    half, truncated = Compression(bfloat16=True), Compression(args.rank)
    # Decomposing layers of the default size takes minutes, so do it once for both precisions.
    factored = compress(plain, truncated)
    heads = {
        "float32": plain,
        str(half): compress(plain, half),
        str(truncated): factored,
        str(Compression(args.rank, bfloat16=True)): compress(factored, half),
    }
    costs = {name: describe(plain, head) for name, head in heads.items()}
    placed = {name: head.to(device) for name, head in heads.items()}
    jobs = {name: (lambda head=head: head.output(rows, "fc7")) for name, head in placed.items()}
    times = interleave(jobs, repeats=args.repeats, warmup=2, synchronise=synchroniser(device.type))
    return {
        "windows": args.windows,
        "layers": [args.inputs, args.width, args.width],
        "threads": torch.get_num_threads(),
        "bfloat16_in_hardware": bfloat16_is_fast(device),
        "times": {name: taken.to_dict() for name, taken in times.items()},
        "ratios": {name: ratios(times["float32"], taken).median for name, taken in times.items()},
        "costs": costs,
    }


def table(result: dict[str, Any]) -> str:
    """Times and ratios as text."""
    from ...eval.report import text_table

    rows = [
        [
            name,
            f"{1e3 * times['median']:.1f}",
            f"{1e3 * times['quartiles'][0]:.1f} to {1e3 * times['quartiles'][1]:.1f}",
            f"{result['ratios'][name]:.1f}",
            f"{result['costs'][name]['multiplications'] / 1e6:.1f}",
            f"{result['costs'][name]['bytes'] / 1e6:.1f}",
        ]
        for name, times in result["times"].items()
    ]
    layers = "-".join(map(str, result["layers"]))
    hardware = "has" if result["bfloat16_in_hardware"] else "has no"
    return (
        f"fc layers {layers} of {result['windows']} windows, {result['threads']} threads, milliseconds\n"
        f"{text_table(['', 'median', 'quartiles', 'times faster', 'M products a window', 'MB'], rows)}\n"
        f"the device {hardware} hardware for bfloat16 products; random weights: 'sppnet train --compress' prints "
        "the accuracy cost"
    )
