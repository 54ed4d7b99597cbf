"""The page of ``sppnet train``: what a detector learnt from, how good it is and where it fails, and what to do next."""

from __future__ import annotations

import io
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.check import ALIKE_NAMES, Finding, look_alike_names
from ...data.detections import Detections
from ...data.formats import read_detections_json
from ...data.progress import Course
from ...detector.options import MANY_WINDOWS
from ...eval.figures import save_figure
from ...eval.mistakes import BACKGROUND, CLASS, KINDS, PLACE
from ...eval.page import preview, write_page
from ...eval.plots import precision_recall_chart
from ...eval.reliability import reliability_chart, verdicts
from ...eval.shown import shown_above
from ..info import choice_rows, scored_on, spread_lines
from ..summary import FEWEST, contents_table, summary
from .mistakes import View, accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...data.sample import SampleList
    from ...detector.detection.detector import Detector

#: Longest side of the photographs in the page, pixels: they are part of the file.
SIDE = 480

#: Share of objects that must be found less, among small ones or of a class, for it to be a matter of size or class.
LESS = 0.15

#: Cost in AP from which a kind of mistake is worth an advice.
COSTLY = 0.02


def write_training_page(
    path: Path,
    detector: Detector,
    dataset: SampleList,
    held_out: Path,
    course: Course,
    command: str | None,
) -> None:
    """Write the page, one file with all its pictures.

    Parameters
    ----------
    path : Path
    detector : Detector
    dataset : SampleList
        What it learnt from.
    held_out : Path
        A ``detections.json`` of what was found in photographs that were not learnt from, if it exists.
    course : Course
        Time of the stages, and their messages.
    command : str or None
        The command that repeats the training without a search.
    """
    card, names = detector.card, detector.class_names
    header, rows = contents_table(list(dataset), names)
    calibration = detector.bundle.calibration
    values: dict[str, Any] = {"accuracy": None, "steps": [], "charts": []}
    gallery = None
    if calibration is not None and held_out.is_file():
        found, samples = _found_in(dataset, held_out)
        thresholds = dict(zip(names, calibration.thresholds, strict=True))
        view = View(found, samples, names, thresholds)
        shown = {
            one.judged.name: shown_above(one.judged, levels, thresholds[one.judged.name]).to_dict()
            for one, levels in zip(view.explained, view.levels, strict=True)
        }
        made = verdicts(found, [one.judged for one in view.explained], list(thresholds.values()))
        charts = {
            "Precision-recall curve of each class": precision_recall_chart(view.result, "voc07"),
            "Share of right detections at each probability": reliability_chart(made),
        }
        values |= {"accuracy": accuracy(view.result, shown), **view.tables()}
        values["steps"] = next_steps(view, detector.bundle.detection.proposals == "dense")
        values["charts"] = [(_address_of(figure), text) for text, figure in charts.items()]
        gallery = view.gallery(lambda _, image: _address(image))
    lines = [summary(card, width=10_000)]
    if scores := card.get("held_out"):
        mean = "-" if scores["map"] is None else f"{scores['map']:.3f}"
        lines.append("; ".join([f"Mean AP (VOC07) {mean} on {scored_on(scores)}", *spread_lines(scores)]) + ".")
    write_page(
        path,
        "training.html",
        f"Training of {path.stem}",
        lines,
        gallery,
        contents={"header": header, "rows": rows},
        findings=_findings(dataset),
        choices=choice_rows(card),
        command=command,
        times=[(name, f"{time:.0f}") for name, time in course.seconds.items()],
        total=f"{sum(course.seconds.values()):.0f}",
        messages=course.messages,
        **values,
    )


def _found_in(dataset: SampleList, held_out: Path) -> tuple[list[Detections], list[Any]]:
    """What was found in held-out photographs, and these with their labels."""
    by_path = {str(sample.path): sample for sample in dataset}
    images = [image for image in read_detections_json(held_out).images if image.file in by_path]
    return [image.detections for image in images], [by_path[image.file] for image in images]


def _findings(dataset: SampleList) -> list[Finding]:
    """What reading the labels has noticed."""
    alike = [f"{one} and {other}" for one, other in look_alike_names(dataset.class_names)]
    problems = {**dataset.problems, **({ALIKE_NAMES: dict.fromkeys(alike, 1)} if alike else {})}
    return [Finding(kind, places) for kind, places in problems.items()]


def next_steps(view: View, dense: bool) -> list[str]:
    """What will help, from what went wrong on photographs that were not learnt from.

    Parameters
    ----------
    view : View
    dense : bool
        Whether the detector has dense windows.
    """
    found, objects, names = view.found_by_size, view.objects_by_size, view.class_names
    steps = [*_weak_classes(found.sum(axis=1), objects.sum(axis=1), names), *_sizes(found, objects, dense)]
    kinds = np.concatenate([one.kinds for one in view.visible])
    number = {kind: int((kinds == kind).sum()) for kind in range(len(KINDS))}
    wrong = sum(number.values())

    def costly(kind: int) -> bool:
        return number[kind] > 0 and view.gains[KINDS[kind]] >= COSTLY

    if costly(BACKGROUND):
        steps.append(
            f"{number[BACKGROUND]} of {wrong} wrong detections lie where nothing is labelled. Look below whether it is "
            "an object that nobody has labelled; if not, add photographs of such places, without any object."
        )
    if costly(CLASS):
        pairs = view.confusion[: len(names), : len(names)].copy()
        np.fill_diagonal(pairs, 0)
        row, column = np.unravel_index(int(pairs.argmax()), pairs.shape)
        if pairs.max():
            steps.append(
                f"{names[row]} is taken for {names[column]} {pairs.max()} times: more photographs of both, and of both "
                "together, will help most to tell them apart."
            )
    if costly(PLACE):
        steps.append(
            f"{number[PLACE]} of {wrong} wrong detections overlap their object too little. Look below whether the "
            "labelled boxes are drawn around whole objects, all in the same way."
        )
    return steps


def _weak_classes(found: Any, objects: Any, names: Sequence[str]) -> list[str]:
    """An advice for a class that is found less than the others together."""
    told = np.flatnonzero(objects >= FEWEST)
    if len(told) < 2:
        return []
    recall = found[told] / objects[told]
    weakest = told[int(np.argmin(recall))]
    others = told[told != weakest]
    rest = found[others].sum() / objects[others].sum()
    if found[weakest] / objects[weakest] > rest - LESS:
        return []
    return [
        f"Label more of {names[weakest]}: {found[weakest]} of its {objects[weakest]} objects are found, of the other "
        f"classes {rest:.0%}."
    ]


def _sizes(found: Any, objects: Any, dense: bool) -> list[str]:
    """An advice if smaller objects are found less than large ones."""
    found, objects = found.sum(axis=0), objects.sum(axis=0)
    if min(objects[2], objects[:2].sum()) < FEWEST:
        return []
    small, large = found[:2].sum() / objects[:2].sum(), found[2] / objects[2]
    if small > large - LESS:
        return []
    more = "" if dense else f", or try --proposals dense --max-windows {MANY_WINDOWS}"
    return [
        f"Of the objects below 96 x 96 pixels {small:.0%} are found, of the larger ones {large:.0%}: take photographs "
        f"from nearer or with more pixels, label more of the small ones{more}."
    ]


def _address(image: NDArray[np.uint8]) -> str:
    """A small copy of a photograph as an address that holds its content."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(preview(image, SIDE)).save(file, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"


def _address_of(figure: Any) -> str:
    """A chart as an address that holds its content."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chart.svg"
        save_figure(file, figure)
        return f"data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()}"
