"""The device that a model runs on, and the precision of its convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..data.errors import InputError


def usable_device(device: str | torch.device) -> torch.device:
    """Return the torch device of this name, with its number.

    Parameters
    ----------
    device : str or torch.device
        ``"cpu"``, ``"cuda"`` (the current one) or ``"cuda:1"``; ``"mps"`` and ``"xpu"`` have not been tried.

    Raises
    ------
    InputError
        When torch does not find it on this machine.
    """
    name = str(device)
    if name == "cpu":
        return torch.device("cpu")
    known = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known += [kind for kind, there in (("mps", torch.backends.mps), ("xpu", torch.xpu)) if there.is_available()]
    if name == "cuda" and torch.cuda.device_count():
        return torch.device("cuda", torch.cuda.current_device())
    if name not in known:
        raise InputError(f"there is no device '{name}' here; expected one of {', '.join(['cpu', *known])}")
    return torch.device(name)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to the device; to CUDA's while the caller goes on, by way of pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def convolutions_in_tf32(allowed: bool, device: torch.device) -> Iterator[None]:
    """In this block cuDNN rounds the factors of float32 convolutions to TF32, or does not, whatever torch's setting is.

    torch allows it by default: factors then have 10 bits behind the point instead of 23. On a device that is none of
    CUDA's there is nothing to set.
    """
    if device.type != "cuda":
        yield
        return
    backend: Any = torch.backends.cudnn
    # Later versions than 2.6 have a setting for convolutions alone.
    settings, name = (backend.conv, "fp32_precision") if hasattr(backend, "conv") else (backend, "allow_tf32")
    before = getattr(settings, name)
    setattr(settings, name, ("tf32" if allowed else "ieee") if name == "fp32_precision" else allowed)
    try:
        yield
    finally:
        setattr(settings, name, before)
