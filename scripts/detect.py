"""``sppnet detect``: find objects in photographs, write the boxes and draw them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .arguments import add_folder_output, add_images_argument, add_model_arguments, some_of
from .common import (
    INTERRUPTED,
    compile_kernels,
    loading,
    model_name,
    model_names,
    protect_inputs,
    refuse_other_page,
    report_slow_precision,
    resolve_device,
)
from .datasets import labelled_objects
from .parser import CommandParser

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..data.addresses import Photograph
    from ..data.detections import Detections
    from ..data.errors import ImageError
    from ..data.formats import ImageDetections, Results
    from ..data.journal import Journal
    from ..detector.detection.combination import CombinedDetector
    from ..detector.detection.detector import Detector
    from ..detector.detection.stream import Finish, ImageDetector

HELP = """Find objects in photographs: files, folders (searched through), globs, lists of these, or addresses such as
s3://bucket/photos. Its earlier drawings are left out.

Writes DIR/detections.json, other formats with --format, and DIR/images/NAME.jpg with the boxes drawn; with --report
also a page to look at all of them in a browser. A file that cannot be read or drawn is named, the others are done, and
the exit status is 1. DIR/detections.jsonl has the results as they come: after a stop of any kind, --resume goes on."""

#: Longest file name on most file systems, bytes.
_NAME_BYTES = 255

#: Results as they come, for ``--resume``.
JOURNAL = "detections.jsonl"

FORMATS = ("json", "coco", "voc", "csv", "parquet")


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet detect``."""
    add_images_argument(parser, "*", addresses=True)
    parser.groups["data"].add_argument(
        "--samples", action="store_true", help="detect in the photographs that come with scikit-image, without IMAGES"
    )
    add_model_arguments(parser)
    add_folder_output(parser, "detections")
    output = parser.groups["output"]
    output.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="show detections above this probability, from 0 to 1, or above this score where a model has no "
        "probabilities (default: the threshold of each class in the model)",
    )
    output.add_argument(
        "--format",
        type=formats,
        default=FORMATS[:1],
        metavar="F,F",
        help=f"any of {','.join(FORMATS)}; json is always written",
    )
    output.add_argument(
        "--resume", action="store_true", help="go on after a stop, with what DIR/detections.jsonl has; the same results"
    )
    output.add_argument("--no-draw", action="store_true", help="do not draw the boxes")
    output.add_argument(
        "--draw-truth",
        type=Path,
        metavar="DATASET",
        help="also draw, with dashed lines, what is labelled in these photographs in this data set",
    )
    output.add_argument(
        "--report",
        action="store_true",
        help="write DIR/report.html, a page for a browser with all photographs, a slider for the threshold and a "
        "choice of classes; it needs no network, and has small copies of the photographs in DIR/previews",
    )


def formats(text: str) -> tuple[str, ...]:
    """Parse a list of result formats; JSON is always included."""
    return tuple(dict.fromkeys(("json", *some_of(FORMATS)(text))))


def run(args: argparse.Namespace) -> int:
    """Detect in every image; return 1 if some could not be read or drawn."""
    from ..data.errors import InputError
    from ..data.outputs import make_writable
    from ..data.parquet import check_pyarrow
    from ..data.progress import log, warn
    from ..data.store import remove_unfinished

    if "parquet" in args.format:
        check_pyarrow()
    paths, missing = photographs(args)
    names = drawn_names(paths)
    drawn = {} if args.no_draw else {path: args.out / "images" / name for path, name in names.items()}
    outputs = [*results_files(args.out, args.format), args.out / JOURNAL, *drawn.values()]
    if args.report:
        outputs += [args.out / "report.html", *(args.out / "previews" / name for name in names.values())]
    protect_inputs(args, outputs, paths)
    check_replaced(path for path in outputs if path.suffix == ".jpg")
    if args.report:
        refuse_other_page(args.out / "report.html")
    if args.draw_truth is not None and args.no_draw and not args.report:
        raise InputError("--draw-truth draws onto pictures, which --no-draw leaves out")
    with loading():
        from ..data.formats import Results
        from ..data.journal import Journal
        from ..detector.detection.stream import detect_files

        detector = load_detector(args)
        check_threshold(args, detector)
        make_writable(args.out if args.no_draw else args.out / "images")
        compile_kernels(args.quiet)
    truth = {}
    if args.draw_truth is not None:
        truth = labelled_objects(args.draw_truth, paths, detector.class_names)
    page = None
    if args.report:
        from .pages.detections import DetectionPage

        page = DetectionPage(args.out, names, detector, args.threshold, truth)
    undrawn: dict[str, str] = {}
    draw = None if args.no_draw else drawing(drawn, undrawn, truth)

    def finish(path: Photograph, image: NDArray[Any], found: Detections) -> None:
        if page is not None:
            page.add(path, image, found)
            found = page.shown(found)
        if draw is not None:
            draw(path, image, found)

    threshold = args.threshold if page is None else page.least
    failed: dict[str, str] = {}
    stopped = False
    with Journal(args.out / JOURNAL, journal_header(args, detector, threshold), args.resume) as journal:
        previews = {} if page is None else {path: page.file(path) for path in paths}
        done = done_before(journal, paths, drawn, previews)
        if args.resume:
            remove_unfinished(args.out)
            log(f"{len(done)} of {len(paths)} images were done before", args.quiet)
        left = [path for path in paths if path not in done]
        try:
            with closing(detect_files(detector, left, threshold, finish)) as results:
                for path, result in followed(left, results, "detecting", args.quiet, failed):
                    if result is None:
                        journal.fail(str(path), failed[str(path)])
                    else:
                        journal.add(result, undrawn.get(str(path)))
                        done.add(path)
        except KeyboardInterrupt:
            # What was found is worth the minutes that it took.
            stopped = True
    images = journal.images((str(path) for path in paths if path in done), detector.calibrated)
    failed |= {**undrawn, **missing}
    if page is not None:
        report = page.write(model_name(args), images, failed)
        images = replace(images, shown=page.shown)
    write_results(args.out, Results(model_name(args), detector.class_names, images, failed), args.format)
    total = sum(len(image.detections) for image in images)
    log(f"{total} objects in {len(images)} images: {args.out / 'detections.json'}", args.quiet)
    if page is not None:
        log(f"look at them in a browser: {report}", args.quiet)
    if stopped:
        warn(
            f"sppnet: interrupted after {len(images) + len(failed)} of {len(paths)} images; what was found is written, "
            "and --resume goes on"
        )
        return INTERRUPTED
    return 1 if failed else 0


