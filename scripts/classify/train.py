"""``sppnet classify train``: from labelled photographs to a classification network in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common import protect_inputs, resolve_device
from ..datasets import add_labelled_arguments, integers, known_only, labelled_from, listed_folders, open_and_warn

HELP = """Train a classification network that takes images of any size, at one size or at several in turn.

FOLDER holds one folder of photographs for each class, or is a VOC set, whose photographs have any number of labels.
The network, with the scores on held-out photographs, goes to one file; curves of the training go to --work. After each
epoch its state is kept there, too: a run that was stopped goes on where it was. A photograph that cannot be read is
named and left out; the exit status is then 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet classify train``."""
    add_labelled_arguments(parser, default_set="trainval")
    parser.add_argument("--out", "-o", required=True, type=Path, metavar="FILE", help="the model file to write")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where states and curves are kept (default: FILE with .work)"
    )
    _add_held_out_arguments(parser.add_argument_group("held-out photographs"))
    _add_network_arguments(parser.add_argument_group("the network"))
    _add_learning_arguments(parser.add_argument_group("learning"))


def _add_held_out_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--held-out", type=float, default=0.1, metavar="PART", help="part that is scored, not learnt (default: 0.1)"
    )
    group.add_argument(
        "--val", type=Path, metavar="FOLDER", help="labelled photographs to score on, in the place of a held-out part"
    )
    group.add_argument(
        "--val-set",
        default="val",
        metavar="SET",
        help="the image set of --val, where it is in VOC layout (default: val)",
    )
    group.add_argument(
        "--val-images",
        type=Path,
        metavar="DIR",
        help="its images, where it is a COCO annotation file (default: --images)",
    )


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backbone",
        default="sppnet_small",
        metavar="NAME",
        help="sppnet_small or sppnet_medium, made to be trained on a laptop, a torchvision classification network, or "
        "zf5 (default: sppnet_small)",
    )
    group.add_argument(
        "--weights",
        default="none",
        metavar="imagenet|none|FILE",
        help="torchvision's weights (downloaded once), untrained, or a state dict or model file (default: none)",
    )
    group.add_argument(
        "--layer", metavar="NAME", help="the node of the network whose map is pooled (default: the last of stride 16)"
    )
    group.add_argument(
        "--pyramid", type=integers, default=(1, 2, 3, 6), metavar="N,N", help="pyramid levels (default: 1,2,3,6)"
    )
    group.add_argument("--fc-width", type=int, default=512, metavar="N", help="numbers in fc6 and fc7 (default: 512)")
    group.add_argument(
        "--dropout",
        type=float,
        default=0.3,
        metavar="P",
        help="part of fc6 and fc7 left out while learning (default: 0.3)",
    )
    group.add_argument(
        "--no-spp",
        choices=("crop", "warp"),
        help="the twin without SPP, to compare with: the pyramid's finest level alone, images of one size, cropped or "
        "warped to it",
    )


def _add_learning_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sizes",
        type=integers,
        default=(224,),
        metavar="N,N",
        help="sides of the images learnt from in pixels, the largest first (default: 224; the paper's two: 224,180)",
    )
    group.add_argument(
        "--size-rule",
        choices=("alternate", "range"),
        default="alternate",
        help="every epoch has the next of the sizes, or a random one between the smallest and the largest "
        "(default: alternate)",
    )
    group.add_argument("--epochs", type=int, default=30, metavar="N", help="visits to every photograph (default: 30)")
    group.add_argument("--batch", type=int, default=64, metavar="N", help="photographs in a mini-batch (default: 64)")
    group.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="learning rate, of which pretrained convolutions take a thirtieth (default: 0.1, or 0.01 where fc layers "
        "are pretrained, too; a fiftieth of it with adamw)",
    )
    group.add_argument(
        "--optimizer",
        choices=("sgd", "adamw"),
        default="sgd",
        help="stochastic gradient descent with momentum, or AdamW (default: sgd)",
    )
    group.add_argument(
        "--schedule",
        choices=("cosine", "steps", "plateau"),
        default="cosine",
        help="the rate falls along half a cosine, to a tenth twice, or to a tenth where the held-out loss falls no "
        "more (default: cosine)",
    )
    group.add_argument(
        "--warmup", type=float, default=1.0, metavar="N", help="epochs in which the rate rises (default: 1)"
    )
    group.add_argument(
        "--augment",
        choices=("paper", "strong", "none"),
        default="paper",
        help="crops of the centre and corners, mirror images and altered colours; random regions and more of "
        "everything; or the centre alone (default: paper)",
    )
    group.add_argument(
        "--smoothing", type=float, default=0.0, metavar="P", help="label smoothing, such as 0.1 (default: 0)"
    )
    group.add_argument(
        "--average",
        type=float,
        default=0.0,
        metavar="D",
        help="keep the running mean of the weights, decay such as 0.99 (default: 0, the last ones)",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of products while learning; auto is bfloat16 where that is quick (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Train; the path and the held-out scores go to stdout. 1 when some photographs could not be read."""
    from ...data.errors import InputError
    from ...data.progress import log
    from ...detector.classification.options import ClassifierOptions
    from ...detector.classification.train import train_classifier
    from ...detector.descent.options import Augmentation, LearnOptions
    from ..info import classifier_scores

    if args.out.is_dir():
        raise InputError(f"{args.out}: is a folder; --out is the model file to write")
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
            quiet=args.quiet,
        )
    classifier = train_classifier(
        images,
        args.out,
        backbone=args.backbone,
        weights=args.weights,
        layer=args.layer,
        network=network,
        learn=learn,
        augmentation=Augmentation(kind=args.augment),
        validation=validation,
        work=args.work,
        device=resolve_device(args),
        quiet=args.quiet,
    )
    print("\n".join([*classifier_scores(classifier.card), f"wrote {args.out}"]))
    work = args.work or Path(f"{args.out}.work")
    log(f"curves: {work / 'loss.svg'}, accuracy.svg, history.csv; {work} can be deleted", args.quiet)
    return 1 if classifier.card["failed"] else 0
