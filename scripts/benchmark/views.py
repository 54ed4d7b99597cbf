"""``sppnet benchmark views``: time many views pooled from maps of the whole image against the network on each crop."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...detector.classification.options import BACKBONE, ClassifierOptions
from ...detector.options import STRIDE
from ..arguments import CLASSIFIER_HELP, add_count, add_fc_width_argument, add_map_arguments, add_pyramid_argument
from ..common import resolve_device
from ..parser import CommandParser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ...detector.classification.network import SPPClassifier
    from ...detector.classification.views import Views

HELP = """\
Time the classification of photographs in many views: views pooled from maps of the whole image at each scale, as in
SPP-net, against the network on each crop, in the fastest of several batches and one by one. All sides take turns, from
the decoded photograph to mean probabilities; the table also shows how far these differ.

Without --model the network is random: the times are those of a trained network, the differences say little.
"""

#: Names of the sides.
MAPS, CROPS, SINGLY = "maps of the whole image", "crops in batches", "crops one at a time"

#: Parts that are timed too: everything before the fc layers, and the fc layers, which are the same on both sides.
MAPS_PART, CROPS_PART, FC_PART = "maps and pooling", "crops in batches and pooling", "fc layers"

_BATCHES = {"cpu": (4, 8, 16, 32, 96), "cuda": (16, 32, 96)}


def add_arguments(parser: CommandParser) -> None:
    """Options of ``sppnet benchmark views``."""
    network, measurement = parser.groups["network"], parser.groups["measurement"]
    parser.groups["data"].add_argument(
        "images",
        nargs="*",
        metavar="IMAGES",
        help="image files, folders, globs or lists of these (default: the photographs that come with scikit-image)",
    )
    source = network.add_mutually_exclusive_group()
    source.add_argument("--model", type=Path, metavar="M", help=CLASSIFIER_HELP)
    source.add_argument("--backbone", default=BACKBONE, metavar="NAME", help="or a network with random weights")
    add_map_arguments(parser, None, f" (default: {STRIDE})")
    add_pyramid_argument(parser)
    add_fc_width_argument(parser, ClassifierOptions.width)
    add_count(network, "--classes", 100, "classes of the random network")
    network.add_argument(
        "--views", default="96", metavar="NAME", help="one, ten, 96, full, 98, or several with + between them"
    )
    add_count(measurement, "--rounds", 5, "timed rounds of a photograph")
    add_count(
        measurement, "--sample", None, "crops that are timed one at a time; the time is scaled to all (default: all)"
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds by side, for each photograph in each round; ratios; and differences between the results."""
    import torch

    from ...data.errors import ImageError, InputError
    from ...data.example_photographs import sample_photographs
    from ...data.folder import find_images
    from ...data.image import read_image
    from ...data.progress import track, warn
    from ...detector.classification.views import named_views
    from ...eval.timing import Times, ratios

    classifier = make_classifier(args, resolve_device(args))
    views = named_views(args.views, classifier.size)
    batch, failed, timed, apart = None, [], [], []
    paths = find_images(args.images) if args.images else sample_photographs()
    for path in track(paths, "photographs", quiet=args.quiet):
        try:
            image = read_image(path)
        except ImageError as error:
            warn(f"sppnet: {error}")
            failed.append(str(path))
            continue
        batch = batch or best_batch(classifier, image, views)
        seconds, difference = measure_one(classifier, image, views, batch, args)
        timed.append(seconds)
        apart.append({"file": str(path), **difference})
    if not timed:
        raise InputError(f"none of {len(paths)} photographs can be read")
    times = {name: Times(tuple(second for one in timed for second in one[name].seconds)) for name in timed[0]}
    pairs = {CROPS: MAPS, SINGLY: MAPS, CROPS_PART: MAPS_PART}
    return {
        "network": str(args.model) if args.model else args.backbone,
        "layer": classifier.layer,
        "stride": classifier.stride,
        "random": args.model is None,
        "device": next(classifier.backbone.parameters()).device.type,
        "threads": torch.get_num_threads(),
        "views": args.views,
        "size": classifier.size,
        "levels": list(classifier.levels),
        "batch": batch,
        "rounds": args.rounds,
        "photographs": apart,
        "times": {name: taken.to_dict() for name, taken in times.items()},
        "times_faster": {slow: ratios(times[slow], times[fast]).to_dict() for slow, fast in pairs.items()},
        "same_top1": sum(one["same_top1"] for one in apart) / len(apart),
        "failed": failed,
    }


def make_classifier(args: argparse.Namespace, device: str) -> SPPClassifier:
    """Load the model of ``--model``, or create a random network.

    Raises
    ------
    InputError
        When the model takes only one image size, or the network cannot be created.
    """
    from ...data.errors import InputError
    from ...detector.classification.network import SPPClassifier

    if args.model is not None:
        if args.layer is not None or args.stride is not None:
            raise InputError("--model contains its network; do not combine it with --layer or --stride")
        classifier = SPPClassifier.load(args.model, device)
        if classifier.input_fit != "any":
            raise InputError(f"{args.model}: takes squares only; expected a network with spatial pyramid pooling")
        return classifier
    options = ClassifierOptions(levels=args.pyramid, width=args.fc_width)
    names = [f"class {number}" for number in range(args.classes)]
    network = SPPClassifier(
        names, args.backbone, layer=args.layer, options=options, seed=args.seed, stride=args.stride or STRIDE
    )
    return network.eval().to(device)


