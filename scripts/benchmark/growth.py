"""Growth of the detection time with the number of windows and the size of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ...data.detections import Detections
    from ...detector.detection.detector import Detector
    from ...eval.timing import StageTimer

WINDOWS = (100, 200, 500, 1000, 2000, 5000, 10_000)
MEGAPIXELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 12.0)

#: Stages by method: per image, and per window.
STAGES = {
    "spp": ("convolutions", "pooling, SVMs, NMS, boxes"),
    "warp": ("preparation", "warping, convolutions, SVMs, NMS, boxes"),
}

#: Last stage of every point: the sum of the others.
WHOLE = "whole"


def detect_in_stages(
    detector: Detector, image: NDArray[np.uint8], windows: NDArray[Any], timer: StageTimer
) -> Detections:
    """Detect objects among the windows of an image and time the two stages.

    Nothing of the image is reused in the next call, because a detector may cache windows it has seen.
    """
    for_image, for_windows = STAGES[detector.bundle.features.method]
    with timer.stage(for_image):
        maps = detector.features.maps(image)
    with timer.stage(for_windows):
        return detector.detect_on(maps, windows)


def against_windows(
    detector: Detector, image: NDArray[np.uint8], rng: np.random.Generator, repeats: int, device: str
) -> list[dict[str, Any]]:
    """Times with a photograph's best proposals as windows, filled up with random ones; without the proposal time.

    Returns
    -------
    list of dict
        One point for each of :data:`WINDOWS`: ``windows`` and, in ``stages``, times by stage.
    """
    windows = top_up(detector.propose(image), max(WINDOWS), image.shape[:2], rng)

    def detect(count: float, timer: StageTimer) -> None:
        detect_in_stages(detector, image, windows[: int(count)], timer)

    return _curve("windows", WINDOWS, detect, repeats, device)


def against_size(detector: Detector, image: NDArray[np.uint8], repeats: int, device: str) -> list[dict[str, Any]]:
    """Times with the photograph scaled up or down; without decoding, because enlarged photographs decode faster.

    Returns
    -------
    list of dict
        One point for each of :data:`MEGAPIXELS`: ``megapixels`` and, in ``stages``, times by stage.
    """
    images = {size: resized(image, size) for size in MEGAPIXELS}

    def detect(size: float, timer: StageTimer) -> None:
        with timer.stage("proposals"):
            windows = detector.propose(images[size])
        detect_in_stages(detector, images[size], windows, timer)

    return _curve("megapixels", MEGAPIXELS, detect, repeats, device)


def _curve(
    measure: str, points: Sequence[float], detect: Callable[[float, StageTimer], None], repeats: int, device: str
) -> list[dict[str, Any]]:
    """Times of ``detect`` at every point, alternately: a slow minute of the machine affects all of them."""
    from ...eval.timing import StageTimer, Times

    for point in points:
        detect(point, StageTimer(device))  # warm-up: memory, and plans for maps of this size
    timers = {point: StageTimer(device) for point in points}
    for _ in range(repeats):
        for point, timer in timers.items():
            detect(point, timer)
    curve = []
    for point, timer in timers.items():
        times = timer.times()
        rounds = zip(*(stage.seconds for stage in times.values()), strict=True)
        times[WHOLE] = Times(tuple(map(sum, rounds)))
        curve.append({measure: point, "stages": {name: taken.to_dict() for name, taken in times.items()}})
    return curve


def top_up(
    windows: NDArray[Any], count: int, image_size: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """The first ``count`` windows; if there are too few, add random ones in the image (height, width).

    Sides of random windows are at least 16 pixels, or as long as those of a smaller image.
    """
    import numpy as np

    missing = max(0, count - len(windows))
    lengths = np.array(image_size[::-1], float)
    sides = rng.uniform(np.minimum(16, lengths), lengths, (missing, 2))
    corners = rng.uniform(0, lengths - sides)
    random = np.concatenate([corners, corners + sides], axis=1)
    return np.concatenate([windows[:count], random]).astype(np.float32)


def resized(image: NDArray[np.uint8], megapixels: float) -> NDArray[np.uint8]:
    """Resize the image to about ``megapixels`` million pixels with the same aspect ratio."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    factor = (1e6 * megapixels / (height * width)) ** 0.5
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC))


def growth_table(curve: Sequence[dict[str, Any]]) -> str:
    """Table of medians by point and stage, milliseconds."""
    from ...eval.report import text_table

    measure, stages = _names(curve)
    rows = [
        [f"{point[measure]:,}", *(f"{1e3 * point['stages'][stage]['median']:.1f}" for stage in stages)]
        for point in curve
    ]
    return text_table([measure, *stages], rows)


def growth_chart(title: str, curve: Sequence[dict[str, Any]]) -> Figure:
    """Chart of medians by point and stage, both axes logarithmic."""
    from ...eval.figures import Axis
    from ...eval.plots import Line, line_chart
    from ...eval.timing import duration

    measure, stages = _names(curve)
    at = [point[measure] for point in curve]
    lines = [Line(stage, at, [point["stages"][stage]["median"] for point in curve]) for stage in stages]
    return line_chart(title, lines, Axis(measure, log=True), Axis("time", log=True, write=duration))


def write_growth_charts(path: Path, growth: dict[str, Any]) -> None:
    """Write ``NAME-windows.svg`` and ``NAME-size.svg`` for a path ``NAME.svg``, PNG for ``NAME.png``."""
    from ...eval.figures import save_figure

    titles = {"windows": "Time by number of windows", "size": "Time by size of the image"}
    for name, file in chart_files(path).items():
        save_figure(file, growth_chart(titles[name], growth[name]))


def chart_files(path: Path) -> dict[str, Path]:
    """Files of the charts for a path ``NAME.svg`` or ``NAME.png``."""
    return {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in ("windows", "size")}


def _names(curve: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """Name of the varied quantity ("windows" or "megapixels"), and of the stages of a curve."""
    measure = next(name for name in curve[0] if name != "stages")
    return measure, list(curve[0]["stages"])
