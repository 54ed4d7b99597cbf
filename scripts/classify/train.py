"""``sppnet classify train``: train a classification network on labelled photographs."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...detector.classification.options import BACKBONE, WEIGHTS, ClassifierOptions
from ...detector.descent.options import FITS, KINDS, OPTIMIZERS, SCHEDULES, SIZE_RULES, Augmentation, LearnOptions
from ..arguments import (
    add_backbone_arguments,
    add_count,
    add_fc_width_argument,
    add_file_output,
    add_held_out_argument,
    add_labelled_arguments,
    integers,
)
from ..common import protect_inputs, resolve_device, work_folder
from ..datasets import known_only, labelled_from, listed_folders, open_and_warn
from ..parser import CommandParser

HELP = """Train a classification network that takes images of any size, at one size or at several in turn.

FOLDER holds one folder of photographs for each class, or is a VOC set, whose photographs have any number of labels.
Writes one model file, with the scores on held-out photographs. The folder --work keeps curves and the state after each
epoch: a stopped run goes on where it was. A photograph that cannot be read is named and skipped; the exit status is
then 1."""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet classify train``."""
    add_labelled_arguments(parser, "trainval")
    data = parser.groups["data"]
    add_held_out_argument(parser, LearnOptions.held_out)
    data.add_argument(
        "--val", type=Path, metavar="FOLDER", help="labelled photographs to score on instead of a held-out part"
    )
    data.add_argument("--val-set", default="val", metavar="SET", help="image set of --val, where it is a VOC dataset")
    data.add_argument(
        "--val-images",
        type=Path,
        metavar="DIR",
        help="folder with the images of --val, where it is a COCO annotation file (default: --images)",
    )
    add_backbone_arguments(parser, BACKBONE, WEIGHTS)
    add_fc_width_argument(parser, ClassifierOptions.width)
    parser.groups["network"].add_argument(
        "--no-spp",
        choices=[fit for fit in FITS if fit != ClassifierOptions.fit],
        help="the twin network without SPP, to compare with: the finest pyramid level alone, on images cropped or "
        "warped to one size",
    )
    _add_learning_arguments(parser.groups["learning"])
    add_file_output(parser)


def _add_learning_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sizes",
        type=integers,
        default=LearnOptions.sizes,
        metavar="N,N",
        help="sides of the training images in pixels, the largest first (the paper's two: 224,180)",
    )
    group.add_argument(
        "--size-rule",
        choices=SIZE_RULES,
        default=LearnOptions.size_rule,
        help="alternate: each epoch has the next of the sizes; range: a random size between the smallest and the "
        "largest",
    )
    add_count(group, "--epochs", LearnOptions.epochs, "passes over the photographs")
    add_count(group, "--batch", LearnOptions.batch, "photographs in a mini-batch")
    group.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="learning rate of new layers; pretrained convolutions learn at a thirtieth of it (default: with sgd 0.1, "
        "or 0.01 where the fc layers are pretrained too; with adamw a fiftieth of these)",
    )
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default=LearnOptions.optimizer,
        help="stochastic gradient descent with Nesterov's momentum, or AdamW",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=LearnOptions.schedule,
        help="how the rate falls: along half a cosine; to a tenth, twice; to a tenth when the held-out loss stops "
        "falling",
    )
    group.add_argument(
        "--warmup", type=float, default=LearnOptions.warmup, metavar="N", help="epochs in which the rate rises"
    )
    group.add_argument(
        "--augment",
        choices=KINDS,
        default=Augmentation.kind,
        help="none: the centre crop; paper: crops of the centre and corners, mirrored, with altered colours; strong: "
        "random regions, and stronger changes",
    )
    group.add_argument(
        "--dropout",
        type=float,
        default=ClassifierOptions.dropout,
        metavar="P",
        help="share of fc6's and fc7's outputs that is dropped while learning",
    )
    group.add_argument(
        "--smoothing", type=float, default=LearnOptions.smoothing, metavar="P", help="label smoothing, such as 0.1"
    )
    group.add_argument(
        "--average",
        type=float,
        default=LearnOptions.average,
        metavar="D",
        help="decay of the weights' running mean, such as 0.99, which the model keeps; 0 keeps the last weights",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="precision of products while learning; auto is bfloat16 where that is fast",
    )


def run(args: argparse.Namespace) -> int:
    """Train; print the path and the held-out scores to stdout. Return 1 if some photographs could not be read."""
    from ...data.progress import log
    from ...detector.classification.train import train_classifier
    from ..info import classifier_scores

    protect_inputs(args, [args.out])
    learn = LearnOptions(
        epochs=args.epochs,
        batch=args.batch,
        rate=args.rate,
        optimizer=args.optimizer,
        schedule=args.schedule,
        warmup=args.warmup,
        sizes=args.sizes,
        size_rule=args.size_rule,
        smoothing=args.smoothing,
        average=args.average,
        mixed={"auto": None, "float32": False, "bfloat16": True}[args.precision],
        held_out=args.held_out,
        seed=args.seed,
    )
    network = ClassifierOptions(
        levels=args.pyramid, width=args.fc_width, dropout=args.dropout, size=args.sizes[0], fit=args.no_spp or "any"
    )
    images = labelled_from(args)
    validation = None
    if args.val is not None:
        val_images = args.val_images or (None if args.val.is_dir() else args.images)
        validation = known_only(
            open_and_warn([args.val], args.val_set, val_images, args),
            str(args.val),
            images.class_names,
            images.multi_label,
            owner=listed_folders(args),
        )
    classifier = train_classifier(
        images,
        args.out,
        backbone=args.backbone,
        weights=args.weights,
        layer=args.layer,
        stride=args.stride,
        network=network,
        learn=learn,
        augmentation=Augmentation(kind=args.augment),
        validation=validation,
        work=args.work,
        device=resolve_device(args),
        quiet=args.quiet,
    )
    print("\n".join([*classifier_scores(classifier.card), f"wrote {args.out}"]))
    work = work_folder(args)
    log(f"curves: {work / 'loss.svg'}, accuracy.svg, history.csv; {work} can be deleted", args.quiet)
    return 1 if classifier.card["failed"] else 0
