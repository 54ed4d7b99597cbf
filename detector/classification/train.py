"""Training of a classification network on labelled photographs; an interrupted run resumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ... import __version__
from ...data.errors import InputError
from ...data.labelled import LabelledImages, described
from ...data.progress import log
from ...data.store import content_key, locked
from ...eval.classification import classification_ap, top_k_accuracy
from ..convolutions.normalisation import normalised
from ..convolutions.weights import weights_key
from ..descent.curves import write_curves
from ..descent.descent import Descent
from ..descent.epochs import Epoch
from ..descent.options import Augmentation, LearnOptions
from ..descent.photographs import Batch, Photographs
from ..options import STRIDE
from .network import SPPClassifier
from .options import BACKBONE, WEIGHTS, ClassifierOptions

#: Increase this when older checkpoints would be misread.
_VERSION = 1


def train_classifier(
    images: LabelledImages,
    out: str | Path,
    backbone: str = BACKBONE,
    weights: str | Path = WEIGHTS,
    layer: str | None = None,
    stride: int = STRIDE,
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
        With one label each (softmax), or any number of labels (one sigmoid per class).
    out : str or Path
        Model file to write.
    backbone, weights, layer, stride
        As in :class:`.network.SPPClassifier`.
    network : ClassifierOptions, optional
        ``size`` and ``multi_label`` in it are set from ``learn`` and ``images``.
    learn : LearnOptions, optional
    augmentation : Augmentation, optional
        By default the paper's.
    validation : LabelledImages, optional
        Held-out set, scored after each epoch; by default a share of ``images``.
    work : str or Path, optional
        Folder of checkpoints and curves; by default the model file's name with ``.work``.
    device : str
    quiet : bool
        No progress bars, and only warnings to the logger ``sppnet``.

    Raises
    ------
    InputError
        When options do not fit each other or the photographs, training diverges, or another run has the folder
        ``work``.
    """
    learn = learn or LearnOptions()
    augmentation = augmentation or Augmentation()
    network = replace(network or ClassifierOptions(), size=learn.sizes[0], multi_label=images.multi_label)
    if network.fit != "any" and len(learn.sizes) > 1:
        raise InputError(f"without SPP a network takes one size of images, not {','.join(map(str, learn.sizes))}")
    if len(images.class_names) == 1 and not images.multi_label:
        raise InputError(f"there is one class, {images.class_names[0]}; a classifier needs two or more")
    augmentation = replace(augmentation, warp=network.fit == "warp")
    if validation is None:
        images, validation = images.split(learn.held_out, learn.seed)
    else:
        if validation.multi_label != images.multi_label:
            kinds = ["any number of labels" if part.multi_label else "one label" for part in (images, validation)]
            raise InputError(f"training photographs have {kinds[0]} each, held-out photographs {kinds[1]}")
        validation = validation.renamed(images.class_names)

    work = Path(f"{out}.work") if work is None else Path(work)
    key = content_key(
        _VERSION,
        [described(images), described(validation)],
        [list(images.class_names), backbone, layer, stride, weights_key(weights)],
        [network.to_dict(), learn.to_dict(), augmentation.to_dict()],
    )
    classifier = SPPClassifier(images.class_names, backbone, weights, layer, network, learn.seed, stride).to(device)
    with locked(work):
        kept = Photographs(images, learn.sizes[0], "reading photographs", quiet)
        held_out = Photographs(validation, learn.sizes[0], "reading held-out photographs", quiet)
        training = Training(classifier, kept, held_out, learn, augmentation, lambda line: log(line, quiet))
        score, axis = ("mAP", "mean average precision") if images.multi_label else ("top-1", "accuracy")

        def draw() -> None:
            write_curves(work, training.history, "cross-entropy", score, axis, len(training.history) == learn.epochs)

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


def _held_out(last: Epoch, images: int, multi_label: bool) -> dict[str, Any] | None:
    """Held-out scores of the final network, for its card."""
    if last.held_out_score is None:
        return None
    scores = {"images": images, "loss": last.held_out_loss}
    if multi_label:
        return {**scores, "metric": "voc07", "map": last.held_out_score}
    return {**scores, "top1": last.held_out_score, "top5": last.held_out_top5}


