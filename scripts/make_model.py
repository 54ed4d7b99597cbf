"""``sppnet make-model``: rebuild a bundled model from photographs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..detector.descent.options import TEACHER
from ..detector.options import WEIGHTS
from ..detector.recipes import ABOUT_TEACHER, RECIPES
from .arguments import add_file_output
from .common import compile_kernels, protect_inputs, resolve_device, work_folder
from .parser import CommandParser

if TYPE_CHECKING:
    from ..detector.detection.bundle import Bundle
    from ..detector.recipes import Recipe

HELP = """Rebuild a bundled model.

A small network learns from random weights to compute the feature map of a pretrained teacher network on the photographs
of DATASET. A detector is trained on it, saved in half precision and scored on a set that nothing was trained or chosen
on. The folder --work keeps intermediate results: a stopped run goes on where it was."""


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet make-model``."""
    data = parser.groups["data"]
    data.add_argument("name", choices=tuple(RECIPES), metavar="NAME", help=" or ".join(RECIPES))
    data.add_argument(
        "dataset", type=Path, metavar="DATASET", help="the data set of its card ('sppnet info NAME'), in VOC layout"
    )
    parser.groups["network"].add_argument(
        "--weights",
        default=WEIGHTS,
        metavar="imagenet|FILE",
        help=f"weights of the teacher network, {TEACHER}",
    )
    add_file_output(parser)
    parser.groups["output"].add_argument(
        "--results", type=Path, metavar="DIR", help="folder to copy curves and scores to"
    )


def run(args: argparse.Namespace) -> int:
    """Distil, train, save, score; the scores go to stdout."""
    from ..data.progress import log
    from ..data.store import write_json

    recipe, work = RECIPES[args.name], work_folder(args)
    made = [args.out, *(work / f"{name}.safetensors" for name in ("student", "detector", args.name))]
    if args.results is not None:
        copies = (args.results / f"{args.name}-{name}" for name in curve_files(work))
        made += [args.results / f"{args.name}.json", *copies]
    protect_inputs(args, made)
    student = distilled(recipe, args, work)
    bundle = trained(recipe, args, student, work)
    metrics, table = scored(recipe, args, bundle, work)
    # Only the file's name: its folder means nothing on another machine.
    teacher = Path(args.weights).name
    about = {
        "data": recipe.data,
        "teacher": ABOUT_TEACHER,
        "licence": recipe.licence,
        "command": f"sppnet make-model {args.name} DATASET --weights {teacher} --out {args.name}.safetensors",
        "seed": args.seed,
        "limits": recipe.limits,
        "scores": summary(recipe, metrics),
    }
    with_card(bundle, {"about": about}).save(args.out)
    if args.results is not None:
        write_json(args.results / f"{args.name}.json", metrics)
        for name, path in curves(work).items():
            shutil.copyfile(path, args.results / f"{args.name}-{name}")
    print(table)
    log(f"wrote {args.out}, {args.out.stat().st_size / 1e6:.1f} MB", args.quiet)
    return 0


def distilled(recipe: Recipe, args: argparse.Namespace, work: Path) -> Path:
    """Distil the student on the photographs of the training set; return its weights file."""
    from dataclasses import replace

    from ..data.open import open_dataset
    from ..detector.distillation import distil

    photographs = [sample.path for sample in open_dataset(args.dataset, recipe.train_set)]
    return distil(
        photographs,
        work / "student.safetensors",
        recipe.plan.backbone,
        TEACHER,
        args.weights,
        learn=replace(recipe.learn, seed=args.seed),
        augmentation=recipe.augmentation,
        work=work / "distillation",
        device=resolve_device(args),
        quiet=args.quiet,
    )


def trained(recipe: Recipe, args: argparse.Namespace, student: Path, work: Path) -> Bundle:
    """Train the detector on the student's map; return it in half precision."""
    from dataclasses import replace

    from ..data.open import open_dataset
    from ..detector.training.train import train

    compile_kernels(args.quiet)
    detector = train(
        open_dataset(args.dataset, recipe.train_set, classes=recipe.classes),
        replace(recipe.plan, weights=student, options=replace(recipe.plan.options, seed=args.seed)),
        out=work / "detector.safetensors",
        work=work / "training",
        device=resolve_device(args),
        quiet=args.quiet,
    )
    # A path means nothing on another machine.
    return with_card(detector.bundle.halved(), {"weights": f"distilled from {TEACHER}'s ImageNet weights"})


def scored(recipe: Recipe, args: argparse.Namespace, bundle: Bundle, work: Path) -> tuple[dict[str, Any], str]:
    """Run ``sppnet evaluate`` on the test set; return the metrics and the printed text."""
    import json
    from contextlib import redirect_stdout
    from io import StringIO

    from . import evaluate
    from .cli import build_parser

    model, folder, printed = work / f"{args.name}.safetensors", work / "evaluation", StringIO()
    bundle.save(model)
    command = ["evaluate", str(args.dataset), "--set", recipe.test_set, "--model", str(model), "-o", str(folder)]
    with redirect_stdout(printed):
        evaluate.run(build_parser().parse_args([*command, "--metric", "voc07,voc", *["--quiet"] * args.quiet]))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {**metrics, "model": args.name}, printed.getvalue().rstrip()


def summary(recipe: Recipe, metrics: dict[str, Any]) -> dict[str, float]:
    """Scores with descriptions, for the card."""
    found = metrics["metric"]["voc07"]
    whole = f"VOC07 mAP on {metrics['images']} photographs ({recipe.test_set}) that nothing was trained or chosen on"
    return {whole: round(found["map"], 3), **{name: round(ap, 3) for name, ap in found["ap"].items()}}


def with_card(bundle: Bundle, entries: dict[str, Any]) -> Bundle:
    """Return the model with more entries in its card."""
    from dataclasses import replace

    return replace(bundle, card={**bundle.card, **entries})


def curves(work: Path) -> dict[str, Path]:
    """Charts and tables of a finished run, by their names in the results folder."""
    # Without held-out photographs there are no probabilities and no reliability chart.
    return {name: path for name, path in curve_files(work).items() if path.is_file()}


def curve_files(work: Path) -> dict[str, Path]:
    """Possible charts and tables of a run, by their names in the results folder."""
    return {
        "distillation.svg": work / "distillation" / "loss.svg",
        "distillation.csv": work / "distillation" / "history.csv",
        "precision-recall.svg": work / "evaluation" / "curves.svg",
        "reliability.svg": work / "evaluation" / "reliability.svg",
    }
