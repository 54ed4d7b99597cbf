"""``sppnet distil``: from photographs without labels to a backbone's weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import protect_inputs, resolve_device
from .datasets import integers

HELP = """Train a small network's convolutions, from nothing, to compute the feature map of a pretrained one.

IMAGES need no labels. The result is a file for --weights of 'sppnet train', with the same --backbone. The state after
each epoch is kept under --work, with curves: a run that was stopped goes on where it was. A photograph that cannot be
read is named and left out; the exit status is then 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet distil``."""
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="image files, folders or globs")
    parser.add_argument("--out", "-o", required=True, type=Path, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where states and curves are kept (default: FILE with .work)"
    )
    parser.add_argument(
        "--backbone",
        default="sppnet_student",
        metavar="NAME",
        help="the student, whose map must be like the teacher's (default: sppnet_student, made for mobilenet_v2)",
    )
    parser.add_argument(
        "--teacher", default="mobilenet_v2", metavar="NAME", help="who is imitated (default: mobilenet_v2)"
    )
    parser.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|FILE",
        help="the teacher's weights: torchvision's (downloaded once), or a file (default: imagenet)",
    )
    parser.add_argument(
        "--sizes",
        type=integers,
        default=(256, 192),
        metavar="N,N",
        help="sides of the crops in pixels, one each epoch in turn, the largest first (default: 256,192)",
    )
    parser.add_argument(
        "--area",
        type=area,
        default=(0.04, 0.4),
        metavar="A,B",
        help="a crop shows from a part A to a part B of a photograph: things should look as large as to the detector "
        "that is to be built on the student (default: 0.04,0.4, which is for --scales 688)",
    )
    parser.add_argument("--epochs", type=int, default=60, metavar="N", help="visits to every photograph (default: 60)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="crops in a mini-batch (default: 16)")
    parser.add_argument(
        "--rate", type=float, default=1.5e-3, metavar="R", help="AdamW's learning rate (default: 0.0015)"
    )
    parser.add_argument(
        "--held-out", type=float, default=0.05, metavar="PART", help="part that is scored, not learnt (default: 0.05)"
    )


def area(text: str) -> tuple[float, float]:
    """Two parts of a photograph from ``0.04,0.4``."""
    try:
        least, most = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two parts of a photograph, like 0.04,0.4, got '{text}'") from None
    return least, most


def run(args: argparse.Namespace) -> int:
    """Train and save; 1 when a photograph could not be read."""
    from dataclasses import replace

    from ..data.folder import find_images
    from ..data.progress import log
    from ..detector.descent.options import DISTIL_AUGMENTATION, DISTIL_LEARN
    from ..detector.distillation import distil
    from ..detector.modelfile import read_header

    protect_inputs(args, [args.out])
    learn = replace(
        DISTIL_LEARN,
        epochs=args.epochs,
        batch=args.batch,
        rate=args.rate,
        sizes=args.sizes,
        held_out=args.held_out,
        seed=args.seed,
    )
    distil(
        find_images(args.images),
        args.out,
        args.backbone,
        args.teacher,
        args.weights,
        learn,
        replace(DISTIL_AUGMENTATION, area=args.area),
        work=args.work,
        device=resolve_device(args),
        quiet=args.quiet,
    )
    log(f"wrote {args.out}; 'sppnet train --backbone {args.backbone} --weights {args.out}' builds on it", args.quiet)
    return 1 if read_header(args.out)["card"]["failed"] else 0
