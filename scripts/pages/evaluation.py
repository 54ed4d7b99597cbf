"""The page of ``sppnet evaluate --report``: how good a detector is, what it takes for what, and its mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...eval.page import write_page, write_preview
from ...eval.voc_ap import METRICS, VOCResult
from ..photographs import drawn_names
from .detections import PREVIEWS
from .mistakes import View, accuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ...data.sample import Sample


def write_evaluation_page(
    folder: Path, model: str, view: View, shown: Mapping[str, Mapping[str, Any]], charts: Sequence[tuple[str, str]]
) -> None:
    """Write ``report.html`` and the small copies of the photographs that it shows.

    Parameters
    ----------
    folder : Path
    model : str
        Name of the model.
    view : View
    shown : mapping of str to mapping
        Figures of what is shown of each class (:meth:`.shown.Shown.to_dict`).
    charts : sequence of (file, text)
        Charts in the folder and what they show.
    """
    names = drawn_names([sample.path for sample in view.samples])

    def copy_of(sample: Sample, image: NDArray[np.uint8]) -> str:
        write_preview(folder / PREVIEWS / names[sample.path], image)
        return f"{PREVIEWS}/{quote(names[sample.path])}"

    write_page(
        folder / "report.html",
        "evaluation.html",
        f"How good is {Path(model).name}?",
        [*_summary(view.result, shown, len(view.samples)), f"Model: {model}."],
        view.gallery(copy_of),
        accuracy=accuracy(view.result, shown),
        charts=charts,
        **view.tables(),
    )


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
