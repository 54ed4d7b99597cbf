"""The page of ``sppnet evaluate --report``: how good a detector is, what it takes for what, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...eval.mistakes import to_dict
from ...eval.page import write_page, write_preview
from ...eval.voc_ap import METRICS, VOCResult
from ..detect import drawn_names
from .detections import PREVIEWS
from .mistakes import View, accuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ...data.detections import Detections
    from ...data.sample import Sample


def write_evaluation_page(
    folder: Path,
    model: str,
    found: Sequence[Detections],
    samples: Sequence[Sample],
    class_names: tuple[str, ...],
    thresholds: dict[str, float],
    shown: dict[str, dict[str, Any]],
    charts: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Write ``report.html`` and the small copies of the photographs that it shows.

    Parameters
    ----------
    folder : Path
    model : str
        Name of the model.
    found : sequence of Detections
        All of one per sample, at any threshold.
    samples : sequence of Sample
    class_names : tuple of str
        The names that labels of both index.
    thresholds : dict of str to float
        Above which level each class is shown.
    shown : dict of str to dict
        Figures of what is shown of each class (:meth:`.shown.Shown.to_dict`).
    charts : sequence of (file, text)
        Charts in the folder and what they show.

    Returns
    -------
    dict
        Number and cost of each kind of mistake, for ``metrics.json``.
    """
    view = View(found, samples, class_names, thresholds)
    names = drawn_names([sample.path for sample in samples])

    def copy_of(sample: Sample, image: NDArray[np.uint8]) -> str:
        write_preview(folder / PREVIEWS / names[sample.path], image)
        return f"{PREVIEWS}/{quote(names[sample.path])}"

    write_page(
        folder / "report.html",
        "evaluation.html",
        f"How good is {Path(model).name}?",
        [*_summary(view.result, shown, len(samples)), f"Model: {model}."],
        view.gallery(copy_of),
        accuracy=accuracy(view.result, shown),
        charts=charts,
        **view.tables(),
    )
    return to_dict(view.visible, view.gains)


def _summary(result: VOCResult, shown: Mapping[str, Mapping[str, Any]], images: int) -> list[str]:
    objects, right, total = (sum(one[name] for one in shown.values()) for name in ("objects", "right", "shown"))
    ap07, area_ap = (result.mean_ap(metric) for metric in METRICS)
    lines = [
        f"{images:,} photographs with {objects:,} objects; mean AP {ap07:.3f} (VOC07, 11-point), {area_ap:.3f} (area).",
    ]
    if objects and total:
        precise, recalled = right / total, right / objects
        lines.append(
            f"Of what the detector shows by default {precise:.0%} is right, and it finds {recalled:.0%} of the objects."
        )
    return lines
