"""Learning in epochs: what each came to, and going on bit for bit where it was stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...data.arrays import Array
from ...data.progress import log
from ...data.store import Checkpoint
from ..head.compression import bfloat16_is_fast


@dataclass(frozen=True)
class Epoch:
    """What one visit to every image came to.

    Attributes
    ----------
    number : int
        From 1.
    size : int or None
        Side of the images learnt from, pixels; None where it is not the same for all.
    rate : float
        Learning rate after the warm-up, or at the epoch's start.
    loss : float
        Mean over the epoch's batches, with augmentation and dropout.
    held_out_loss, held_out_score : float or None
        On what is held out: the loss, and a score that is the higher the better; None where there is nothing to score.
    held_out_top5 : float or None
        The top-5 accuracy, where photographs have one label and there are more than five.
    """

    number: int
    size: int | None
    rate: float
    loss: float
    held_out_loss: float | None = None
    held_out_score: float | None = None
    held_out_top5: float | None = None


class EpochRunner(ABC):
    """Learns in epochs, each with random numbers of its own, so that it can be resumed.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    report : function
        Called with lines of text after each epoch.
    mixed : bool or None
        Products in bfloat16; None is yes where that is quick.

    Attributes
    ----------
    history : list of Epoch
    """

    optimizer: torch.optim.Optimizer

    def __init__(self, network: nn.Module, report: Callable[[str], None], mixed: bool | None = None) -> None:
        self.network, self.report = network, report
        self.device = next(network.parameters()).device
        self.mixed = bfloat16_is_fast(self.device) if mixed is None else mixed
        self.history: list[Epoch] = []

    @abstractmethod
    def _finished(self) -> bool:
        """Whether enough has been learnt."""

    @abstractmethod
    def _epoch(self) -> None:
        """Visit every image once, and add what it came to to the history."""

    @abstractmethod
    def _result(self) -> dict[str, Tensor] | None:
        """The network's state that is kept in the end; None is the last one."""

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Go through the epochs that are left; afterwards the network is in eval mode.

        Raises
        ------
        InputError
            When learning diverges.
        """
        while not self._finished():
            self._epoch()
            after_epoch()
        result = self._result()
        if result is not None:
            self.network.load_state_dict(result)
        self.network.eval()

    @contextmanager
    def _learning(self, rng: np.random.Generator) -> Iterator[None]:
        """Inside, the network is in training mode, and dropout's random numbers follow from ``rng`` alone."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**31)))
            self.network.train()
            yield

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)

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
            log(f"{stage}: resuming after epoch {len(self.history)}", quiet)

        def keep() -> None:
            checkpoint.save(self.state())
            after_epoch()

        self.run(keep)

    @abstractmethod
    def _more(self) -> dict[str, Tensor]:
        """What the state has besides network, optimizer and history."""

    @abstractmethod
    def _restore_more(self, arrays: Mapping[str, Array]) -> None:
        """Go back to what :meth:`_more` gave."""

    def state(self) -> dict[str, Array]:
        """Everything that :meth:`restore` needs to go on bit for bit."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()} | self._more()
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    tensors[f"optimizer.{key}.{name}"] = value
        rows = [[np.nan if value is None else value for value in astuple(epoch)] for epoch in self.history]
        # Copies: training goes on in place.
        arrays = {name: value.cpu().numpy().copy() for name, value in tensors.items()}
        return arrays | {"history": np.array(rows, np.float64)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go back to a :meth:`state` of the same images and options."""
        self.network.load_state_dict(self._part(arrays, "network"))
        parameters = dict(self.network.named_parameters())
        for path, value in self._part(arrays, "optimizer").items():
            key, _, name = path.partition(".")
            parameter = parameters[name]
            if value.shape == parameter.shape:
                # The layout of the parameter is what the arithmetic is done in.
                value = torch.empty_like(parameter).copy_(value)
            self.optimizer.state[parameter][key] = value
        self.history = [_epoch_of(row) for row in arrays["history"].tolist()]
        self._restore_more(arrays)

    def _part(self, arrays: Mapping[str, Array], kind: str) -> dict[str, Tensor]:
        """The tensors of a state whose names begin with a word, by the rest of their names."""
        start = f"{kind}."
        return {
            name.removeprefix(start): torch.tensor(value, device=self.device)
            for name, value in arrays.items()
            if name.startswith(start)
        }


def _epoch_of(row: list[float]) -> Epoch:
    """The epoch whose values these are, NaN in the place of None."""
    number, size, rate, loss, *held_out = row
    scores = (None if np.isnan(value) else value for value in held_out)
    return Epoch(int(number), None if np.isnan(size) else int(size), rate, loss, *scores)