#: Factor on the rate of pretrained convolutions. MobileNetV2, 540 photographs of 20 classes, two epochs at 128 pixels:
#: top-1 accuracy 0.78 with the fc layers at rate 0.1. With the fc layers at 0.05 it was 0.65, 0.72 and 0.70 with the
#: convolutions at 0.01, 0.001 and 0.
_PRETRAINED = 0.03


class Training(Descent):
    """Train a classification network by cross-entropy.

    Parameters
    ----------
    network : SPPClassifier
        Changed in place. Pretrained convolutions below new fc layers have a small share of the learning rate.
    photographs, held_out, options, augmentation, report
        As in :class:`.descent.Descent`. The held-out score is the top-1 accuracy or, with several labels, VOC07's mAP;
        None if no held-out photograph shows a class.
    """

    network: SPPClassifier

    def __init__(
        self,
        network: SPPClassifier,
        photographs: Photographs,
        held_out: Photographs | None,
        options: LearnOptions,
        augmentation: Augmentation,
        report: Callable[[str], None],
    ) -> None:
        rate = (0.1 if network.new_layers else 0.01) / (50 if options.optimizer == "adamw" else 1)
        super().__init__(network, photographs, held_out, options, augmentation, rate, report)

    def _parts(self) -> list[tuple[nn.Module, float]]:
        factor = _PRETRAINED if self.network.pretrained and self.network.new_layers else 1.0
        return [(self.network.convolutions, factor), (self.network.layers, 1.0)]

    def _size(self, epoch: int) -> int:
        return super()._size(epoch) if self.network.input_fit == "any" else self.network.size

    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        with self._precision():
            logits = self.learner(images)
        return classification_loss(logits.float(), batch.targets.to(self.device), self.options.smoothing)

    def _share(self, batch: Batch) -> float:
        if not self.network.multi_label:
            return super()._share(batch)
        counted, of_all = (int((targets >= 0).sum()) for targets in (batch.targets, batch.whole))
        return counted / max(of_all, 1)

    def _score(self) -> tuple[float | None, float | None, float | None]:
        assert self.held_out is not None
        logits, targets = one_view(self.network, self.held_out, self.options.batch, self.mixed)
        loss = float(classification_loss(logits, targets))
        if not logits.isfinite().all():
            raise self._diverged()
        if self.network.multi_label:
            score = classification_ap(logits.numpy(), targets.numpy(), self.network.class_names).mean_ap("voc07")
            return loss, None if math.isnan(score) else score, None
        top1, top5 = (top_k_accuracy(logits.numpy(), targets.numpy(), k) for k in (1, 5))
        return loss, top1, top5 if len(self.network.class_names) > 5 else None

    def _words(self, epoch: Epoch) -> str:
        words = f"loss {epoch.held_out_loss:.3f}"
        if epoch.held_out_score is not None:
            words += f", {'mAP' if self.network.multi_label else 'top-1'} {epoch.held_out_score:.3f}"
        if epoch.held_out_top5 is not None:
            words += f", top-5 {epoch.held_out_top5:.3f}"
        return words


def classification_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy.

    Parameters
    ----------
    logits : tensor (N, classes)
    targets : tensor
        int64 (N,) for a softmax; int8 (N, classes) with 1, 0 and -1 (ignored) for one sigmoid per class.
    smoothing : float
        Share of the target probability that is spread over the classes.
    """
    if targets.ndim == 1:
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    wanted = targets.float().clamp(min=0) * (1 - smoothing) + 0.5 * smoothing
    counted = targets >= 0
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


@torch.no_grad()
def one_view(
    network: SPPClassifier, photographs: Photographs, batch: int = 64, mixed: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits, float32 (N, classes), of the single test view of each photograph, and the targets, both on the CPU."""
    logits, targets = [torch.zeros(0, len(network.class_names))], []
    with closing(photographs.centres(network.input_fit, batch)) as batches:
        for part in batches:
            with torch.autocast(network.device.type, torch.bfloat16, enabled=mixed):
                logits.append(network(normalised(part.images.to(network.device))).float().cpu())
            targets.append(part.targets)
    return torch.cat(logits), torch.cat(targets)
