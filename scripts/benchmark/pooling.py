"""``sppnet benchmark pooling``: time SPP pooling of windows against torchvision's roi_pool."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...detector.options import DetectOptions, FeatureOptions
from ..arguments import add_count
from ..common import resolve_device
from ..parser import CommandParser

if TYPE_CHECKING:
    import torch

HELP = """\
Time max pooling of windows of one feature map into a pyramid of 1, 2, 3 and 6 bins a side, against four calls of
torchvision.ops.roi_pool, and compare the results bit by bit. Each map is pooled into a fresh result and into rows that
are used again (spp_pool's out), which spares the system handing out 100 MB of fresh memory. On a GPU also the kernel
alone, whose windows are there already, and how long it takes at least to read the map and write the result.
"""

LEVELS = FeatureOptions.levels
CHANNELS, HEIGHT, WIDTH = 256, 50, 60


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark pooling``."""
    add_count(parser.groups["windows"], "--windows", DetectOptions.max_windows, "windows to pool")
    add_count(parser.groups["measurement"], "--repeats", 10, "timed rounds")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds, ratios round by round, and whether the bits agree."""
    import numpy as np
    import torch
    from torchvision.ops import roi_pool

    from ...detector.pooling.levels import bins
    from ...detector.pooling.spp import spp_pool
    from ...eval.timing import interleave, ratios, synchroniser

    device = resolve_device(args)
    rng = np.random.default_rng(0)
    windows = random_windows(rng, args.windows)
    rois = torch.cat([torch.zeros(len(windows), 1), torch.from_numpy(windows).float()], dim=1).to(device)
    features = torch.from_numpy(rng.standard_normal((CHANNELS, HEIGHT, WIDTH), np.float32)).relu().to(device)
    last = features.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    half = last.half()
    rows = torch.zeros(len(windows), bins(LEVELS) * CHANNELS, device=device)
    half_rows = rows.half()

    def theirs() -> list[torch.Tensor]:
        return [roi_pool(features[None], rois, (n, n), 1.0) for n in LEVELS]

    ours: dict[str, Callable[[], Any]] = {
        "spp_pool": lambda: spp_pool(features, windows, LEVELS),
        "spp_pool, rows reused": lambda: spp_pool(features, windows, LEVELS, rows),
        "spp_pool, channel-last map": lambda: spp_pool(last, windows, LEVELS),
        "spp_pool, channel-last map, rows reused": lambda: spp_pool(last, windows, LEVELS, rows),
        "spp_pool, channel-last half map": lambda: spp_pool(half, windows, LEVELS),
        "spp_pool, channel-last half map, rows reused": lambda: spp_pool(half, windows, LEVELS, half_rows),
    }
    alone = {} if device == "cpu" else _kernels_alone(last, windows, rows)
    synchronise = synchroniser(device)
    times = interleave({"roi_pool, four calls": theirs, **ours, **alone}, args.repeats, 2, synchronise)
    pooled = torch.cat([block.permute(0, 2, 3, 1).flatten(1) for block in theirs()], dim=1)
    slow = times["roi_pool, four calls"]
    result = {
        "windows": len(windows),
        "map": [CHANNELS, HEIGHT, WIDTH],
        "levels": list(LEVELS),
        "device": device,
        "threads": torch.get_num_threads(),
        "times": {name: taken.to_dict() for name, taken in times.items()},
        "ratios": {name: ratios(slow, times[name]).median for name in (*ours, *alone)},
        "bit_equal": all(
            torch.equal(pooled.view(torch.int32), ours[name]().view(torch.int32)) for name in ours if "half" not in name
        ),
    }
    if alone:
        result["memory"] = _memory_bounds(last, rows, args.repeats, synchronise)
    return result


def _kernels_alone(last: torch.Tensor, windows: Any, rows: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The GPU's kernel for each precision, without what is done once for a map, for windows that are on the device."""
    import torch

    from ...detector.pooling.gpu import KeyMaps

    cells = torch.from_numpy(windows).to(last.device)

    def job(dtype: torch.dtype) -> Callable[[], Any]:
        maps, out = KeyMaps([last.to(dtype)]), rows.to(dtype)
        return lambda: maps.pool_into(out, cells, LEVELS)

    return {f"kernel alone, {str(dtype)[6:]}": job(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)}


def _memory_bounds(
    last: torch.Tensor, rows: torch.Tensor, repeats: int, synchronise: Callable[[], None]
) -> dict[str, Any]:
    """The memory's speed, bytes a second, by copying a large tensor; what the map and the result take at that speed."""
    import torch

    from ...eval.timing import interleave

    source = torch.zeros(250_000_000, device=rows.device)
    target = torch.empty_like(source)
    copied = interleave({"copy": lambda: target.copy_(source)}, repeats, 2, synchronise)["copy"].median
    speed = 2 * source.nbytes / copied
    return {
        "bytes_a_second": speed,
        "seconds": {"float32": (last.nbytes + rows.nbytes) / speed, "half": (last.nbytes + rows.nbytes) / 2 / speed},
    }


def random_windows(rng: Any, count: int) -> Any:
    """Random windows like proposals, int32 (N, 4): sides from two cells to the whole map, small ones more often."""
    import numpy as np

    extent = np.array([WIDTH, HEIGHT])
    size = np.exp(rng.uniform(np.log(2), np.log(extent + 1), (count, 2))).astype(np.int32)
    first = (rng.random((count, 2)) * (extent - size + 1)).astype(np.int32)
    return np.concatenate([first, first + size - 1], axis=1)


def table(result: dict[str, Any]) -> str:
    """Times and ratios as text."""
    from ...eval.report import text_table

    digits = 1 if result["device"] == "cpu" else 3
    rows = [
        [
            name,
            f"{1e3 * times['median']:.{digits}f}",
            f"{1e3 * times['quartiles'][0]:.{digits}f} to {1e3 * times['quartiles'][1]:.{digits}f}",
            f"{result['ratios'].get(name, 1.0):.1f}",
        ]
        for name, times in result["times"].items()
    ]
    size = " x ".join(map(str, result["map"]))
    levels = ", ".join(map(str, result["levels"]))
    equal = "equal bit by bit" if result["bit_equal"] else "NOT equal"
    where = f"{result['threads']} threads" if result["device"] == "cpu" else result["device"]
    lines = [
        f"Pooling {result['windows']} windows of a {size} map, levels {levels}, {where}, milliseconds",
        text_table(["", "median", "quartiles", "times faster"], rows),
        f"spp_pool and roi_pool in single precision: {equal}",
    ]
    if "memory" in result:
        speed, least = result["memory"]["bytes_a_second"], result["memory"]["seconds"]
        lines.append(
            f"the memory copies {speed / 1e9:.0f} GB/s: to read the map and write the rows takes "
            f"{1e3 * least['float32']:.3f} ms at least, {1e3 * least['half']:.3f} in half precision"
        )
    return "\n".join(lines)
