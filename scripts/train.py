"""``sppnet train``: train a detector on labelled photographs."""

from __future__ import annotations

import argparse
from shlex import quote
from typing import TYPE_CHECKING

from ..detector.options import (
    AUTO,
    BACKBONE,
    EFFORTS,
    FEW_IMAGES,
    FINE_STRIDE,
    FIVE_SCALES,
    FOLDS,
    HELD_OUT,
    METHODS,
    SCORERS,
    STRIDE,
    BoxOptions,
    DetectOptions,
    FeatureOptions,
    FineTuneOptions,
    SVMOptions,
    TrainOptions,
)
from ..detector.training.plan import CHOICES, TrainPlan
from .arguments import (
    add_backbone_arguments,
    add_channels_argument,
    add_classes_argument,
    add_compress_argument,
    add_count,
    add_dataset_arguments,
    add_fc_width_argument,
    add_features_argument,
    add_file_output,
    add_held_out_argument,
    add_ray_argument,
    integers,
)
from .cluster import check_ray, training_crew
from .common import compile_kernels, protect_inputs, refuse_other_page, resolve_device, work_folder
from .datasets import dataset_from
from .parser import CommandParser, as_typed
from .propose import METHODS as PROPOSALS

if TYPE_CHECKING:
    from ..data.sample import SampleList

