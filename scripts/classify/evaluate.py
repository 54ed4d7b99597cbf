"""``sppnet classify evaluate``: measure the accuracy of a classification network."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import CLASSIFIER_HELP, add_folder_output, add_labelled_arguments, integers
from ..common import protect_inputs, resolve_device
from ..datasets import known_only, labelled_from, listed_folders
from ..parser import CommandParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...data.labelled import LabelledImages
    from ...detector.classification.network import SPPClassifier
    from ...detector.classification.views import Views

HELP = """Label the photographs of a labelled set and measure the accuracy, in one view of each or many.

Many views are pooled from feature maps of the whole photograph: the convolutions run once for each scale. Classes that
the model does not know are named and left out. Writes DIR/metrics.json and DIR/predictions.csv; prints the table. A
photograph that cannot be read is named and skipped; the exit status is then 1."""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet classify evaluate``."""
    add_labelled_arguments(parser, "test")
    add_classifier_arguments(parser)
    parser.groups["network"].add_argument(
        "--from-crops",
        action="store_true",
        help="run the network on each view, cut out, instead of pooling it from the map of the photograph: slower, to "
        "compare with",
    )
    add_folder_output(parser, "evaluation")


def add_classifier_arguments(parser: CommandParser) -> None:
    """Add ``--model``, ``--views`` and ``--scales``."""
    network = parser.groups["network"]
    network.add_argument("--model", required=True, type=Path, metavar="M", help=CLASSIFIER_HELP)
    network.add_argument(
        "--views",
        default="one",
        metavar="one|full|ten|96|98",
        help="views whose mean is the result. one: the square in the centre; full: the whole photograph and its mirror "
        "image; ten: centre and corners, and their mirror images; 96: the paper's, from six scales; 98: 96, and full "
        "at a larger scale; or several with + between them",
    )
    network.add_argument(
        "--scales",
        type=integers,
        metavar="N,N",
        help="lengths of the photograph's shorter side that these views are taken from (default: those of the views, "
        "in proportion to the training size)",
    )


def views_from(args: argparse.Namespace, classifier: SPPClassifier) -> Sequence[Views]:
    """Views of the arguments.

    Raises
    ------
    InputError
        When views are unknown, scales are too small, or a network that takes only crops should see whole photographs.
    """
    from ...data.errors import InputError
    from ...detector.classification.views import named_views

    views = named_views(args.views, classifier.size, args.scales)
    if classifier.input_fit == "crop" and any(one.places == "full" for one in views):
        side = classifier.size
        raise InputError(
            f"{args.model}: without SPP it takes only crops of {side} x {side} pixels, not whole photographs; expected "
            f"other --views than '{args.views}'"
        )
    return views


def run(args: argparse.Namespace) -> int:
    """Label, score, write; return 1 if some photographs could not be read (they are left out)."""
    from time import perf_counter

    import numpy as np

    from ...data.errors import ImageError, InputError
    from ...data.progress import track, warn
    from ...data.store import write_json
    from ...detector.classification.network import SPPClassifier
    from ...detector.classification.predict import predict_all
    from ...eval.classification import classification_ap, classification_table, evaluate_single

    protect_inputs(args, [args.out / "metrics.json", args.out / "predictions.csv"])
    classifier = SPPClassifier.load(args.model, resolve_device(args))
    views = views_from(args, classifier)
    folders, images = listed_folders(args), labelled_from(args)
    images = known_only(images, folders, classifier.class_names, classifier.multi_label, owner=str(args.model))
    found, read = [], []
    start = perf_counter()
    with closing(predict_all(classifier, images, views, args.from_crops)) as predictions:
        for index, prediction in enumerate(track(predictions, "classifying", len(images), args.quiet)):
            if isinstance(prediction, ImageError):
                warn(f"sppnet: {prediction}")
            else:
                found.append(prediction.probabilities)
                read.append(index)
    seconds = perf_counter() - start
    if not found:
        raise InputError(f"{folders}: none of {len(images)} photographs can be read")
    done, scores = images.subset(read), np.stack(found)
    figures: dict[str, Any] = {"images": len(done), "model": str(args.model), "views": args.views}
    if images.multi_label:
        result = classification_ap(scores, done.targets, classifier.class_names)
        figures["metric"] = {"voc07": result.to_dict("voc07"), "voc": result.to_dict("voc")}
        table = classification_table(result)
    else:
        single = evaluate_single(scores, done.labels, classifier.class_names)
        figures["metric"] = single.to_dict()
        table = classification_table(single)
    write_json(args.out / "metrics.json", figures)
    write_predictions(args.out / "predictions.csv", done, scores)
    print(table)
    print(f"{1e3 * seconds / len(images):.0f} ms for a photograph, views '{args.views}', reading included")
    return 1 if len(done) < len(images) else 0


def write_predictions(path: Path, images: LabelledImages, scores: NDArray[Any]) -> None:
    """Write ``image,class,probability,shown`` for each image and class: 1 if shown, 0 if not, -1 if ignored."""
    import csv

    from ...data.store import atomic_path, writable_text

    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "class", "probability", "shown"])
        class_names = [writable_text(name) for name in images.class_names]
        for image, row, targets in zip(images, scores, images.targets, strict=True):
            for name, score, target in zip(class_names, row, targets, strict=True):
                writer.writerow([writable_text(image.name), name, f"{score:.6g}", int(target)])
