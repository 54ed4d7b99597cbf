"""``sppnet detect``: boxes in photographs, as files and drawn."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import add_model_arguments, compile_kernels, model_name, resolve_device

if TYPE_CHECKING:
    from ..data.formats import Results
    from ..detector.combination import CombinedDetector
    from ..detector.predictor import SPPDetector

HELP = """Find objects in photographs: files, folders (searched through) or globs.

Writes DIR/detections.json (and the other formats asked for) and DIR/images/NAME.jpg with the boxes drawn. A file
that cannot be read is named and left out; the exit status is then 1."""

FORMATS = ("json", "coco", "voc", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet detect``."""
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="image files, folders or globs")
    add_model_arguments(parser)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("detections"), metavar="DIR", help="where to write (default: detections)"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="show detections that score higher (default: each model's own)"
    )
    parser.add_argument(
        "--format", type=formats, default=("json",), metavar="F,F", help="any of json,coco,voc,csv (default: json)"
    )
    parser.add_argument("--no-draw", action="store_true", help="do not draw the boxes")


def formats(text: str) -> tuple[str, ...]:
    """A list of result formats; JSON is always among them."""
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        if part not in FORMATS:
            raise argparse.ArgumentTypeError(f"unknown format '{part}'; expected any of {','.join(FORMATS)}")
    return tuple(dict.fromkeys(("json", *parts)))


def run(args: argparse.Namespace) -> int:
    """Detect in every image; 1 when some could not be read."""
    from ..data.folder import find_images
    from ..data.formats import ImageDetections, Results
    from ..data.progress import log, track

    paths = find_images(args.images)
    detector = load_detector(args)
    compile_kernels(args.quiet)
    names = drawn_names(paths)
    found, failed = [], {}
    for path in track(paths, "detecting", quiet=args.quiet):
        drawn = None if args.no_draw else args.out / "images" / names[path]
        result = detect_file(detector, path, args.threshold, drawn)
        if isinstance(result, ImageDetections):
            found.append(result)
        else:
            failed[str(path)] = str(result)
            log(f"sppnet: {result}")
    write_results(args.out, Results(model_name(args), detector.class_names, found, failed), args.format)
    total = sum(len(image.detections) for image in found)
    log(f"{total} objects in {len(found)} images: {args.out / 'detections.json'}", args.quiet)
    return 1 if failed else 0


def load_detector(args: argparse.Namespace) -> SPPDetector | CombinedDetector:
    """The detector of ``--model``, or the combination of several."""
    detectors = [load_model(path, args) for path in args.model]
    if len(detectors) == 1:
        return detectors[0]
    from ..detector.combination import CombinedDetector

    return CombinedDetector(detectors)


def load_model(path: Path, args: argparse.Namespace) -> SPPDetector:
    """The detector of one model file with ``--scales``, ``--max-windows`` and ``--compress`` applied to it."""
    from dataclasses import replace

    from ..data.errors import InputError
    from ..data.progress import log
    from ..detector.bundle import Bundle
    from ..detector.compression import Compression
    from ..detector.predictor import SPPDetector
    from .info import compression_lines

    bundle = Bundle.load(path)
    if args.scales is not None:
        bundle = replace(bundle, features=replace(bundle.features, scales=args.scales))
    if args.max_windows is not None:
        if args.max_windows < 1:
            raise InputError(f"--max-windows must be at least 1, not {args.max_windows}")
        bundle = replace(bundle, detection=replace(bundle.detection, max_windows=args.max_windows))
    if args.compress is not None:
        bundle = bundle.compressed(Compression.parse(args.compress))
        log(f"{path}: {compression_lines(bundle.card)[0]}", args.quiet)
    return SPPDetector(bundle, resolve_device(args))


def detect_file(
    detector: SPPDetector | CombinedDetector,
    path: Path,
    threshold: float | None,
    drawn: Path | None = None,
    id: str = "",
) -> Any:
    """The ``ImageDetections`` of one file, drawn to ``drawn`` as well; or the ``ImageError`` that it met."""
    from ..data.draw import draw_detections
    from ..data.errors import ImageError
    from ..data.formats import ImageDetections
    from ..data.image import read_image, write_image

    try:
        image = read_image(path)
    except ImageError as error:
        return error
    detections = detector.detect(image, threshold=threshold)
    if drawn is not None:
        write_image(drawn, draw_detections(image, detections))
    height, width = image.shape[:2]
    return ImageDetections(str(path), width, height, detections, id)


def drawn_names(paths: list[Path]) -> dict[Path, str]:
    """A file name of its own, ``NAME.jpg``, for each path; the second of two equal stems becomes ``NAME-2.jpg``."""
    return dict(zip(paths, _distinct(path.stem for path in paths), strict=True))


def _distinct(stems: Iterator[str]) -> Iterator[str]:
    taken: set[str] = set()
    for stem in stems:
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        yield f"{name}.jpg"


def write_results(folder: Path, results: Results, wanted: tuple[str, ...] = ("json",)) -> None:
    """Write ``detections.json``, ``detections.csv``, ``coco.json`` and ``voc/comp4_*.txt``, whichever are wanted."""
    from ..data.formats import write_coco, write_csv, write_detections_json, write_voc

    if "json" in wanted:
        write_detections_json(folder / "detections.json", results)
    if "csv" in wanted:
        write_csv(folder / "detections.csv", results)
    if "coco" in wanted:
        write_coco(folder / "coco.json", results)
    if "voc" in wanted:
        write_voc(folder / "voc", results)
