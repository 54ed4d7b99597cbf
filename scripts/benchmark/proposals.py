"""``sppnet benchmark proposals``: compare our selective search with OpenCV's."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ...detector.options import DetectOptions
from ..arguments import add_count, add_dataset_arguments
from ..parser import CommandParser

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELP = """Time our selective search (fast) against OpenCV's fast mode, image by image in turns, and compare how well the
first 2,000 boxes of each cover the labelled objects. Needs opencv-contrib-python-headless.

Without --dataset it uses generated scenes; photographs tell more."""

BOXES = DetectOptions.max_windows


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet benchmark proposals``."""
    add_dataset_arguments(parser, None, "--dataset", images=False)
    add_count(parser.groups["measurement"], "--images", 50, "images, drawn from the set by --seed")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Times in seconds and coverage of both sides, and the ratio of their times image by image."""
    from time import perf_counter

    from ...data.progress import track
    from ...eval.recall import recall_and_mabo
    from ...eval.timing import Times, ratios
    from ...proposals.backends import make_proposer

    proposers = {name: make_proposer(method, BOXES) for name, method in (("sppnet", "fast"), ("opencv", "opencv"))}
    images, *labelled = _labelled_images(args)
    seconds: dict[str, list[float]] = {name: [] for name in proposers}
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in proposers}
    for proposer in proposers.values():
        proposer(images[0]())  # warm-up: compilation and memory
    for image in track(images, "comparing", quiet=args.quiet):
        pixels = image()
        for name, proposer in proposers.items():
            start = perf_counter()
            found[name].append(proposer(pixels))
            seconds[name].append(perf_counter() - start)
    times = {name: Times(tuple(taken)) for name, taken in seconds.items()}
    return {
        "data": "generated scenes" if args.dataset is None else f"{args.dataset} {args.set or ''}".strip(),
        "images": len(images),
        "first_boxes": BOXES,
        "ratio": ratios(times["opencv"], times["sppnet"]).to_dict(),
        **{
            name: {"seconds": times[name].to_dict(), **recall_and_mabo(found[name], *labelled).to_dict()}
            for name in proposers
        },
    }


def _labelled_images(args: argparse.Namespace) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Functions that read the images, and the boxes, labels and difficult flags of their objects."""
    import numpy as np

    rng = np.random.default_rng(args.seed)
    if args.dataset is None:
        from ...data.scenes import draw_scene

        scenes = [draw_scene(rng, (375, 500)) for _ in range(args.images)]
        images: list[Any] = [lambda scene=scene: scene.image for scene in scenes]
        return images, *_labels(scenes)
    from ...data.open import open_dataset

    dataset = open_dataset(args.dataset, args.set)
    chosen = sorted(rng.permutation(len(dataset))[: args.images])
    samples = [dataset[int(index)] for index in chosen]
    return [lambda sample=sample: sample.image for sample in samples], *_labels(samples)


def _labels(samples: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    return (
        [sample.boxes for sample in samples],
        [sample.labels for sample in samples],
        [sample.difficult for sample in samples],
    )


def table(result: dict[str, Any]) -> str:
    """Result as text."""
    thresholds = list(result["sppnet"]["recall"])
    head = ["", "median s", "boxes", "MABO", *(f"recall {threshold}" for threshold in thresholds)]
    lines = [head]
    for name, label in (("sppnet", "sppnet fast"), ("opencv", "OpenCV fast")):
        side = result[name]
        shares = [side["mabo"], *(side["recall"][threshold] for threshold in thresholds)]
        numbers = [f"{side['seconds']['median']:.3f}", f"{side['proposals_per_image']:.0f}"]
        lines.append([label, *numbers, *("-" if share is None else f"{share:.3f}" for share in shares)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    low, high = result["ratio"]["quartiles"]
    return "\n".join(
        [
            f"{result['data']}: {result['images']} images, {result['sppnet']['objects']} objects, "
            f"the first {result['first_boxes']} boxes of each image",
            *(
                "  ".join(
                    [
                        line[0].ljust(widths[0]),
                        *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
                    ]
                )
                for line in lines
            ),
            f"sppnet is {result['ratio']['median']:.1f} times as fast (half of the images: {low:.1f} to {high:.1f})",
        ]
    )
