"""``sppnet classify predict``: label photographs; a table and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..arguments import add_count, add_images_argument
from ..common import INTERRUPTED, protect_inputs, resolve_device
from ..parser import CommandParser
from .evaluate import add_classifier_arguments, views_from

HELP = """Label photographs: files, folders (searched through), globs or lists of these.

Prints a table of the most probable labels and writes a JSON file with the probability of every class. A file that
cannot be read is named and skipped; the exit status is then 1."""

#: Labels per photograph in the table for single-label models.
TOP = 3


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet classify predict``."""
    add_images_argument(parser, "+")
    add_classifier_arguments(parser)
    output = parser.groups["output"]
    add_count(
        output,
        "--top",
        None,
        f"labels of a photograph in the table (default: {TOP}; for a model with any number of labels, those of a "
        "probability above 0.5, and at least one)",
    )
    output.add_argument(
        "-o", "--out", type=Path, default=Path("labels.json"), metavar="FILE", help="JSON file to write"
    )


def run(args: argparse.Namespace) -> int:
    """Label every photograph; return 1 if some could not be read."""
    import numpy as np

    from ... import __version__
    from ...data.errors import ImageError
    from ...data.folder import FolderDataset
    from ...data.progress import log, track, warn
    from ...data.store import writable_text, write_json
    from ...detector.classification.network import SPPClassifier
    from ...detector.classification.predict import predict_all
    from ...eval.report import text_table

    photographs = FolderDataset(args.images)
    protect_inputs(args, [args.out])
    classifier = SPPClassifier.load(args.model, resolve_device(args))
    views = views_from(args, classifier)
    class_names = [writable_text(name) for name in classifier.class_names]
    rows: list[list[Any]] = []
    labelled: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    stopped = False
    try:
        with closing(predict_all(classifier, photographs, views)) as predictions:
            progress = track(predictions, "classifying", len(photographs), args.quiet)
            for photograph, prediction in zip(photographs, progress, strict=True):
                file = writable_text(photograph.id)
                if isinstance(prediction, ImageError):
                    failed.append({"file": file, "error": writable_text(str(prediction))})
                    warn(f"sppnet: {prediction}")
                    continue
                order = np.argsort(-prediction.probabilities, kind="stable")
                labels = [(class_names[index], float(prediction.probabilities[index])) for index in order]
                most = shown(labels, args.top, classifier.multi_label)
                rows += [[file if rank == 0 else "", *label] for rank, label in enumerate(labels[:most])]
                height, width = prediction.image_size
                listed = [{"label": name, "probability": probability} for name, probability in labels]
                labelled.append({"file": file, "width": width, "height": height, "labels": listed})
    except KeyboardInterrupt:
        stopped = True  # what was found is kept
    result = {"model": writable_text(str(args.model)), "version": __version__, "classes": class_names}
    write_json(args.out, {**result, "images": labelled, "failed": failed})
    if rows:
        print(text_table(["photograph", "label", "probability"], rows))
    log(f"{len(labelled)} photographs: {args.out}", args.quiet)
    if stopped:
        done = len(labelled) + len(failed)
        warn(f"sppnet: interrupted after {done} of {len(photographs)} photographs; what was found is written")
        return INTERRUPTED
    return 1 if failed else 0


def shown(labels: Sequence[tuple[str, float]], top: int | None, multi_label: bool) -> int:
    """Number of a photograph's labels in the table, most probable first; ``--help`` states the rules."""
    if top is not None:
        return top
    return max(1, sum(probability > 0.5 for _, probability in labels)) if multi_label else TOP
