"""``sppnet train``: from labelled photographs to a model file."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import compile_kernels, protect_inputs, resolve_device
from .datasets import add_dataset_arguments, dataset_from, integers, names
from .propose import METHODS as PROPOSALS

HELP = """Train a detector on labelled photographs and write one model file.

The work is done in stages (proposals, feature maps, fine-tuning of fc layers, SVMs with hard negatives, box
regressors) whose results are kept under --work: a run that was stopped goes on where it was, and more photographs cost
only their own part."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet train``."""
    add_dataset_arguments(parser, default_set="trainval")
    parser.add_argument("--out", "-o", required=True, type=Path, metavar="FILE", help="the model file to write")
    parser.add_argument(
        "--classes", type=names, metavar="A,B", help="learn these only (default: all that are labelled)"
    )
    parser.add_argument(
        "--backbone",
        default="squeezenet1_1",
        metavar="NAME",
        help="a torchvision classification network, or zf5, the paper's (default: squeezenet1_1)",
    )
    parser.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="torchvision's weights (downloaded once), untrained, or a state dict (.safetensors, .pth) "
        "(default: imagenet)",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="the node of the network whose map is pooled (default: the last of stride 16)"
    )
    parser.add_argument(
        "--pyramid", type=integers, default=(1, 2, 3, 6), metavar="N,N", help="pyramid levels (default: 1,2,3,6)"
    )
    parser.add_argument(
        "--features",
        choices=("pool5", "fc6", "fc7"),
        default="pool5",
        help="the layer that the SVMs see: pooled windows, or fc layers that are fine-tuned first (default: pool5)",
    )
    parser.add_argument(
        "--fc-width",
        type=int,
        metavar="N",
        help="numbers in fc6 and fc7 of a backbone without fc layers of its own (default: 1024)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="visits of the fine-tuning to every image, at most; 0 leaves the fc layers as they start (default: 8)",
    )
    parser.add_argument(
        "--scorer",
        choices=("svm", "softmax"),
        default="svm",
        help="SVMs on the features, or the fine-tuned network's own last layer (default: svm)",
    )
    parser.add_argument(
        "--C",
        type=float,
        default=0.001,
        metavar="X",
        help="weight of the SVMs' hinge loss: the larger, the closer the fit to the training set (default: 0.001)",
    )
    parser.add_argument(
        "--compress",
        metavar="svd[=E|R],bfloat16",
        help="save smaller and faster fc layers: truncated SVD that keeps a share E of the energy or R ranks, half the "
        "bytes, or both; what that costs on held-out images is printed",
    )
    parser.add_argument(
        "--scales",
        type=integers,
        metavar="N,N",
        help="lengths of the image's shorter side (default: 688; the paper's five: 480,576,688,864,1200)",
    )
    parser.add_argument(
        "--proposals",
        choices=PROPOSALS,
        default="fast",
        help="how windows are found, here and by the model: as --method of 'sppnet propose' says; dense is for objects "
        "of a twentieth of the photograph's width (default: fast)",
    )
    parser.add_argument(
        "--max-windows",
        type=int,
        default=2000,
        metavar="N",
        help="windows looked at in an image, here and by the model (default: 2000)",
    )
    parser.add_argument(
        "--regressions",
        type=int,
        default=1,
        metavar="N",
        help="how often the model regresses a box, each time from where it was moved to (default: 1)",
    )
    parser.add_argument(
        "--method",
        choices=("spp", "warp"),
        default="spp",
        help="the convolutions run over the image, once, or, as in R-CNN, over every window, cut out and warped: a "
        "hundred times the work and 100 MB of disk for each image, to compare with (default: spp)",
    )
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.1,
        metavar="PART",
        help="part of the images that the detector is scored on before they join the training (default: 0.1)",
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where stages are kept (default: the model file's name with .work)"
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch PASCAL VOC (2007, or the year DATASET is named for) if it is missing",
    )


def run(args: argparse.Namespace) -> int:
    """Train; the model's path and its held-out scores go to stdout."""
    from ..data.errors import InputError
    from ..data.progress import log
    from ..detector.options import Compression, DetectOptions, FeatureOptions, FineTuneOptions, SVMOptions, TrainOptions
    from ..detector.training.plan import TrainPlan
    from ..detector.training.train import train
    from .info import calibration_lines, compression_lines, score_lines

    if args.download:
        from ..data.download import download_voc

        args.dataset = download_voc(args.dataset, args.set, args.quiet)
    protect_inputs(args, [args.out])
    if args.method == "warp" and args.scales is not None:
        raise InputError("--scales belongs to --method spp: windows that are warped have one size, the network's")
    chosen = {} if args.scales is None else {"scales": args.scales}
    given = {"width": args.fc_width, "epochs": args.epochs}
    plan = TrainPlan(
        backbone=args.backbone,
        weights=args.weights,
        layer=args.layer,
        features=FeatureOptions(levels=args.pyramid, kind=args.features, method=args.method, **chosen),
        scorer=args.scorer,
        detection=DetectOptions(args.proposals, args.max_windows, regressions=args.regressions),
        finetune=FineTuneOptions(**{name: value for name, value in given.items() if value is not None}),
        svm=SVMOptions(C=args.C),
        options=TrainOptions(seed=args.seed, held_out=args.held_out),
        compression=None if args.compress is None else Compression.parse(args.compress),
    )
    dataset = dataset_from(args, args.classes)
    compile_kernels(args.quiet)
    device = resolve_device(args)
    detector = train(dataset, plan, out=args.out, work=args.work, device=device, quiet=args.quiet)
    card, calibration = detector.card, detector.bundle.calibration
    lines = [*score_lines(card), *compression_lines(card)]
    lines += calibration_lines(detector.class_names, None if calibration is None else calibration.to_dict(), card)
    print("\n".join([*lines, f"wrote {args.out}"]))
    work = args.work or Path(f"{args.out}.work")
    megabytes = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) / 1e6
    log(f"{work} holds {megabytes:.0f} MB of proposals and features for further runs; it can be deleted", args.quiet)
    return 0
