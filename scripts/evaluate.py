"""``sppnet evaluate``: average precision of a detector on a labelled set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_dataset_arguments, add_folder_output, add_model_arguments, some_of
from .common import compile_kernels, model_name, protect_inputs, refuse_other_page
from .datasets import dataset_from
from .parser import CommandParser

if TYPE_CHECKING:
    from ..data.detections import Detections
    from ..data.formats import ImageDetections
    from ..data.sample import SampleList
    from ..detector.detection.combination import CombinedDetector
    from ..detector.detection.detector import Detector

HELP = """Detect in every image of a labelled set and measure the average precision.

Writes DIR/metrics.json, DIR/detections.json and the precision-recall curves; prints the tables. For a model with
probabilities it also measures their calibration error and draws DIR/reliability.svg. With --report also a page that
shows the mistakes."""

#: Files written besides the detections.
FILES = ("metrics.json", "curves.csv", "curves.svg", "reliability.svg")

METRICS = ("voc07", "voc", "coco")


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet evaluate``."""
    add_dataset_arguments(parser, "test", split=True)
    add_model_arguments(parser)
    parser.groups["output"].add_argument(
        "--metric",
        type=some_of(METRICS),
        default=METRICS[:1],
        metavar="M,M",
        help="any of voc07 (11-point AP), voc (area AP), coco (AP@[.5:.95])",
    )
    add_folder_output(parser, "evaluation")
    parser.groups["output"].add_argument(
        "--report",
        action="store_true",
        help="write DIR/report.html, a page for a browser: curves, kinds of mistakes and what they cost, confusion "
        "between classes, recall by size, pictures of mistakes and missed objects (small copies in DIR/previews)",
    )


def run(args: argparse.Namespace) -> int:
    """Detect, score, write; return 1 if some images could not be read (they count as images without detections)."""
    import numpy as np

    from ..data.errors import InputError
    from ..data.formats import Results
    from ..data.progress import log
    from ..data.store import write_json
    from .detection import detect_all, load_detector, results_files, write_results
    from .photographs import check_replaced, drawn_names

    outputs = [
        *results_files(args.out),
        *(args.out / name for name in FILES),
        *[args.out / "report.html"] * args.report,
    ]
    protect_inputs(args, outputs)
    detector = load_detector(args)
    thresholds = default_thresholds(detector)
    if args.report and thresholds is None:
        raise InputError("--report is for one model: a combination has no thresholds of its own")
    dataset = dataset_from(args, detector.class_names)
    if args.report:
        previews = [args.out / "previews" / name for name in drawn_names([one.path for one in dataset]).values()]
        protect_inputs(args, previews)
        check_replaced(previews)
        refuse_other_page(args.out / "report.html")
    if not any(len(sample.boxes) for sample in dataset):
        raise InputError(f"{args.dataset}: no object of {', '.join(detector.class_names)} in the set {args.set}")
    compile_kernels(args.quiet)
    paths = [sample.path for sample in dataset]
    images, failed = detect_all(detector, paths, -np.inf, args.quiet)
    write_results(args.out, Results(model_name(args), detector.class_names, images, failed))
    found = in_all(dataset, images)
    figures, text = score(found, dataset, args.metric, args.out)
    metrics: dict[str, Any] = {"metric": figures, "images": len(dataset), "model": model_name(args)}
    if thresholds is not None:
        metrics["shown"], table = shown(found, dataset, thresholds, detector.calibrated)
        text += f"\n\n{table}"
    if detector.calibrated:
        metrics["calibration"], reliability = calibration(found, dataset, thresholds, args.out)
        text += f"\n\n{reliability}"
    if args.report:
        from ..eval.mistakes import to_dict
        from .pages.evaluation import write_evaluation_page
        from .pages.mistakes import View

        assert thresholds is not None
        charts = [("curves.svg", "Precision-recall curve of each class")]
        charts += [("reliability.svg", "Share of right detections at each probability")] * detector.calibrated
        view = View(found, list(dataset), dataset.class_names, thresholds)
        write_evaluation_page(args.out, model_name(args), view, metrics["shown"], charts)
        metrics["mistakes"] = to_dict(view.visible, view.gains)
        log(f"look at the mistakes in a browser: {args.out / 'report.html'}", args.quiet)
    write_json(args.out / "metrics.json", metrics)
    print(text)
    return 1 if failed else 0


