"""Stochastic gradient descent on photographs, independent of the loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ...data.arrays import Array
from ...data.cores import cpu_count
from ...data.errors import InputError
from ...data.outputs import report_disk
from ..convolutions.normalisation import normalised
from ..device import to_device
from .epochs import Epoch, EpochRunner
from .options import Augmentation, LearnOptions
from .photographs import Batch, Photographs

#: Shares of the epochs after which the schedule "steps" divides the rate by ten.
_STEPS = (0.6, 0.85)

#: Most threads that make crops for a GPU; Python runs one at a time between the calls of OpenCV.
_MOST_WORKERS = 6


class Descent(EpochRunner):
    """Train a network on photographs by stochastic gradient descent.

    A subclass defines the loss in :meth:`_loss` and the held-out score in :meth:`_score`.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    photographs : Photographs
        Training set.
    held_out : Photographs or None
        Held-out set.
    options : LearnOptions
    augmentation : Augmentation
    rate : float
        Learning rate if the options have none.
    report : function
        Called with a line after each epoch.

    Attributes
    ----------
    history : list of .epochs.Epoch
    """

    def __init__(
        self,
        network: nn.Module,
        photographs: Photographs,
        held_out: Photographs | None,
        options: LearnOptions,
        augmentation: Augmentation,
        rate: float,
        report: Callable[[str], None],
    ) -> None:
        if len(photographs) < 2:
            raise InputError(f"training needs 2 or more readable photographs, not {len(photographs)}")
        if options.schedule == "plateau" and not held_out:
            raise InputError("the schedule 'plateau' needs a held-out loss, and no photograph is held out")
        super().__init__(network, report, options.mixed)
        self.photographs, self.held_out = photographs, held_out
        self.options, self.augmentation = options, augmentation
        self.rate = rate if options.rate is None else options.rate
        self.optimizer = self._optimizer()
        self._averaged: AveragedModel | None = None

    def run_resumably(self, work: Path, stage: str, key: str, after_epoch: Callable[[], None], quiet: bool) -> None:
        """Say how much disk the checkpoints need, and train (see :meth:`.epochs.EpochRunner.run_resumably`)."""
        # An old checkpoint is there until the new one is complete.
        report_disk(work, 2 * self._checkpoint_bytes(), quiet)
        super().run_resumably(work, stage, key, after_epoch, quiet)

    def _checkpoint_bytes(self) -> int:
        """Bytes of the network, of the optimizer's means of its gradients, and of the running mean of the weights."""
        options = self.options
        learnt = sum(value.nbytes for group in self.optimizer.param_groups for value in group["params"])
        kept = sum(value.nbytes for value in self.network.state_dict().values())
        means = 2 if options.optimizer == "adamw" else int(options.momentum > 0)
        return means * learnt + (1 + int(options.average > 0)) * kept

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it scores nothing."""
        return {**super().__getstate__(), "held_out": None, "_averaged": None}

    def _parts(self) -> list[tuple[nn.Module, float]]:
        """Parts of the network, each with the factor on its learning rate."""
        return [(self.network, 1.0)]

    def _optimizer(self) -> torch.optim.Optimizer:
        options, groups = self.options, []
        for part, factor in self._parts():
            parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
            matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
            groups.append({"params": matrices, "weight_decay": options.weight_decay, "factor": factor})
            groups.append({"params": vectors, "weight_decay": 0.0, "factor": factor})
        if options.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.rate)
        return torch.optim.SGD(groups, lr=self.rate, momentum=options.momentum, nesterov=options.momentum > 0)

    @abstractmethod
    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        """Loss of a batch; ``images`` (B, 3, side, side) are normalised and on the device."""

    @abstractmethod
    def _score(self) -> tuple[float | None, float | None, float | None]:
        """Held-out loss, score and top-5 accuracy of the current network."""

    @abstractmethod
    def _words(self, epoch: Epoch) -> str:
        """End of an epoch's line of text: the held-out results."""

    def _size(self, epoch: int) -> int:
        """Side in pixels of the images in an epoch, counted from 0."""
        return self.options.size_at(epoch)

    def _finished(self) -> bool:
        return len(self.history) >= self.options.epochs

    def _smallest_batch(self) -> int:
        return min(self.options.batch, len(self.photographs))

    def _learn(self) -> tuple[float, list[Tensor]]:
        done, options = len(self.history), self.options
        seed = [options.seed, done]
        losses: list[Tensor] = []
        batches_in_epoch = len(self.photographs) // self._smallest_batch()
        rate = 0.0
        with self._learning(np.random.default_rng(seed)):
            batches = self.photographs.training(
                self._size(done), self.augmentation, options.batch, seed, self._workers(), self._own
            )
            with closing(batches):
                for number, batch in enumerate(batches):
                    step_rate = self._rate_at(done + number / batches_in_epoch)
                    rate = max(rate, step_rate)
                    for group in self.optimizer.param_groups:
                        group["lr"] = step_rate * group["factor"]
                    losses.append(self._step(batch))
        return rate, losses

    def _judge(self, rate: float, losses: list[Tensor]) -> None:
        done, options = len(self.history), self.options
        size = self._size(done)
        mean = float(torch.stack(losses).mean())
        # The losses do not show what the last step did to the weights.
        if not math.isfinite(mean) or not self._all_finite():
            raise self._diverged()
        epoch = Epoch(done + 1, size, rate, mean)
        if self.held_out:
            with self._kept():
                epoch = Epoch(done + 1, size, rate, mean, *self._score())
        if epoch.held_out_loss is not None and not math.isfinite(epoch.held_out_loss):
            raise self._diverged()
        self.history.append(epoch)
        line = f"epoch {epoch.number} of {options.epochs}: {size} pixels, rate {rate:.1e}, loss {mean:.3f}"
        self.report(line + (f"; held out: {self._words(epoch)}" if self.held_out else ""))

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

    def _workers(self) -> int:
        """Threads that make crops: one leaves the processor to the training on it, but cannot feed a GPU."""
        return 1 if self.device.type == "cpu" else max(1, min(_MOST_WORKERS, cpu_count() - 1))

    def _images(self, images: Tensor) -> Tensor:
        return normalised(to_device(images, self.device))

    def _step(self, batch: Batch) -> Tensor:
        with self._as_one(len(batch.whole)):
            loss = self._loss(self._images(batch.images), batch)
        loss = self._backward(loss, self._share(batch))
        self.optimizer.step()
        if self.options.average and (self.team is None or self.team.rank == 0):
            if self._averaged is None:
                self._averaged = self._mean_model()
            self._averaged.update_parameters(self.network)
        return loss

    def _share(self, batch: Batch) -> float:
        """The part of the whole batch's mean loss that a batch has."""
        return len(batch.targets) / len(batch.whole)

    def _mean_model(self) -> AveragedModel:
        """Running mean of the network and its buffers; a plain mean over the first steps."""

        def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
            share = max(1 / (int(steps) + 1), 1 - self.options.average)
            for mean, value in zip(averaged, current, strict=True):
                if value.is_floating_point():
                    mean.lerp_(value, share)
                else:
                    mean.copy_(value)

        return AveragedModel(self.network, multi_avg_fn=update, use_buffers=True)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Inside the context the network is in eval mode and has the averaged weights, if weights are averaged."""
        result = self._result()
        if result is None:
            self.network.eval()
            yield
            return
        last = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(result)
        self.network.eval()
        try:
            yield
        finally:
            self.network.load_state_dict(last)

    def _result(self) -> dict[str, Tensor] | None:
        return None if self._averaged is None else self._averaged.module.state_dict()

    def _more(self) -> dict[str, Tensor]:
        if self._averaged is None:
            return {}
        averaged = {f"averaged.{name}": value for name, value in self._averaged.module.state_dict().items()}
        return averaged | {"steps": self._averaged.n_averaged}

    def _restore_more(self, arrays: Mapping[str, Array]) -> None:
        if self.options.average:
            self._averaged = self._mean_model()
            self._averaged.module.load_state_dict(self._part(arrays, "averaged"))
            self._averaged.n_averaged.fill_(int(arrays["steps"]))


def drops_at_plateaus(losses: list[float], patience: int) -> int:
    """Number of divisions by ten so far: one each time the loss had no new minimum for ``patience`` epochs."""
    drops = waited = 0
    best = math.inf
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops
