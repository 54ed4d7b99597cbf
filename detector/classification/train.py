"""From labelled photographs to a classification network in one file; a run that was stopped goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import __version__
from ...data.errors import InputError
from ...data.labelled import LabelledImages
from ...data.progress import log
from ...data.store import content_key
from .augment import Augmentation
from .curves import write_curves
from .descent import Epoch
from .network import SPPClassifier
from .options import ClassifierOptions, LearnOptions
from .photographs import Photographs
from .training import Training

#: Raised when a checkpoint of an earlier version would be understood wrongly.
_VERSION = 1


def train_classifier(
    images: LabelledImages,
    out: str | Path,
    backbone: str = "sppnet_small",
    weights: str | Path = "none",
    layer: str | None = None,
    network: ClassifierOptions | None = None,
    learn: LearnOptions | None = None,
    augmentation: Augmentation | None = None,
    validation: LabelledImages | None = None,
    work: str | Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> SPPClassifier:
    """Train a classification network, save it and return it.

    Parameters
    ----------
    images : LabelledImages
        With one class each, or any number: a softmax or sigmoids follow from it.
    out : str or Path
        The model file to write.
    backbone, weights, layer
        As in :class:`.network.SPPClassifier`.
    network : ClassifierOptions, optional
        The side of the crops and the kind of labels in it are put right.
    learn : LearnOptions, optional
    augmentation : Augmentation, optional
        Default the paper's.
    validation : LabelledImages, optional
        Scored on after each epoch, in the place of a part of ``images`` that is then held out.
    work : str or Path, optional
        Where the state after each epoch and the curves are kept; the model file's name with ``.work`` by default.
    device : str
    quiet : bool
        Say nothing on stderr but warnings.

    Raises
    ------
    InputError
        When options do not fit each other or the photographs, or learning diverges.
    """
    learn = learn or LearnOptions()
    augmentation = augmentation or Augmentation()
    network = replace(network or ClassifierOptions(), size=learn.sizes[0], multi_label=images.multi_label)
    if network.fit != "any" and len(learn.sizes) > 1:
        raise InputError(f"without SPP a network takes one size of images, not {','.join(map(str, learn.sizes))}")
    if len(images.class_names) == 1 and not images.multi_label:
        raise InputError(f"there is one class, {images.class_names[0]}: nothing to tell it from")
    augmentation = replace(augmentation, warp=network.fit == "warp")
    if validation is None:
        images, validation = images.split(learn.held_out, learn.seed)
    else:
        if validation.multi_label != images.multi_label:
            kinds = ["any number of labels" if part.multi_label else "one label" for part in (images, validation)]
            raise InputError(f"photographs to learn from have {kinds[0]} each, those to score on {kinds[1]}")
        validation = validation.renamed(images.class_names)

    work = Path(f"{out}.work") if work is None else Path(work)
    key = content_key(
        _VERSION,
        [described(images), described(validation)],
        [list(images.class_names), backbone, layer, weights_key(weights)],
        [network.to_dict(), learn.to_dict(), augmentation.to_dict()],
    )
    classifier = SPPClassifier(images.class_names, backbone, weights, layer, network, learn.seed).to(device)
    kept = Photographs(images, learn.sizes[0], "reading photographs", quiet)
    held_out = Photographs(validation, learn.sizes[0], "reading held-out photographs", quiet)
    training = Training(classifier, kept, held_out, learn, augmentation, lambda line: log(line, quiet))
    score = "mAP" if images.multi_label else "top-1"

    def draw() -> None:
        write_curves(work, training.history, "cross-entropy", score)

    training.run_resumably(work, "classifier", key, draw, quiet)
    classifier.card = {
        "version": __version__,
        "images": len(kept),
        "classes": dict(zip(images.class_names, kept.images.targets.clip(min=0).sum(axis=0).tolist(), strict=True)),
        "weights": str(weights),
        "training": learn.to_dict(),
        "augmentation": augmentation.to_dict(),
        "held_out": _held_out(training.history[-1], len(held_out), images.multi_label),
        "failed": sorted({**kept.failed, **held_out.failed}),
    }
    classifier.save(out)
    return classifier


def described(images: LabelledImages) -> list[Any]:
    """What a run may be resumed on: the same labels of the same files, as far as names, sizes and times tell."""
    found = []
    for image in images:
        stat = image.path.stat() if image.path.is_file() else None
        labels = [image.labels.tolist(), image.ignored.tolist()]
        found.append([image.name, stat and [stat.st_size, stat.st_mtime_ns], labels])
    return found


def weights_key(weights: str | Path) -> list[Any]:
    """What a run may be resumed on: the same word, or a file of the same time."""
    path = Path(weights)
    return [str(weights), path.stat().st_mtime_ns if path.is_file() else None]


def _held_out(last: Epoch, images: int, multi_label: bool) -> dict[str, Any] | None:
    """Scores of the network that was kept, for its card."""
    if last.held_out_score is None:
        return None
    scores = {"images": images, "loss": last.held_out_loss}
    if multi_label:
        return {**scores, "metric": "voc07", "map": last.held_out_score}
    return {**scores, "top1": last.held_out_score, "top5": last.held_out_top5}
