"""Training of the whole network, at one size or at several in turn (paper, sections 2.3 and 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...eval.classification import classification_ap, top_k_accuracy
from .augment import Augmentation
from .descent import Descent, Epoch
from .network import SPPClassifier
from .options import LearnOptions
from .photographs import Batch, Photographs, normalised

#: Factor on the rate of pretrained convolutions. MobileNetV2, 540 photographs of 20 classes, two epochs at 128 pixels:
#: top-1 accuracy 0.78 with fc layers at 0.1; at 0.05 and with convolutions at 0.01 0.65, at 0.001 0.72, at 0 0.70.
_PRETRAINED = 0.03


class Training(Descent):
    """Learns the labels of photographs by the cross-entropy.

    Parameters
    ----------
    network : SPPClassifier
        Changed in place. Pretrained convolutions under new fc layers learn at a small part of their rate.
    photographs, held_out, options, augmentation, report
        As in :class:`.descent.Descent`. The held-out score is the top-1 accuracy or, with several labels, VOC07's mean
        AP, None where none of the classes is shown.
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
        return super()._size(epoch) if self.network.fit == "any" else self.network.size

    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        with self._precision():
            logits = self.network(images)
        return classification_loss(logits.float(), batch.targets.to(self.device), self.options.smoothing)

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
        int64 (N,) for one softmax; int8 (N, classes) in {1, 0, -1 = left out} for a sigmoid each.
    smoothing : float
        Share of the wanted probability that is spread over the classes.
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
    """Float32 logits (N, classes) of the middle of each photograph, and the targets, both on the CPU."""
    logits, targets = [torch.zeros(0, len(network.class_names))], []
    with closing(photographs.centres(network.fit, batch)) as batches:
        for part in batches:
            with torch.autocast(network.device.type, torch.bfloat16, enabled=mixed):
                logits.append(network(normalised(part.images.to(network.device))).float().cpu())
            targets.append(part.targets)
    return torch.cat(logits), torch.cat(targets)