def done_before(journal: Journal, paths: list[Photograph], *pictures: Mapping[Photograph, Path]) -> set[Photograph]:
    """The files that an earlier run has done, and whose pictures are there, too."""
    return {
        path
        for path in paths
        if str(path) in journal.places and all(path not in files or files[path].exists() for files in pictures)
    }


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


def photographs(args: argparse.Namespace) -> tuple[list[Photograph], dict[str, str]]:
    """List the files of IMAGES, or the samples; and the errors of IMAGES that stand for no file, named on stderr.

    Raises
    ------
    InputError
        When neither or both are given, or there are no files.
    """
    from ..data.errors import InputError
    from ..data.example_photographs import free_photographs

    if bool(args.images) == args.samples:
        found = "both" if args.samples else "neither"
        raise InputError(f"expected IMAGES or --samples (photographs that come with scikit-image), not {found}")
    return ([*free_photographs()], {}) if args.samples else searched(args.images)


def searched(patterns: Iterable[str]) -> tuple[list[Photograph], dict[str, str]]:
    """Photographs of names, folders, patterns, lists and addresses, and the errors of those that stand for none.

    The errors, and pictures of formats that are not read, are named on stderr.

    Raises
    ------
    InputError
        When there are no files.
    """
    from ..data.folder import search_images
    from ..data.progress import warn

    found = search_images(patterns)
    for line in (*found.missing.values(), *(f"warning: {line}" for line in found.left_out.lines())):
        warn(f"sppnet: {line}")
    return found.paths, found.missing


def check_replaced(drawings: Iterable[Path]) -> None:
    """Refuse to overwrite existing files that are not our drawings: they may be the user's photographs.

    Raises
    ------
    InputError
        When there is such a file; the message names the first.
    """
    from ..data.errors import InputError
    from ..data.image import is_drawing

    for path in drawings:
        if path.exists() and not is_drawing(path):
            raise InputError(f"{path}: already exists and was not drawn by this command; choose another --out")


def load_detector(args: argparse.Namespace) -> Detector | CombinedDetector:
    """Load the detector of ``--model``, or a combination of several."""
    report_slow_precision(args)
    detectors = [load_model(model, args) for model in model_names(args)]
    if len(detectors) == 1:
        return detectors[0]
    from ..detector.detection.combination import CombinedDetector

    return CombinedDetector(detectors)


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


def load_model(model: str, args: argparse.Namespace) -> Detector:
    """Load a model, name or file, and apply ``--scales``, ``--max-windows``, ``--compress`` and ``--precision``."""
    from dataclasses import replace

    from ..data.errors import InputError
    from ..data.progress import log
    from ..detector.detection.bundle import Bundle
    from ..detector.detection.detector import detector_of
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
    return detector_of(bundle, resolve_device(args), args.precision)


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


def drawing(
    drawn: Mapping[Photograph, Path], undrawn: dict[str, str], truth: Mapping[Photograph, Detections]
) -> Finish:
    """Return a function that draws the detections of a file, and what is labelled there, into its output picture.

    If drawing fails, even on a full disk, nothing is raised: the photograph is named on stderr and put into ``undrawn``
    with the error. The detections matter more than the pictures, and there may be space again at the end.
    """
    from ..data.errors import InputError
    from ..data.image import DRAWING, write_image
    from ..data.progress import warn

    def draw(path: Photograph, image: NDArray[Any], detections: Detections) -> None:
        try:
            write_image(drawn[path], detections.draw(image, truth.get(path)), comment=DRAWING)
        except (InputError, OSError, MemoryError) as error:
            undrawn[str(path)] = f"{path}: cannot be drawn ({error or type(error).__name__}); what was found is kept"
            warn(f"sppnet: {undrawn[str(path)]}")

    return draw


def drawn_names(paths: Sequence[Photograph]) -> dict[Photograph, str]:
    """A unique file name ``NAME.jpg`` for each path; the second of two equal stems becomes ``NAME-2.jpg``.

    Names that are too long for file systems are shortened.
    """
    return dict(zip(paths, _distinct(path.stem for path in paths), strict=True))


def _distinct(stems: Iterator[str]) -> Iterator[str]:
    taken: set[str] = set()
    for stem in stems:
        name, number = _fitting(stem), 1
        while name.casefold() in taken:
            number += 1
            name = _fitting(stem, f"-{number}")
        taken.add(name.casefold())
        yield f"{name}.jpg"


def _fitting(stem: str, end: str = "") -> str:
    """Stem with an end; the stem is shortened if the file name would be too long."""
    room = _NAME_BYTES - len(end) - len(".jpg")
    encoded = os.fsencode(stem)
    return (stem if len(encoded) <= room else encoded[:room].decode(errors="ignore")) + end


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