def measure_one(
    classifier: SPPClassifier, image: NDArray[np.uint8], views: Sequence[Views], batch: int, args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Times by side of one photograph, and a comparison of the results."""
    import numpy as np

    from ...detector.classification.views import from_crops, from_maps, rows_from_crops, rows_from_maps
    from ...eval.timing import Times, interleave, synchroniser

    ours, theirs = from_maps(classifier, image, views), from_crops(classifier, image, views, batch)
    rows = rows_from_maps(classifier, image, views)
    # Cropped before timing, which favours the crops by a few milliseconds.
    crops = single_crops(classifier, image, views)
    sample = crops[:: -(-len(crops) // (args.sample or len(crops)))]
    jobs: dict[str, Callable[[], Any]] = {
        MAPS: lambda: from_maps(classifier, image, views),
        CROPS: lambda: from_crops(classifier, image, views, batch),
        SINGLY: lambda: one_at_a_time(classifier, sample),
        MAPS_PART: lambda: rows_from_maps(classifier, image, views),
        CROPS_PART: lambda: rows_from_crops(classifier, image, views, batch),
        FC_PART: lambda: classifier.logits(rows),
    }
    device = next(classifier.backbone.parameters()).device.type
    times = interleave(jobs, repeats=args.rounds, warmup=1, synchronise=synchroniser(device))
    factor = len(crops) / len(sample)
    times[SINGLY] = Times(tuple(second * factor for second in times[SINGLY].seconds))
    apart = np.abs(ours - theirs)
    return times, {
        "height": image.shape[0],
        "width": image.shape[1],
        "views": len(rows),
        "same_top1": bool(ours.argmax() == theirs.argmax()),
        "mean_apart": float(apart.mean()),
        "max_apart": float(apart.max()),
    }


def single_crops(
    classifier: SPPClassifier, image: NDArray[np.uint8], views: Sequence[Views]
) -> list[NDArray[np.uint8]]:
    """Views cropped from the scaled images, uint8 (h, w, 3)."""
    import numpy as np

    from ...detector.classification.places import view_windows
    from ...detector.windows.scales import resize

    crops = []
    for one in views:
        for scale in one.scales:
            scaled = resize(image, scale)[0]
            for x1, y1, x2, y2 in view_windows(scaled.shape[:2], classifier.size, one.places):
                crop = scaled[y1:y2, x1:x2]
                crops += [crop, np.ascontiguousarray(crop[:, ::-1])] if one.mirror else [crop]
    return crops


def one_at_a_time(classifier: SPPClassifier, crops: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Mean probabilities (classes,) of crops (h, w, 3), run through the network one at a time."""
    import torch

    backbone, device = classifier.backbone, next(classifier.backbone.parameters()).device
    total = torch.zeros(len(classifier.class_names), device=device)
    with torch.inference_mode():
        for crop in crops:
            row = classifier.pooling(backbone(backbone.preprocess(crop)))
            total += classifier.probabilities(classifier.logits(row))[0]
    return total / len(crops)


def best_batch(classifier: SPPClassifier, image: NDArray[np.uint8], views: Sequence[Views]) -> int:
    """Measure the fastest batch size for the convolutions of crops."""
    from ...detector.classification.views import rows_from_crops
    from ...eval.timing import fastest, synchroniser

    device = next(classifier.backbone.parameters()).device.type
    return fastest(
        lambda batch: rows_from_crops(classifier, image, views, batch), _BATCHES[device], 3, synchroniser(device)
    )


def table(result: dict[str, Any]) -> str:
    """Result as text."""
    from ...eval.report import text_table

    times, faster = result["times"], result["times_faster"]
    rows = [
        [
            name,
            f"{1e3 * taken['median']:.1f}",
            f"{1e3 * taken['quartiles'][0]:.1f} to {1e3 * taken['quartiles'][1]:.1f}",
            f"{faster[name]['median']:.1f}" if name in faster else "",
        ]
        for name, taken in times.items()
    ]
    photographs = result["photographs"]
    agreement = [
        [
            Path(one["file"]).name,
            f"{one['width']} x {one['height']}",
            one["views"],
            "yes" if one["same_top1"] else "no",
            f"{one['mean_apart']:.5f}",
            f"{one['max_apart']:.5f}",
        ]
        for one in photographs
    ]
    network = f"{result['network']}, random weights" if result["random"] else result["network"]
    lines = [
        f"Views '{result['views']}' of {len(photographs)} photographs, {network}, levels "
        f"{','.join(map(str, result['levels']))}, {result['device']}, {result['threads']} threads",
        f"{result['rounds']} rounds, milliseconds a photograph; batches of {result['batch']} crops, the quickest tried",
        text_table(["", "median", "quartiles", "maps are faster"], rows),
        "",
        "probabilities from maps and from crops",
        text_table(["photograph", "pixels", "views", "same top-1", "mean apart", "max apart"], agreement),
    ]
    if result["failed"]:
        lines.append(f"photographs that could not be read: {', '.join(result['failed'])}")
    return "\n".join(lines)