HELP = """Train a detector on labelled photographs and write one model file.

Training has stages: proposals, feature maps, fine-tuning of the fc layers, SVMs with hard negatives, box regressors.
Their results stay in the folder --work: a stopped run goes on where it was, and added photographs cost only their own
part."""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet train``."""
    data, windows, learning = (parser.groups[title] for title in ("data", "windows", "learning"))
    add_dataset_arguments(parser, "trainval", split=True)
    add_classes_argument(parser)
    add_count(
        data,
        "--folds",
        None,
        "score and calibrate by cross-validation: N parts of the images, each scored by a detector that has learnt "
        "from the others (fc layers are fine-tuned again for each); by itself it does so for up to "
        f"{FEW_IMAGES} images and pool5 (default: {FOLDS})",
        least=2,
    )
    add_held_out_argument(
        parser,
        None,
        f"score and calibrate on a part of the images; by itself in all other cases (default: {HELD_OUT})",
    )
    data.add_argument(
        "--download",
        action="store_true",
        help="fetch PASCAL VOC (2007, or the year in DATASET's name) if it is missing",
    )
    windows.add_argument(
        "--proposals",
        choices=PROPOSALS,
        default=DetectOptions.proposals,
        help="method that proposes windows, in training and in the model: see --method of 'sppnet propose'; dense is "
        "for objects of a twentieth of the photograph's width",
    )
    add_count(windows, "--max-windows", DetectOptions.max_windows, "windows of an image, in training and in the model")
    add_count(windows, "--regressions", DetectOptions.regressions, "box-regression passes of the model", least=0)
    add_network_arguments(parser)
    add_effort_argument(parser)
    add_count(
        learning,
        "--epochs",
        FineTuneOptions.epochs,
        "fine-tuning: passes over the images at most; 0 leaves the fc layers as they start",
        least=0,
    )
    learning.add_argument(
        "--C",
        type=float,
        default=SVMOptions.C,
        metavar="X",
        help="weight of the SVMs' hinge loss: a larger C fits the training set more closely",
    )
    learning.add_argument(
        "--positive-weight",
        type=float,
        default=SVMOptions.positive_weight,
        metavar="X",
        help="factor on C for objects: with a larger one fewer are missed, and more is taken for one",
    )
    learning.add_argument(
        "--ridge",
        type=float,
        default=BoxOptions.ridge,
        metavar="X",
        help="weight of the squared norm in box regression: with a larger one boxes move less",
    )
    learning.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=TrainOptions.mirror,
        help="learn from mirror images too; they take their own time and disk",
    )
    learning.add_argument(
        "--learning-curve",
        action="store_true",
        help="also score detectors that learn from a quarter and a half of the images, and say what more may bring",
    )
    add_file_output(parser)
    add_ray_argument(
        parser,
        "they compute proposals and maps into the folder --work, collect hard negatives in rounds, and score; all "
        "machines need the photographs and that folder under the same paths",
    )
    parser.groups["output"].add_argument(
        "--no-keep",
        action="store_true",
        help="at the end, delete the intermediate results: they take a few MB an image, and would save time in "
        "further runs",
    )
    parser.groups["output"].add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        help="write a page for a browser beside the model, with suffix .html, as happens by itself: what was learnt "
        "from, what was chosen, how good it is on photographs that it had not learnt from, its mistakes, and what to "
        "do next",
    )


def add_effort_argument(parser: CommandParser) -> None:
    """Add ``--effort``."""
    parser.groups["learning"].add_argument(
        "--effort",
        choices=EFFORTS,
        default="normal",
        help="what the photographs decide, in place of the defaults of options that are not given: quick: scales and "
        "proposals that fit the objects; normal: also a third map, mirror images, and C and regressions by their "
        "scores on other photographs; best: more of these, a finer pyramid, and whether fine-tuned fc layers (fc7) are "
        "better",
    )


def add_network_arguments(parser: CommandParser) -> None:
    """Add the options of the network."""
    network = parser.groups["network"]
    add_trained_backbone_arguments(parser, TrainPlan.backbone)
    add_channels_argument(parser)
    network.add_argument(
        "--scales",
        type=integers,
        metavar="N,N",
        help=f"image scales: lengths of the shorter side in pixels (default: {as_typed(FeatureOptions.scales)}; "
        f"the paper's five: {as_typed(FIVE_SCALES)})",
    )
    add_features_argument(parser, FeatureOptions.kind)
    add_fc_width_argument(parser, FineTuneOptions.width)
    network.add_argument(
        "--scorer",
        choices=SCORERS,
        default=TrainPlan.scorer,
        help="linear SVMs on the features, or the softmax of the fine-tuned network",
    )
    network.add_argument(
        "--method",
        choices=METHODS,
        default=FeatureOptions.method,
        help="spp: convolutions once over the image; warp: as in R-CNN over every window, cut out and warped, a "
        "hundred times the work and 100 MB of disk for each image, to compare with",
    )
    add_compress_argument(
        parser,
        "compress the fc layers of the saved model and print the accuracy cost: svd keeps a share E of the energy or "
        "R ranks, ",
    )


def add_trained_backbone_arguments(parser: CommandParser, backbone: str, start: str = "") -> None:
    """Add the options of the convolutions that a training starts from; ``start`` begins the help of ``--backbone``."""
    add_backbone_arguments(
        parser,
        backbone,
        TrainPlan.weights,
        others=f"{start}{AUTO} (efficientnet_lite0 if its ImageNet weights are installed, otherwise mobilenet_v2; with "
        f"other --weights {BACKBONE}), ",
        stride=None,
        note=f" (default: {STRIDE} for a layer that is named; the default maps keep the network's own)",
        layer_help="layers of the network whose maps are pooled, with commas between them (default: the last before "
        f"the network's own pooling, and the last whose stride is at most {STRIDE}; to such two the efforts normal "
        f"and best add one of stride {FINE_STRIDE} for up to {FEW_IMAGES} images)",
    )


def given_choices(args: argparse.Namespace) -> frozenset[str]:
    """Options that were typed, and so are not chosen by the training."""
    return frozenset(CHOICES) & args.given


def run(args: argparse.Namespace) -> int:
    """Train; print the model's path and its held-out scores to stdout."""
    from ..data.check import look_alike_names
    from ..data.errors import InputError
    from ..data.progress import log, recording, warn
    from ..detector.training.run import HELD_OUT_FOUND, remove_work
    from ..detector.training.train import train
    from .info import calibration_lines, choice_lines, compression_lines, score_lines
    from .summary import contents, next_commands, repeating_command, summary

    if args.download:
        from ..data.download import download_voc

        args.dataset = download_voc(args.dataset, args.set, args.quiet)
    page, reports = args.out.with_suffix(".html"), args.report is not False
    protect_inputs(args, [args.out, *[page] * reports])
    if reports:
        refuse_other_page(page)
    if args.method == "warp" and args.scales is not None:
        raise InputError("--scales belongs to --method spp: windows that are warped have one size, the network's")
    if args.features == "pool5" and (fine_tuning := {"epochs", "fc_width"} & args.given):
        option = min(fine_tuning).replace("_", "-")
        raise InputError(f"--{option} belongs to fine-tuned fc layers, which --features pool5 does not have")
    if args.ray is not None:
        check_ray(args)
    chosen = {} if args.scales is None else {"scales": args.scales}
    plan = TrainPlan(
        backbone=args.backbone,
        weights=args.weights,
        layer=args.layer,
        stride=args.stride,
        channels=args.channels,
        features=FeatureOptions(levels=args.pyramid, kind=args.features, method=args.method, **chosen),
        scorer=args.scorer,
        detection=DetectOptions(args.proposals, args.max_windows, regressions=args.regressions),
        finetune=FineTuneOptions(width=args.fc_width, epochs=args.epochs),
        svm=SVMOptions(C=args.C, positive_weight=args.positive_weight),
        boxes=BoxOptions(ridge=args.ridge),
        options=TrainOptions(seed=args.seed, held_out=args.held_out, folds=args.folds, mirror=args.mirror),
        compression=args.compress,
        effort=args.effort,
        fixed=given_choices(args),
        learning_curve=args.learning_curve,
    )
    dataset = dataset_from(args, args.classes)
    known_classes(args, dataset)
    for line in contents(list(dataset), dataset.class_names):
        log(line, args.quiet)
    alike = look_alike_names(dataset.class_names)
    for one, other in alike:
        warn(f"sppnet: is '{one}' the same class as '{other}'? If so, give its objects one name in the labels")
    if alike or dataset.warnings:
        log(f"'sppnet check {quote(str(args.dataset))}' looks further and names all files", args.quiet)
    compile_kernels(args.quiet)
    device = training_device(args)
    with recording() as course, training_crew(args) as crew:
        detector = train(dataset, plan, out=args.out, work=args.work, device=device, quiet=args.quiet, crew=crew)
    card, calibration = detector.card, detector.bundle.calibration
    lines = [*choice_lines(card), *score_lines(card), *compression_lines(card)]
    lines += calibration_lines(detector.class_names, None if calibration is None else calibration.to_dict(), card)
    rest = "DATASET" if args.split is None else f"{quote(str(args.dataset))} --split {args.split:g}"
    lines += ["", summary(card), "", f"wrote {args.out}", *next_commands(str(args.out), rest)]
    command = repeating_command(args.command_line, card) if card.get("choices") else None
    if command:
        lines += ["to repeat this training without a search:", f"  {command}"]
    work = work_folder(args)
    if reports:
        from .pages.training import write_training_page

        write_training_page(page, detector, dataset, work / HELD_OUT_FOUND, course, command)
    print("\n".join(lines))
    if reports:
        log(f"look at it in a browser: {page}", args.quiet)
    if args.no_keep:
        remove_work(work)
        return 0
    megabytes = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) / 1e6
    log(f"{work} holds {megabytes:.0f} MB of proposals and features for further runs; it can be deleted", args.quiet)
    return 0


def training_device(args: argparse.Namespace) -> str:
    """Torch device of this process; with ``--ray`` that of ``--device`` is for the workers."""
    return resolve_device(args if args.ray is None else argparse.Namespace(device="auto"))


def known_classes(args: argparse.Namespace, dataset: SampleList) -> None:
    """Check the names given with ``--classes``.

    Raises
    ------
    InputError
        For a name that no object has; it lists those that there are.
    """
    from difflib import get_close_matches

    from ..data.errors import InputError

    seen = {int(label) for sample in dataset for label in sample.labels}
    unknown = [name for label, name in enumerate(dataset.class_names) if label not in seen]
    if not args.classes or not unknown:
        return
    known = dataset_from(args).class_names
    near = get_close_matches(unknown[0], known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"{args.dataset}: no object of {', '.join(unknown)} in the set {args.set}; {hint}"
        f"its classes are {', '.join(known) or 'none'}"
    )
