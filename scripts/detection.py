"""The detectors that a command line names, and what they find in photographs."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .common import model_name, model_names, report_slow_precision, resolve_device

if TYPE_CHECKING:
    from ..data.addresses import Photograph
    from ..data.errors import ImageError
    from ..data.formats import ImageDetections, Results
    from ..detector.detection.bundle import Bundle
    from ..detector.detection.combination import CombinedDetector
    from ..detector.detection.detector import Detector
    from ..detector.detection.stream import ImageDetector


def load_detector(args: argparse.Namespace) -> Detector | CombinedDetector:
    """Load the detector of ``--model``, or a combination of several."""
    report_slow_precision(args)
    return combined([load_model(model, args) for model in model_names(args)])


def combined(detectors: Sequence[Detector]) -> Detector | CombinedDetector:
    """The only one of the detectors, or a combination of several."""
    from ..detector.detection.combination import CombinedDetector

    return detectors[0] if len(detectors) == 1 else CombinedDetector(detectors)


def load_model(model: str, args: argparse.Namespace) -> Detector:
    """Load a model, name or file, and apply ``--precision`` and the options of :func:`load_bundle`."""
    from ..detector.detection.detector import detector_of

    return detector_of(load_bundle(model, args), resolve_device(args), args.precision)


def load_bundle(model: str, args: argparse.Namespace) -> Bundle:
    """Load a model's content, and apply ``--scales``, ``--max-windows`` and ``--compress``."""
    from ..data.errors import InputError
    from ..data.progress import log
    from ..detector.detection.bundle import Bundle
    from .info import compression_lines

    bundle = Bundle.load(model)
    if args.scales is not None:
        if bundle.features.method == "warp":
            raise InputError(f"{model}: its windows are warped to one size; --scales is for models of the method spp")
        bundle = replace(bundle, features=replace(bundle.features, scales=args.scales))
    if args.max_windows is not None:
        bundle = replace(bundle, detection=replace(bundle.detection, max_windows=args.max_windows))
    if args.compress is not None:
        bundle = bundle.compressed(args.compress)
        log(f"{model}: {compression_lines(bundle.card)[0]}", args.quiet)
    return bundle


def check_threshold(args: argparse.Namespace, detector: Detector | CombinedDetector) -> None:
    """Check that ``--threshold`` is a probability, and report models without probabilities.

    Raises
    ------
    InputError
        When a model has probabilities and the threshold is not from 0 to 1.
    """
    from ..data.errors import InputError
    from ..data.progress import log
    from ..detector.detection.combination import CombinedDetector

    if args.threshold is None:
        return
    detectors = detector.detectors if isinstance(detector, CombinedDetector) else (detector,)
    models = dict(zip(model_names(args), detectors, strict=True))
    without = [name for name, one in models.items() if not one.calibrated]
    if len(without) < len(models) and not 0 <= args.threshold <= 1:
        name = next(name for name in models if name not in without)
        raise InputError(f"--threshold: expected a probability from 0 to 1, which {name} gives, not {args.threshold:g}")
    for name in without:
        reason = "it was trained without held-out images, or by an earlier sppnet"
        log(f"{name} has no probabilities ({reason}): its scores are compared with {args.threshold:g}", args.quiet)


def journal_header(
    args: argparse.Namespace, detector: Detector | CombinedDetector, threshold: float | None
) -> dict[str, Any]:
    """Whatever the detections depend on but the photographs, JSON-like."""
    from ..data.embedded import find_model
    from ..data.store import file_key

    return {
        "model": model_name(args),
        "classes": list(detector.class_names),
        "content of the model": [file_key(find_model(model)) for model in model_names(args)],
        "threshold": threshold,
        "scales": None if args.scales is None else list(args.scales),
        "max_windows": args.max_windows,
        "compression": None if args.compress is None else str(args.compress),
        "precision": args.precision,
        "version": __version__,
    }


def detect_all(
    detector: ImageDetector,
    paths: Sequence[Photograph],
    threshold: float | None,
    quiet: bool,
) -> tuple[list[ImageDetections], dict[str, str]]:
    """Detections in the files, in order, and the errors of unreadable files, which are also named on stderr."""
    from ..detector.detection.stream import detect_files

    with closing(detect_files(detector, paths, threshold)) as results:
        return gathered(paths, results, "detecting", quiet)


def gathered(
    paths: Sequence[Photograph],
    results: Iterable[ImageDetections | ImageError],
    label: str,
    quiet: bool,
    named: Collection[str] = (),
) -> tuple[list[ImageDetections], dict[str, str]]:
    """Collect results and, by path, errors; errors go to stderr unless their files are among ``named``."""
    failed: dict[str, str] = {}
    found = [one for _, one in followed(paths, results, label, quiet, failed, named) if one is not None]
    return found, failed


def followed(
    paths: Sequence[Photograph],
    results: Iterable[ImageDetections | ImageError],
    label: str,
    quiet: bool,
    failed: dict[str, str],
    named: Collection[str] = (),
) -> Iterator[tuple[Photograph, ImageDetections | None]]:
    """Yield each path with its result, as they come; None for an error, which goes to stderr and into ``failed``."""
    from ..data.errors import ImageError
    from ..data.progress import track, warn

    for path, result in track(zip(paths, results, strict=True), label, len(paths), quiet):
        if not isinstance(result, ImageError):
            yield path, result
            continue
        failed[str(path)] = str(result)
        if str(path) not in named:
            warn(f"sppnet: {result}")
        yield path, None


def results_files(folder: Path, wanted: tuple[str, ...] = ("json",)) -> list[Path]:
    """Files that :func:`write_results` writes; of VOC's, which are named after the model's classes, existing ones."""
    files = {"json": "detections.json", "csv": "detections.csv", "coco": "coco.json", "parquet": "detections.parquet"}
    voc = (folder / "voc").glob("comp4_det_test_*.txt") if "voc" in wanted else ()
    return [*(folder / name for kind, name in files.items() if kind in wanted), *voc]


def write_results(folder: Path, results: Results, wanted: tuple[str, ...] = ("json",)) -> None:
    """Write results in the formats that are wanted: the files of :func:`results_files`, and VOC's of all classes."""
    from ..data.formats import write_coco, write_csv, write_detections_json, write_voc
    from ..data.parquet import write_parquet

    if "json" in wanted:
        write_detections_json(folder / "detections.json", results)
    if "csv" in wanted:
        write_csv(folder / "detections.csv", results)
    if "coco" in wanted:
        write_coco(folder / "coco.json", results)
    if "voc" in wanted:
        write_voc(folder / "voc", results)
    if "parquet" in wanted:
        write_parquet(folder / "detections.parquet", results)
