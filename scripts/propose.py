"""``sppnet propose``: propose boxes that may contain an object, without a detector."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..detector.options import DetectOptions
from .arguments import add_count, add_dataset_arguments, add_folder_output, add_images_argument
from .common import protect_inputs
from .datasets import dataset_from
from .parser import CommandParser

if TYPE_CHECKING:
    from ..data.sample import SampleList
    from ..eval.recall import Coverage

HELP = """Find boxes that could hold an object: in files, folders (searched through), globs, lists of these, addresses
such as s3://bucket/photos, or a labelled set.

Writes DIR/NAME.npz for each image, with the array "boxes": float32 (N, 4), x1 y1 x2 y2 in pixels of the image as shown,
0-based and half-open, the best first. With --dataset instead of IMAGES, prints the recall and
MABO of the boxes and writes DIR/recall.json. A file that cannot be read is named and skipped; the exit status is then
1."""

#: Boxes of an image that are drawn.
DRAWN = 50

METHODS = ("fast", "quality", "dense", "opencv", "selectivesearch")


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet propose``."""
    add_images_argument(parser, "*", "inputs", addresses=True)
    add_dataset_arguments(parser, None, "--dataset")
    windows = parser.groups["windows"]
    windows.add_argument(
        "--method",
        choices=METHODS,
        default=DetectOptions.proposals,
        help="fast, quality: our selective search in the paper's two modes; dense: fast, and small squares "
        "everywhere; opencv: OpenCV's selective search; selectivesearch: the package of that name",
    )
    add_count(windows, "--max", DetectOptions.max_windows, "boxes of an image", dest="max_boxes")
    add_folder_output(parser, "proposals")
    parser.groups["output"].add_argument(
        "--draw",
        action="store_true",
        help=f"draw the first {DRAWN} boxes of each image in DIR/images/NAME.jpg, from yellow for the first to violet",
    )


def run(args: argparse.Namespace) -> int:
    """Propose boxes in every image; return 1 if some could not be read."""
    import numpy as np

    from ..data.addresses import fetched_ahead
    from ..data.draw import draw_ranked
    from ..data.errors import ImageError, InputError
    from ..data.image import DRAWING, read_image, write_image
    from ..data.progress import log, track, warn
    from ..data.store import atomic_path, write_json
    from ..eval.recall import recall_and_mabo
    from ..proposals.backends import make_proposer
    from .photographs import check_replaced, drawn_names, searched

    if bool(args.inputs) == (args.dataset is not None):
        raise InputError("expected either IMAGES or --dataset")
    proposer = make_proposer(args.method, args.max_boxes, args.seed)
    dataset: SampleList | None = None if args.dataset is None else dataset_from(args)
    paths, missing = searched(args.inputs) if dataset is None else ([sample.path for sample in dataset], {})
    files = {path: (args.out / name).with_suffix(".npz") for path, name in drawn_names(paths).items()}
    drawn = {path: args.out / "images" / f"{file.stem}.jpg" for path, file in files.items() if args.draw}
    protect_inputs(args, [*files.values(), *drawn.values(), args.out / "recall.json"], paths)
    check_replaced(drawn.values())
    found, failed = [], len(missing)
    for path in track(fetched_ahead(paths), "proposals", len(paths), args.quiet):
        boxes = np.zeros((0, 4), np.float32)
        try:
            image = read_image(path)
            boxes = proposer(image, path.stem)
        except ImageError as error:
            failed += 1
            warn(f"sppnet: {error}")
        else:
            with atomic_path(files[path], durable=False) as temporary:
                np.savez(temporary, boxes=boxes)
            if args.draw:
                try:
                    write_image(drawn[path], draw_ranked(image, boxes[:DRAWN]), comment=DRAWING)
                except (InputError, OSError) as error:
                    failed += 1
                    warn(f"sppnet: {path}: cannot be drawn ({error}); its boxes are kept")
        found.append(boxes)
    log(f"{sum(map(len, found))} boxes in {len(paths) + len(missing) - failed} images: {args.out}", args.quiet)
    if dataset is not None:
        samples = list(dataset)
        coverage = recall_and_mabo(
            found,
            [sample.boxes for sample in samples],
            [sample.labels for sample in samples],
            [sample.difficult for sample in samples],
        )
        write_json(args.out / "recall.json", {"method": args.method, **coverage.to_dict()})
        print(coverage_table(coverage, dataset.class_names))
    return 1 if failed else 0


def coverage_table(coverage: Coverage, class_names: tuple[str, ...]) -> str:
    """Table of the average best overlap of each class, MABO and recall."""
    rows = [(class_names[label], overlap) for label, overlap in coverage.average_best_overlap.items()]
    rows.append(("MABO", coverage.mabo))
    rows.extend((f"recall at {threshold:g}", share) for threshold, share in coverage.recall.items())
    width = max(len(name) for name, _ in rows)
    head = (
        f"{coverage.objects} objects (difficult ones left out), "
        f"{coverage.proposals / max(1, coverage.images):.0f} boxes an image, {coverage.images} images"
    )
    return "\n".join([head, *(f"{name:<{width}}  {value:.3f}" for name, value in rows)])
