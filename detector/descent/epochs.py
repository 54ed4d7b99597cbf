"""Training in epochs, with a record of each epoch; an interrupted run resumes with bit-identical results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.arrays import Array
from ...data.errors import InputError
from ...data.progress import log
from ...data.store import Checkpoint
from ..head.compression import bfloat16_is_fast
from .processes import Team, WholeBatch, noticing_losses, team


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch.

    Attributes
    ----------
    number : int
        From 1.
    size : int or None
        Side of the training images, pixels; None if it is not the same for all.
    rate : float
        Learning rate after the warm-up, or at the epoch's start.
    loss : float
        Mean over the epoch's batches, with augmentation and dropout.
    held_out_loss, held_out_score : float or None
        Loss and score on the held-out set; a higher score is better. None without a held-out set.
    held_out_top5 : float or None
        Top-5 accuracy, if each photograph has one label and there are more than five classes.
    """

    number: int
    size: int | None
    rate: float
    loss: float
    held_out_loss: float | None = None
    held_out_score: float | None = None
    held_out_top5: float | None = None


class EpochRunner(ABC):
    """Train in epochs. Each epoch has its own random numbers, so training can resume after any of them.

    Where there are several processes (:mod:`.processes`), each computes its rows of every batch, and the first one does
    all the rest.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    report : function
        Called with lines of text after each epoch.
    mixed : bool or None
        Multiply in bfloat16; None means yes if the device is fast at it.

    Attributes
    ----------
    history : list of Epoch
    team : Team or None
        The processes, while several of them train.
    """

    optimizer: torch.optim.Optimizer
    team: Team | None = None
    _parallel: nn.Module | None = None

    def __init__(self, network: nn.Module, report: Callable[[str], None], mixed: bool | None = None) -> None:
        self.network, self.report = network, report
        self.device = next(network.parameters()).device
        self.mixed = bfloat16_is_fast(self.device) if mixed is None else mixed
        self.history: list[Epoch] = []

    @abstractmethod
    def _finished(self) -> bool:
        """Whether training is complete."""

    @abstractmethod
    def _learn(self) -> tuple[float, list[Tensor]]:
        """Make the steps of the next epoch; return its rate and the results of :meth:`_backward`."""

    @abstractmethod
    def _judge(self, rate: float, losses: list[Tensor]) -> None:
        """Append the results of an epoch to the history, given its rate and the loss of each batch.

        Raises
        ------
        InputError
            When training diverges.
        """

    @abstractmethod
    def _smallest_batch(self) -> int:
        """The fewest rows that a batch can have."""

    @abstractmethod
    def _result(self) -> dict[str, Tensor] | None:
        """State of the network to keep at the end; None means the last one."""

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Run the remaining epochs; afterwards the network is in eval mode.

        Raises
        ------
        InputError
            When training diverges.
        """
        with self._shared():
            while not self._finished():
                self._epoch()
                after_epoch()
        result = self._result()
        if result is not None:
            self.network.load_state_dict(result)
        self.network.eval()

    def _epoch(self) -> None:
        """Run one epoch and append its results to the history."""
        rate, losses = self._learn()
        if self.team is not None and losses:
            losses = list(self.team.total(torch.stack(losses)))
        if self.team is None or self.team.rank == 0:
            self._judge(rate, losses)
        if self.team is not None:
            self.history = self.team.agreed(self.history)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """In this block all processes train, if there are several."""
        members = None if self._finished() else team()
        if members is None:
            yield
            return
        if self._smallest_batch() < members.size:
            raise InputError(
                f"a batch of {self._smallest_batch()} cannot be divided among {members.size} processes: start fewer "
                "processes, or take larger batches"
            )
        with noticing_losses(members):
            members.agreed(self)
            with self._in(members):
                yield

    @contextmanager
    def _in(self, members: Team) -> Iterator[None]:
        self.team, self._parallel = members, members.parallel(self.network)
        try:
            yield
        finally:
            self.team = self._parallel = None

    def follow(self, members: Team) -> None:
        """Train beside the first process, which has handed this out."""
        with self._in(members):
            while not self._finished():
                self._epoch()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to :meth:`follow`."""
        return {**self.__dict__, "report": None}

    @property
    def learner(self) -> nn.Module:
        """The network, to be called in training."""
        return self.network if self._parallel is None else self._parallel

    def _own(self, rows: Array) -> Array:
        """The rows of a batch that this process computes."""
        return rows if self.team is None else rows[self.team.own]

    def _as_one(self, rows: int) -> AbstractContextManager[Any]:
        """In this block the network sees its rows as a part of a batch of so many."""
        return nullcontext() if self.team is None else WholeBatch(self.team, rows)

    def _backward(self, loss: Tensor, share: float) -> Tensor:
        """Compute the gradients of the whole batch's mean loss.

        Parameters
        ----------
        loss : Tensor ()
            Mean loss of the rows of this process.
        share : float
            Their part of the whole batch's mean.

        Returns
        -------
        Tensor ()
            What this process adds to the whole batch's mean.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.team is None:
            loss.backward()
            return loss.detach()
        part = loss * share
        # Gradients become the means over the processes, not the sums.
        (part * self.team.size).backward()
        return part.detach()

    @contextmanager
    def _learning(self, rng: np.random.Generator) -> Iterator[None]:
        """Inside the context the network is in training mode, and dropout depends on ``rng`` alone."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            self.network.train()
            yield

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

    def run_resumably(self, work: Path, stage: str, key: str, after_epoch: Callable[[], None], quiet: bool) -> None:
        """Call :meth:`run` from the last checkpoint of an earlier run with the same key.

        Parameters
        ----------
        work : Path
            Folder of the checkpoint, which is written after each epoch.
        stage, key : str
            Name of the checkpoint, and the key of everything it depends on.
        after_epoch : callable
            Called after each checkpoint.
        quiet : bool
        """
        checkpoint = Checkpoint(work, stage, key)
        kept = self._loaded(checkpoint)
        if kept is not None:
            self.restore(kept)
            log(f"{stage}: resuming after epoch {len(self.history)}", quiet)

        def keep() -> None:
            checkpoint.save(self.state())
            after_epoch()

        self.run(keep)

    def _loaded(self, checkpoint: Checkpoint) -> dict[str, Array] | None:
        """The arrays of a checkpoint if they can be a :meth:`state` of this network."""
        own = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        wanted = {f"network.{name}": shape for name, shape in own.items()}
        wanted |= {name: tuple(value.shape) for name, value in self._more().items()}
        arrays = checkpoint.load(wanted)
        if arrays is None or arrays.get("history", np.zeros(0)).shape[1:] != (len(fields(Epoch)),):
            return None
        for name, value in arrays.items():
            # Optimizers keep values in the shape of each parameter, and single numbers; means have its name, too.
            part = name.split(".", 2)[-1] if name.startswith("optimizer.") else name.partition(".")[2]
            if part in own and (value.shape not in (own[part], (), (1,)) or np.isnan(value).any()):
                return None
        return arrays

    @abstractmethod
    def _more(self) -> dict[str, Tensor]:
        """State beyond network, optimizer and history."""

    @abstractmethod
    def _restore_more(self, arrays: Mapping[str, Array]) -> None:
        """Restore the result of :meth:`_more`."""

    def state(self) -> dict[str, Array]:
        """Everything that :meth:`restore` needs for bit-identical results."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()} | self._more()
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    tensors[f"optimizer.{key}.{name}"] = value
        rows = [[np.nan if value is None else value for value in astuple(epoch)] for epoch in self.history]
        # Copies: training changes the tensors in place.
        arrays = {name: value.cpu().numpy().copy() for name, value in tensors.items()}
        return arrays | {"history": np.array(rows, np.float64)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Restore a :meth:`state` of the same images and options."""
        self.network.load_state_dict(self._part(arrays, "network"))
        parameters = dict(self.network.named_parameters())
        for path, value in self._part(arrays, "optimizer").items():
            key, _, name = path.partition(".")
            parameter = parameters[name]
            if value.shape == parameter.shape:
                # Keep the parameter's memory layout: the order of the arithmetic depends on it.
                value = torch.empty_like(parameter).copy_(value)
            self.optimizer.state[parameter][key] = value
        self.history = [_epoch_of(row) for row in arrays["history"].tolist()]
        self._restore_more(arrays)

    def _part(self, arrays: Mapping[str, Array], kind: str) -> dict[str, Tensor]:
        """Tensors of a state with the prefix ``kind``, by the rest of their names."""
        start = f"{kind}."
        return {
            name.removeprefix(start): torch.tensor(value, device=self.device)
            for name, value in arrays.items()
            if name.startswith(start)
        }


def _epoch_of(row: list[float]) -> Epoch:
    """Epoch from a row of its values, with NaN for None."""
    number, size, rate, loss, *held_out = row
    scores = (None if np.isnan(value) else value for value in held_out)
    return Epoch(int(number), None if np.isnan(size) else int(size), rate, loss, *scores)
