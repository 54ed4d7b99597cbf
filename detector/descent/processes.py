"""Gradient descent on the processes that torchrun has started: each computes its rows of every batch.

The first process runs the command as if it were alone. The others wait in :func:`follow` until it hands them a
training, compute beside it, and wait again. What a network does to a batch as a whole is done to the rows of all
processes together, so the losses are those of one process within rounding.

The processes trust each other: a training travels as a pickle, as everything does in ``torch.distributed``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from ...data.errors import InputError

#: How long processes wait for each other: others wait while the first one computes proposals and maps.
_PATIENCE = timedelta(days=14)

#: Seconds in which the news that the first process has ended arrive after its connection is closed.
_NEWS = 30.0

_ENDED = "sppnet has ended"


class Team:
    """The processes, seen from one of them.

    Parameters
    ----------
    rank : int
        This process; 0 is the first one.
    size : int
        Number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @property
    def own(self) -> slice:
        """The rows of a batch that this process computes."""
        return slice(self.rank, None, self.size)

    def parallel(self, network: nn.Module) -> DistributedDataParallel:
        """The network, whose gradients are from now on the means over the processes."""
        return DistributedDataParallel(network)

    def total(self, values: Tensor) -> Tensor:
        """Add up a tensor over the processes, in place."""
        distributed.all_reduce(values)
        return values

    def agreed(self, value: Any = None) -> Any:
        """The value that the first process gives, which may be any object."""
        values = [value]
        distributed.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]


class WholeBatch(TorchFunctionMode):
    """In this block dropout and batch norms in training treat the rows of a process as a part of the whole batch.

    Dropout draws its mask for all rows, so the numbers are those of one process. Batch norms have the mean and variance
    of all rows. Modules and their states stay as they are.

    Parameters
    ----------
    team : Team
    rows : int
        Rows of the whole batch; each process has one or more.
    """

    def __init__(self, team: Team, rows: int) -> None:
        super().__init__()
        self.team, self.rows = team, rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        ours: dict[Any, Callable[..., Any]] = {
            functional.dropout: self._dropout,
            functional.batch_norm: self._batch_norm,
        }
        return ours.get(func, func)(*args, **(kwargs or {}))

    def _dropout(self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return values
        # Of ones: so the mask, already divided by 1 - p, is drawn as torch does it on this device.
        return values * functional.dropout(values.new_ones(self.rows, *values.shape[1:]), p)[self.team.own]

    def _batch_norm(
        self,
        values: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(values, running_mean, running_var, weight, bias, False, momentum, eps)
        count = self.rows * values.shape[2:].numel()
        result, mean, variance = _Normalise.apply(values, self.team, count, eps)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(variance.to(running_var.dtype) * (count / max(count - 1, 1)), momentum)
        shape = (1, -1, *[1] * (values.ndim - 2))
        if weight is not None:
            result = result * weight.view(shape)
        if bias is not None:
            result = result + bias.view(shape)
        return result.to(values.dtype)


class _Normalise(torch.autograd.Function):
    """Subtract the mean of each channel and divide by its deviation, those of the rows of all processes.

    torch's SyncBatchNorm does so on GPUs only.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, team: Team, count: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        numbers = values if values.dtype == torch.float64 else values.float()
        ctx.axes, ctx.shape = [0, *range(2, values.ndim)], (1, -1, *[1] * (values.ndim - 2))
        ctx.team, ctx.count = team, count
        mean = team.total(numbers.sum(ctx.axes)) / count
        centred = numbers - mean.view(ctx.shape)
        # In two passes: squares of maps with a large mean would leave few digits to their difference.
        variance = team.total(centred.square().sum(ctx.axes)) / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(values, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return centred.mul_(scale.view(ctx.shape)), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, mean, scale = ctx.saved_tensors
        gradient, scale = gradients[0], scale.view(ctx.shape)
        normalised = (values.to(gradient.dtype) - mean.view(ctx.shape)) * scale
        sums = torch.stack([gradient.sum(ctx.axes), (gradient * normalised).sum(ctx.axes)])
        first, second = (ctx.team.total(sums) / ctx.count).view(2, *ctx.shape)
        return ((gradient - first - normalised * second) * scale).to(values.dtype), None, None, None


def team() -> Team | None:
    """The processes, if this is the first one of several; it waits until all are there."""
    if not _LEADING:
        return None
    if _LEADING[-1].team is None:
        _LEADING[-1].team = _joined(_LEADING[-1].backend)
    return _LEADING[-1].team


@dataclass
class _Leader:
    backend: str
    team: Team | None = None  # once there has been need of it


#: One in a :func:`leading` block.
_LEADING: list[_Leader] = []


@contextmanager
def leading() -> Iterator[None]:
    """In this block this process leads those that torchrun has started; at its end, for whatever reason, they end."""
    store = _store()
    _LEADING.append(_Leader(_backend()))
    try:
        yield
    finally:
        store.set(_ENDED, "")
        if _LEADING.pop().team is not None:
            distributed.destroy_process_group()


@contextmanager
def noticing_losses(team: Team) -> Iterator[None]:
    """In this block the loss of another process is an InputError."""
    try:
        yield
    except RuntimeError as error:
        if not _is_of_connections(error):
            raise
        raise InputError(
            f"one of the {team.size} processes of torchrun was lost; the same call goes on after the last epoch"
        ) from error


def follow() -> NoReturn:
    """Compute what the first process hands out, and end when it does; with status 1 after an error.

    When the first process ends, this one does so at once, whatever it is doing.
    """
    # Ctrl-C goes to all processes; the first one decides what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The first process says the same.
    logging.disable()
    warnings.simplefilter("ignore")
    end = threading.Thread(target=_end_with_the_first, daemon=True)
    end.start()
    members = None
    try:
        members = _joined(_backend())
        while True:
            members.agreed().follow(members)
    except Exception as error:
        if members is not None and _is_of_connections(error):
            end.join(_NEWS)  # the first process may have ended
        else:
            said = " ".join(str(error).split()) or type(error).__name__
            print(f"sppnet: error: process {os.environ['RANK']} of torchrun: {said}", file=sys.stderr, flush=True)
    # Python's own way out would wait for threads inside of torch, or with torch 2.6 abort for their sake.
    os._exit(1)


def _end_with_the_first() -> None:
    with suppress(Exception):  # the first process may have taken the store along
        _store().wait([_ENDED], _PATIENCE)
    os._exit(0)


def _store() -> Any:
    """A connection of its own to what all processes can read and write: each waits on its connection alone."""
    from torch.distributed.rendezvous import rendezvous  # some builds of torch do not have it

    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return store


def _backend() -> str:
    """Take a GPU of this machine, if there are some, and say what the processes talk through."""
    here, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if not gpus:
        return "gloo"
    names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    # Each process then calls its own one "cuda:0", and so does the training that is handed out.
    os.environ["CUDA_VISIBLE_DEVICES"] = names[here % gpus]
    # NCCL refuses two processes on a GPU.
    return "cpu:gloo,cuda:nccl" if int(os.environ["LOCAL_WORLD_SIZE"]) <= gpus else "gloo"


def _joined(backend: str) -> Team:
    """Wait until all processes are there."""
    distributed.init_process_group(backend, timeout=_PATIENCE)
    return Team(distributed.get_rank(), distributed.get_world_size())


def _is_of_connections(error: BaseException) -> bool:
    """Whether the reason is that another process is not there any more."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error)
