"""How the time of a detection grows with the number of windows and with the size of the image."""

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

#: What is done once for an image, and what for its windows.
STAGES = {
    "spp": ("convolutions", "pooling, SVMs, NMS, boxes"),
    "warp": ("preparation", "warping, convolutions, SVMs, NMS, boxes"),
}

#: The last stage of every point: the others together.
WHOLE = "whole"


def detect_in_stages(
    detector: Detector, image: NDArray[np.uint8], windows: NDArray[Any], timer: StageTimer
) -> Detections:
    """Objects among the windows of an image, the two stages timed.

    Nothing of the image is kept for the next call: a detector may remember the windows it has seen.
    """
    for_image, for_windows = STAGES[detector.bundle.features.method]
    with timer.stage(for_image):
        maps = detector.features.maps(image)
    with timer.stage(for_windows):
        return detector.detect_on(maps, windows)


def against_windows(
    detector: Detector, image: NDArray[np.uint8], rng: np.random.Generator, repeats: int, device: str
) -> list[dict[str, Any]]:
    """Times with the first of a photograph's proposals as windows, random ones after them; proposing is left out.

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
    """Times with the photograph enlarged or made smaller; decoding is left out, since enlarged ones decode faster.

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
    """Times of ``detect`` at every point, in turns: a slow minute of the machine falls on all of them."""
    from ...eval.timing import StageTimer, Times

    for point in points:
        detect(point, StageTimer(device))  # memory, and plans for maps of this size
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
    """The first ``count`` windows, followed by random ones in the image (height, width) where there are too few.

    The sides of random ones are at least 16 pixels, or as long as the image's.
    """
    import numpy as np

    missing = max(0, count - len(windows))
    lengths = np.array(image_size[::-1], float)
    sides = rng.uniform(np.minimum(16, lengths), lengths, (missing, 2))
    corners = rng.uniform(0, lengths - sides)
    random = np.concatenate([corners, corners + sides], axis=1)
    return np.concatenate([windows[:count], random]).astype(np.float32)


def resized(image: NDArray[np.uint8], megapixels: float) -> NDArray[np.uint8]:
    """The image in the same proportions with about so many million pixels."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    factor = (1e6 * megapixels / (height * width)) ** 0.5
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC))


def growth_table(curve: Sequence[dict[str, Any]]) -> str:
    """Medians by point and stage as text, milliseconds."""
    from ...eval.report import text_table

    measure, stages = _names(curve)
    rows = [
        [f"{point[measure]:,}", *(f"{1e3 * point['stages'][stage]['median']:.1f}" for stage in stages)]
        for point in curve
    ]
    return text_table([measure, *stages], rows)


def growth_chart(title: str, curve: Sequence[dict[str, Any]]) -> Figure:
    """Medians by point and stage, both axes logarithmic."""
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
    """The files that the charts of a path ``NAME.svg`` or ``NAME.png`` go to."""
    return {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in ("windows", "size")}


def _names(curve: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """What a curve runs along, and its stages."""
    measure = next(name for name in curve[0] if name != "stages")
    return measure, list(curve[0]["stages"])