def in_all(dataset: SampleList, images: list[ImageDetections]) -> list[Detections]:
    """Detections in each image of a set; none in unreadable images."""
    from ..data.detections import Detections

    found = {image.file: image.detections for image in images}
    return [found.get(str(sample.path), Detections.empty(dataset.class_names)) for sample in dataset]


def default_thresholds(detector: Detector | CombinedDetector) -> dict[str, float] | None:
    """Default threshold of each class, of probabilities or scores; None for a combination, whose models have theirs."""
    from ..detector.detection.combination import CombinedDetector

    if isinstance(detector, CombinedDetector):
        return None
    if detector.bundle.calibration is None:
        return dict.fromkeys(detector.class_names, detector.bundle.detection.show_above)
    return dict(zip(detector.class_names, detector.bundle.calibration.thresholds, strict=True))


def shown(
    found: list[Detections], dataset: SampleList, thresholds: dict[str, float], calibrated: bool
) -> tuple[dict[str, Any], str]:
    """What is shown by default, for ``metrics.json`` and as a table."""
    from ..eval.reliability import probabilities_of
    from ..eval.shown import shown_above, shown_table
    from ..eval.voc_ap import judge_voc

    judged = judge_voc(found, dataset, dataset.class_names, [n for n in dataset.class_names if n in thresholds])
    levels = probabilities_of(found, judged) if calibrated else [one.scores for one in judged]
    counts = [shown_above(one, level, thresholds[one.name]) for one, level in zip(judged, levels, strict=True)]
    return {one.name: one.to_dict() for one in counts}, shown_table(counts)


def calibration(
    found: list[Detections], dataset: SampleList, thresholds: dict[str, float] | None, folder: Path
) -> tuple[dict[str, Any], str]:
    """Calibration figures for ``metrics.json`` and a table; the chart is written to ``folder``."""
    from ..eval.figures import save_figure
    from ..eval.reliability import reliability_chart, reliability_report, verdicts
    from ..eval.voc_ap import judge_voc

    names = [name for name in dataset.class_names if thresholds is None or name in thresholds]
    judged = judge_voc(found, dataset, dataset.class_names, names)
    made = verdicts(found, judged, None if thresholds is None else [thresholds[name] for name in names])
    save_figure(folder / "reliability.svg", reliability_chart(made))
    return made.to_dict(), reliability_report(made)


def score(
    found: list[Detections], dataset: SampleList, wanted: tuple[str, ...], folder: Path
) -> tuple[dict[str, Any], str]:
    """AP figures for ``metrics.json`` and tables; the curves are written to ``folder``."""
    from ..eval.coco_ap import evaluate_coco
    from ..eval.figures import save_figure
    from ..eval.plots import precision_recall_chart
    from ..eval.report import coco_table, voc_table, write_curves_csv
    from ..eval.voc_ap import METRICS as VOC_METRICS
    from ..eval.voc_ap import evaluate_voc

    voc = evaluate_voc(found, dataset, dataset.class_names)
    figures: dict[str, Any] = {}
    tables = []
    if of_voc := [metric for metric in VOC_METRICS if metric in wanted]:
        figures |= {metric: voc.to_dict(metric) for metric in of_voc}
        tables.append(voc_table(voc, of_voc))
    if "coco" in wanted:
        coco = evaluate_coco(found, dataset, dataset.class_names)
        figures["coco"] = coco.to_dict()
        tables.append(coco_table(coco))
    write_curves_csv(folder / "curves.csv", voc)
    save_figure(folder / "curves.svg", precision_recall_chart(voc, of_voc[0] if of_voc else "voc"))
    return figures, "\n\n".join(tables)
