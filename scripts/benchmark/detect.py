"""``sppnet benchmark detect``: time whole detections by stage, over a folder, and by number of windows and size."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.embedded import DEFAULT_MODEL
from ..arguments import add_count, add_precision_argument, detector_help
from ..common import report_slow_precision, resolve_device
from ..parser import CommandParser

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...data.addresses import Photograph
    from ...data.detections import Detections
    from ...detector.detection.detector import Detector

HELP = """Time whole detections, from the photograph's file to the file with drawn boxes: medians and quartiles of each
stage; photographs a second, one after the other and several at a time as in 'sppnet detect'; latency; peak memory.

Then, with the first photograph: how the time grows with the number of windows (100 to 10,000: proposals, then random
windows; without the time to propose them) and with the size of the image (0.1 to 12 megapixels: resized; without
decoding)."""

WARM_UP = 3


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark detect``."""
    measurement = parser.groups["measurement"]
    parser.groups["network"].add_argument("--model", default=DEFAULT_MODEL, metavar="M", help=detector_help())
    add_precision_argument(parser)
    parser.groups["data"].add_argument(
        "--images", required=True, type=Path, metavar="DIR", help="folder of photographs to detect in"
    )
    add_count(measurement, "--count", 30, "photographs timed")
    add_count(measurement, "--repeats", 3, "timed rounds of each point of the growth")
    measurement.add_argument("--no-growth", action="store_true", help="do not measure how the time grows")
    parser.groups["output"].add_argument(
        "--plot",
        type=Path,
        metavar="NAME.svg",
        help="draw how the time grows, in NAME-windows.svg and NAME-size.svg (or .png), both axes logarithmic",
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds by stage, in total and over the folder, memory in bytes, and the growth curves."""
    from ...data.folder import find_images
    from ...detector.detection.bundle import Bundle
    from ...detector.detection.detector import detector_of
    from .growth import write_growth_charts

    check(args)
    report_slow_precision(args)
    device = resolve_device(args)
    detector = detector_of(Bundle.load(args.model), device, args.precision)
    paths = find_images([args.images])
    result = {
        "model": args.model,
        "precision": args.precision,
        **measure_stages(detector, paths, args.count, device),
        "together_per_second": rate_of_many(detector, paths[: args.count]),
        # Before the growth curves, whose largest images need more memory than usual detection.
        "peak_memory": peak_memory(device),
    }
    if not args.no_growth:
        result["growth"] = measure_growth(detector, paths[0], args, device)
        if args.plot is not None:
            write_growth_charts(args.plot, result["growth"])
    return result


def check(args: argparse.Namespace) -> None:
    """Check the options before measuring.

    Raises
    ------
    InputError
        When options do not make sense; the message names them.
    """
    from ...data.errors import InputError
    from ...eval.figures import check_figure_path

    if args.plot is not None and args.no_growth:
        raise InputError("--plot draws the growth, which --no-growth leaves out; give one of them")
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")


def measure_stages(detector: Detector, paths: list[Path], count: int, device: str) -> dict[str, Any]:
    """Times by stage and in total over the first ``count`` photographs, one after the other."""
    import tempfile
    from statistics import fmean, median
    from time import perf_counter

    from ...data.image import read_image
    from ...eval.timing import StageTimer, Times
    from .growth import WHOLE, detect_in_stages

    timer = StageTimer(device)
    whole: list[float] = []
    windows: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        # The first photographs are the warm-up: compilation, caches, memory.
        warm_up = paths[: min(WARM_UP, count)]
        for number, path in enumerate(warm_up + paths[:count]):
            if number == len(warm_up):
                timer.reset()
                whole.clear()
                windows.clear()
            start = perf_counter()
            with timer.stage("decoding"):
                image = read_image(path)
            with timer.stage("proposals"):
                boxes = detector.propose(image)
            found = detect_in_stages(detector, image, boxes, timer)
            with timer.stage("drawing"):
                draw(Path(folder) / f"{path.stem}.jpg", image, found)
            whole.append(perf_counter() - start)
            windows.append(len(boxes))
    return {
        "images": len(whole),
        "windows": float(median(windows)),
        "stages": {name: times.to_dict() for name, times in timer.times().items()},
        WHOLE: Times(tuple(whole)).to_dict() | {"percentile_95": Times(tuple(whole)).percentile(95)},
        "per_second": 1 / fmean(whole),
    }


def rate_of_many(detector: Detector, paths: list[Path]) -> float:
    """Photographs per second with several in work at a time."""
    import tempfile
    from time import perf_counter

    from ...detector.detection.stream import detect_files

    with tempfile.TemporaryDirectory() as folder:

        def finish(path: Photograph, image: NDArray[np.uint8], found: Detections) -> None:
            draw(Path(folder) / f"{path.stem}.jpg", image, found)

        start = perf_counter()
        done = sum(1 for _ in detect_files(detector, paths, finish=finish))
        return done / (perf_counter() - start)


def draw(path: Path, image: NDArray[np.uint8], found: Detections) -> None:
    """Write a photograph with its boxes, as ``sppnet detect`` does."""
    from ...data.image import write_image

    write_image(path, found.draw(image))


def peak_memory(device: str) -> dict[str, int | None]:
    """Peak memory of this process so far, and of torch's tensors on the GPU, bytes."""
    import sys

    process = gpu = None
    if sys.platform != "win32":  # Windows has no such module
        import resource

        # Kilobytes, but bytes on macOS.
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if device == "cuda":
        import torch

        gpu = torch.cuda.max_memory_allocated()
    return {"process": process, "gpu": gpu}


def measure_growth(detector: Detector, path: Path, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Growth curves for one photograph."""
    import numpy as np

    from ...data.image import read_image
    from ...data.progress import log
    from .growth import against_size, against_windows

    log("measuring how the time grows", args.quiet)
    image = read_image(path)
    return {
        "photograph": str(path),
        "repeats": args.repeats,
        "windows": against_windows(detector, image, np.random.default_rng(args.seed), args.repeats, device),
        "size": against_size(detector, image, args.repeats, device),
    }


def table(result: dict[str, Any]) -> str:
    """Result as text."""
    from .growth import growth_table

    parts = [_stages(result), _folder(result)]
    if "growth" in result:
        growth = result["growth"]
        by = f"milliseconds (median of {growth['repeats']})"
        parts.append(f"Growth with the number of windows, proposing left out, {by}\n{growth_table(growth['windows'])}")
        parts.append(f"Growth with the size of the image, decoding left out, {by}\n{growth_table(growth['size'])}")
    return "\n\n".join(parts)


def _stages(result: dict[str, Any]) -> str:
    from ...eval.report import text_table

    rows = [
        [
            name,
            f"{1e3 * times['median']:.1f}",
            f"{1e3 * times['quartiles'][0]:.1f} to {1e3 * times['quartiles'][1]:.1f}",
        ]
        for name, times in [*result["stages"].items(), ("whole", result["whole"])]
    ]
    half = ", convolutions in bfloat16" if result["precision"] == "bfloat16" else ""
    title = f"Detection in {result['images']} photographs, {result['windows']:.0f} windows (median){half}, milliseconds"
    return f"{title}\n{text_table(['stage', 'median', 'quartiles'], rows)}"


def _folder(result: dict[str, Any]) -> str:
    from ...eval.report import text_table

    whole, memory = result["whole"], result["peak_memory"]
    rows = [
        ["photographs a second, one after the other", f"{result['per_second']:.2f}"],
        ["photographs a second, several at a time", f"{result['together_per_second']:.2f}"],
        ["latency, median, ms", f"{1e3 * whole['median']:.1f}"],
        ["latency, 95th percentile, ms", f"{1e3 * whole['percentile_95']:.1f}"],
        *(
            [f"peak memory, {name}, MB", f"{used / 1e6:.0f}"]
            for name, used in (("process", memory["process"]), ("GPU tensors", memory["gpu"]))
            if used is not None
        ),
    ]
    return text_table(["from the file to the drawn file", ""], rows)
