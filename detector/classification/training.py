"""Training of the whole network, at one size or at several in turn (paper, sections 2.3 and 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...data.errors import InputError
from ...eval.classification import classification_ap, top_k_accuracy
from ..compression import bfloat16_is_fast
from .augment import Augmentation
from .network import SPPClassifier
from .options import LearnOptions
from .photographs import Photographs, normalised

Array = NDArray[Any]

#: Epochs' shares after which the schedule "steps" divides the rate by ten.
_STEPS = (0.6, 0.85)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes
    ----------
    number : int
        From 1.
    size : int
        Side of the images learnt from, pixels.
    rate : float
        Learning rate after the warm-up, or at the epoch's start.
    loss : float
        Mean over the epoch's batches, with augmentation and dropout.
    held_out_loss, held_out_score : float or None
        On one view of each held-out photograph: the cross-entropy, and the top-1 accuracy or (several labels) VOC07's
        mean AP, None where none of the classes is shown.
    held_out_top5 : float or None
        The top-5 accuracy, where photographs have one label and there are more than five.
    """

    number: int
    size: int
    rate: float
    loss: float
    held_out_loss: float | None = None
    held_out_score: float | None = None
    held_out_top5: float | None = None


class Training:
    """Stochastic gradient descent on a network; every epoch has random numbers of its own, so it can be resumed.

    Parameters
    ----------
    network : SPPClassifier
        Changed in place.
    photographs : Photographs
        To learn from.
    held_out : Photographs or None
        To score on.
    options : LearnOptions
    augmentation : Augmentation
    report : function
        Called with a line after each epoch.

    Attributes
    ----------
    history : list of Epoch
    """

    def __init__(
        self,
        network: SPPClassifier,
        photographs: Photographs,
        held_out: Photographs | None,
        options: LearnOptions,
        augmentation: Augmentation,
        report: Callable[[str], None],
    ) -> None:
        if len(photographs) < 2:
            raise InputError(f"a network learns from 2 or more photographs that can be read, not {len(photographs)}")
        if options.schedule == "plateau" and not held_out:
            raise InputError("the schedule 'plateau' looks at the held-out loss, and no photograph is held out")
        self.network, self.photographs, self.held_out = network, photographs, held_out
        self.options, self.augmentation, self.report = options, augmentation, report
        self.device = network.device
        self.mixed = bfloat16_is_fast(self.device) if options.mixed is None else options.mixed
        self.rate = (0.01 if network.pretrained else 0.1) if options.rate is None else options.rate
        self.history: list[Epoch] = []
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.rate,
            momentum=options.momentum,
            nesterov=options.momentum > 0,
        )
        self._averaged: dict[str, Tensor] = {}
        self._steps = 0

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> SPPClassifier:
        """Go through the epochs that are left; returns the network, in eval mode.

        Raises
        ------
        InputError
            When learning diverges.
        """
        while len(self.history) < self.options.epochs:
            self._epoch()
            after_epoch()
        if self.options.average:
            self.network.load_state_dict(self._averaged)
        return self.network.eval()

    def _epoch(self) -> None:
        done, options = len(self.history), self.options
        size = options.size_at(done) if self.network.fit == "any" else self.network.size
        seed = [options.seed, done]
        losses: list[Tensor] = []
        batches_in_epoch = len(self.photographs) // min(options.batch, len(self.photographs))
        devices = [self.device] if self.device.type == "cuda" else []
        rate = 0.0
        with torch.random.fork_rng(devices=devices):
            # Dropout draws from torch's generator; each epoch has its own seed, so that a resumed run goes on alike.
            torch.manual_seed(int(np.random.default_rng(seed).integers(2**31)))
            self.network.train()
            batches = self.photographs.training(size, self.augmentation, options.batch, seed)
            with closing(batches):
                for number, batch in enumerate(batches):
                    step_rate = self._rate_at(done + number / batches_in_epoch)
                    rate = max(rate, step_rate)
                    for group in self.optimizer.param_groups:
                        group["lr"] = step_rate
                    losses.append(self._step(batch.images, batch.targets))
        mean = float(torch.stack(losses).mean())
        # The losses say nothing of what the last step has made.
        if not math.isfinite(mean) or not self._all_finite():
            raise self._diverged()
        epoch = Epoch(done + 1, size, rate, mean, *self._score())
        self.history.append(epoch)
        self.report(self._line(epoch))

    def _all_finite(self) -> bool:
        values = self.network.state_dict().values()
        return all(bool(value.isfinite().all()) for value in values if value.is_floating_point())

    def _diverged(self) -> InputError:
        epoch = len(self.history) + 1
        return InputError(f"training diverged in epoch {epoch}: a rate of {self.rate:g} is too high (--rate)")

    def _rate_at(self, progress: float) -> float:
        """Learning rate after ``progress`` epochs."""
        options = self.options
        rate = self.rate * min(1.0, (progress + 0.02) / options.warmup if options.warmup else 1.0)
        if options.schedule == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * progress / options.epochs))
        if options.schedule == "steps":
            return rate * 0.1 ** sum(progress >= share * options.epochs for share in _STEPS)
        return rate * 0.1 ** drops_at_plateaus([epoch.held_out_loss or 0.0 for epoch in self.history], options.patience)

    def _images(self, images: Tensor) -> Tensor:
        return normalised(images.to(self.device, non_blocking=True))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def _step(self, images: Tensor, targets: Tensor) -> Tensor:
        with self._precision():
            logits = self.network(self._images(images))
        loss = classification_loss(logits.float(), targets.to(self.device), self.options.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.options.average:
            self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        """Bring the running mean up to date: a plain mean of the steps while they are few."""
        state = self.network.state_dict()
        if not self._averaged:
            self._averaged = {name: value.clone() for name, value in state.items()}
        self._steps += 1
        share = max(1 / self._steps, 1 - self.options.average)
        for name, value in state.items():
            if value.is_floating_point():
                self._averaged[name].lerp_(value, share)
            else:
                self._averaged[name].copy_(value)

    def _score(self) -> tuple[float | None, float | None, float | None]:
        """Loss, score and top-5 accuracy on the held-out photographs, of the network that would be kept now."""
        if self.held_out is None or len(self.held_out) == 0:
            return None, None, None
        with self._kept():
            logits, targets = one_view(self.network, self.held_out, self.options.batch, self.mixed)
        loss = float(classification_loss(logits, targets))
        if not math.isfinite(loss) or not logits.isfinite().all():
            raise self._diverged()
        if self.network.multi_label:
            score = classification_ap(logits.numpy(), targets.numpy(), self.network.class_names).mean_ap("voc07")
            return loss, None if math.isnan(score) else score, None
        top1, top5 = (top_k_accuracy(logits.numpy(), targets.numpy(), k) for k in (1, 5))
        return loss, top1, top5 if len(self.network.class_names) > 5 else None

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Inside, the network has the averaged weights, if there are any, and is in eval mode."""
        if not self._averaged:
            self.network.eval()
            yield
            return
        last = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self._averaged)
        self.network.eval()
        try:
            yield
        finally:
            self.network.load_state_dict(last)

    def _line(self, epoch: Epoch) -> str:
        line = f"epoch {epoch.number} of {self.options.epochs}: {epoch.size} pixels, rate {epoch.rate:.1e}, "
        line += f"loss {epoch.loss:.3f}"
        if epoch.held_out_loss is not None:
            line += f"; held out: loss {epoch.held_out_loss:.3f}"
        if epoch.held_out_score is not None:
            line += f", {'mAP' if self.network.multi_label else 'top-1'} {epoch.held_out_score:.3f}"
        if epoch.held_out_top5 is not None:
            line += f", top-5 {epoch.held_out_top5:.3f}"
        return line

    def state(self) -> dict[str, Array]:
        """Everything that :meth:`restore` needs to go on bit for bit."""
        arrays = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        arrays |= {f"averaged.{name}": value for name, value in self._averaged.items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                arrays[f"momentum.{name}"] = momentum
        rows = [[np.nan if value is None else value for value in asdict(epoch).values()] for epoch in self.history]
        return {
            # Copies: training goes on in place.
            **{name: value.cpu().numpy().copy() for name, value in arrays.items()},
            "history": np.array(rows, np.float64),
            "steps": np.array(self._steps),
        }

    def restore(self, arrays: dict[str, Array]) -> None:
        """Go back to a :meth:`state` of the same photographs and options."""

        def part(kind: str) -> dict[str, Tensor]:
            start = f"{kind}."
            return {
                name.removeprefix(start): torch.tensor(value, device=self.device)
                for name, value in arrays.items()
                if name.startswith(start)
            }

        self.network.load_state_dict(part("network"))
        self._averaged, self._steps = part("averaged"), int(arrays["steps"])
        momenta = part("momentum")
        for name, parameter in self.network.named_parameters():
            if name in momenta:
                # The layout of the parameter is what the arithmetic is done in.
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momenta[name])
        self.history = [
            Epoch(int(row[0]), int(row[1]), *row[2:4], *(None if np.isnan(value) else value for value in row[4:]))
            for row in arrays["history"].tolist()
        ]


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


def drops_at_plateaus(losses: list[float], patience: int) -> int:
    """How often the rate has been divided by ten: each time the loss had no new minimum for ``patience`` epochs."""
    drops = waited = 0
    best = math.inf
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops


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
