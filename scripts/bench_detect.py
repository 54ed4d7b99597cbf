"""``sppnet benchmark detect``: a whole detection, stage by stage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .common import resolve_device

HELP = "Time whole detections, from the file to the drawn boxes, stage by stage, with medians and quartiles."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet benchmark detect``."""
    parser.add_argument("--model", required=True, type=Path, metavar="M", help="a model file of 'sppnet train'")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="photographs to detect in")
    parser.add_argument("--count", type=int, default=30, metavar="N", help="photographs timed (default: 30)")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times of each stage and of the whole, seconds, over the first photographs of the folder."""
    import tempfile
    import time

    import numpy as np

    from ..data.draw import draw_detections
    from ..data.errors import InputError
    from ..data.folder import find_images
    from ..data.image import read_image, write_image
    from ..detector.predictor import SPPDetector
    from ..eval.timing import StageTimer, Times

    if args.count < 1:
        raise InputError(f"--count must be at least 1, not {args.count}")
    device = resolve_device(args)
    detector = SPPDetector.load(args.model, device)
    paths = find_images([str(args.images)])
    timer = StageTimer(device)
    whole: list[float] = []
    windows: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        # The first three photographs are the warm-up: compilation, caches, memory.
        for number, path in enumerate(paths[:3] + paths[: args.count]):
            if number == len(paths[:3]):
                timer.reset()
                whole.clear()
                windows.clear()
            start = time.perf_counter()
            with timer.stage("decoding"):
                image = read_image(path)
            with timer.stage("proposals"):
                boxes = detector.propose(image)
            with timer.stage("convolutions"):
                maps = detector.features.maps(image)
            with timer.stage("pooling, SVMs, NMS, boxes"):
                found = detector.detect_on(maps, boxes)
            with timer.stage("drawing"):
                write_image(Path(folder) / "drawn.jpg", draw_detections(image, found))
            whole.append(time.perf_counter() - start)
            windows.append(len(boxes))
    return {
        "model": str(args.model),
        "images": len(whole),
        "windows": float(np.median(windows)),
        "stages": {name: times.to_dict() for name, times in timer.times().items()},
        "whole": Times(tuple(whole)).to_dict(),
    }


def table(result: dict[str, Any]) -> str:
    """The stages as text."""
    from ..eval.report import text_table

    rows = [
        [
            name,
            f"{1e3 * times['median']:.1f}",
            f"{1e3 * times['quartiles'][0]:.1f} to {1e3 * times['quartiles'][1]:.1f}",
        ]
        for name, times in [*result["stages"].items(), ("whole", result["whole"])]
    ]
    title = f"Detection in {result['images']} photographs, {result['windows']:.0f} windows (median), milliseconds"
    return f"{title}\n{text_table(['stage', 'median', 'quartiles'], rows)}"
