"""``sppnet detect``: find objects in photographs, write the boxes and draw them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_folder_output, add_images_argument, add_model_arguments, add_ray_argument, some_of
from .common import (
    INTERRUPTED,
    compile_kernels,
    loading,
    model_name,
    protect_inputs,
    refuse_other_page,
)
from .datasets import labelled_objects
from .detection import check_threshold, followed, journal_header, load_detector, results_files, write_results
from .parser import CommandParser
from .photographs import check_replaced, drawn_names, photographs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..data.addresses import Photograph
    from ..data.detections import Detections
    from ..data.journal import Journal
    from ..detector.detection.stream import Finish

HELP = """Find objects in photographs: files, folders (searched through), globs, lists of these, or addresses such as
s3://bucket/photos. Its earlier drawings are left out.

Writes DIR/detections.json, other formats with --format, and DIR/images/NAME.jpg with the boxes drawn; with --report
also a page to look at all of them in a browser. A file that cannot be read or drawn is named, the others are done, and
the exit status is 1. DIR/detections.jsonl has the results as they come: after a stop of any kind, --resume goes on."""

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
        help=f"any of {','.join(FORMATS)}; json is always written, but with --ray; parquet needs the extra 'parquet'",
    )
    output.add_argument(
        "--resume", action="store_true", help="go on after a stop, with what DIR/detections.jsonl has; the same results"
    )
    add_ray_argument(parser, "they write DIR/detections.parquet, a folder")
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

    if args.ray is not None:
        from .cluster import detect

        return detect(args)
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


def drawing(
    drawn: Mapping[Photograph, Path], undrawn: dict[str, str], truth: Mapping[Photograph, Detections]
) -> Finish:
    """Return a function that draws the detections of a file, and what is labelled there, into its output picture.

    A photograph that cannot be drawn is named on stderr and put into ``undrawn`` with the error.
    """
    from ..data.drawings import draw_found
    from ..data.progress import warn

    def draw(path: Photograph, image: NDArray[Any], detections: Detections) -> None:
        error = draw_found(drawn[path], path, image, detections, truth.get(path))
        if error is not None:
            undrawn[str(path)] = error
            warn(f"sppnet: {error}")

    return draw
