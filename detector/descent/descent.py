"""Stochastic gradient descent on photographs, epoch after epoch, whatever is learnt from them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...data.arrays import Array
from ...data.errors import InputError
from ...data.progress import log
from ...data.store import Checkpoint
from ..head.compression import bfloat16_is_fast
from .options import Augmentation, LearnOptions
from .photographs import Batch, Photographs, normalised

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
        On one view of each held-out photograph: the loss, and a score that is the higher the better, None where there
        is nothing to score.
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


class Descent(ABC):
    """Learning by stochastic gradient descent; every epoch has random numbers of its own, so it can be resumed.

    What is learnt is said by :meth:`_loss`, how well by :meth:`_score`.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    photographs : Photographs
        To learn from.
    held_out : Photographs or None
        To score on.
    options : LearnOptions
    augmentation : Augmentation
    rate : float
        Learning rate where the options name none.
    report : function
        Called with a line after each epoch.

    Attributes
    ----------
    history : list of Epoch
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
            raise InputError(f"a network learns from 2 or more photographs that can be read, not {len(photographs)}")
        if options.schedule == "plateau" and not held_out:
            raise InputError("the schedule 'plateau' looks at the held-out loss, and no photograph is held out")
        self.network, self.photographs, self.held_out = network, photographs, held_out
        self.options, self.augmentation, self.report = options, augmentation, report
        self.device = next(network.parameters()).device
        self.mixed = bfloat16_is_fast(self.device) if options.mixed is None else options.mixed
        self.rate = rate if options.rate is None else options.rate
        self.history: list[Epoch] = []
        self.optimizer = self._optimizer()
        self._averaged: dict[str, Tensor] = {}
        self._steps = 0

    def _parts(self) -> list[tuple[nn.Module, float]]:
        """The network's parts, each with the factor on its learning rate."""
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
        """What is to become small: of a batch, whose images (B, 3, side, side) are normalised and on the device."""

    @abstractmethod
    def _score(self) -> tuple[float | None, float | None, float | None]:
        """Held-out loss, score and top-5 accuracy of the network as it is now."""

    @abstractmethod
    def _words(self, epoch: Epoch) -> str:
        """The end of an epoch's line: how it does on held-out photographs."""

    def _size(self, epoch: int) -> int:
        """Side of the images of an epoch, counted from 0, pixels."""
        return self.options.size_at(epoch)

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Go through the epochs that are left; afterwards the network is in eval mode.

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
        self.network.eval()

    def _epoch(self) -> None:
        done, options = len(self.history), self.options
        size = self._size(done)
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
                        group["lr"] = step_rate * group["factor"]
                    losses.append(self._step(batch))
        mean = float(torch.stack(losses).mean())
        # The losses say nothing of what the last step has made.
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

    def _images(self, images: Tensor) -> Tensor:
        return normalised(images.to(self.device, non_blocking=True))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def _step(self, batch: Batch) -> Tensor:
        loss = self._loss(self._images(batch.images), batch)
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

    def run_resumably(self, work: Path, stage: str, key: str, after_epoch: Callable[[], None], quiet: bool) -> None:
        """:meth:`run`, from where an earlier run with the same key stopped.

        Parameters
        ----------
        work : Path
            Folder in which the state after each epoch is kept.
        stage, key : str
            What the state is called, and what it depends on.
        after_epoch : callable
            Called when the state has been kept.
        quiet : bool
        """
        checkpoint = Checkpoint(work, stage, key)
        kept = checkpoint.load()
        if kept is not None:
            self.restore(kept)
            log(f"going on after epoch {len(self.history)}", quiet)

        def keep() -> None:
            checkpoint.save(self.state())
            after_epoch()

        self.run(keep)

    def state(self) -> dict[str, Array]:
        """Everything that :meth:`restore` needs to go on bit for bit."""
        arrays = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        arrays |= {f"averaged.{name}": value for name, value in self._averaged.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    arrays[f"optimizer.{key}.{name}"] = value
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
        parameters = dict(self.network.named_parameters())
        for path, value in part("optimizer").items():
            key, _, name = path.partition(".")
            parameter = parameters[name]
            if value.shape == parameter.shape:
                # The layout of the parameter is what the arithmetic is done in.
                value = torch.empty_like(parameter).copy_(value)
            self.optimizer.state[parameter][key] = value
        self.history = [
            Epoch(int(row[0]), int(row[1]), *row[2:4], *(None if np.isnan(value) else value for value in row[4:]))
            for row in arrays["history"].tolist()
        ]


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
