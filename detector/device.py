"""Choose the device that a model runs on."""

from __future__ import annotations

import torch

from ..data.errors import InputError


def usable_device(device: str | torch.device) -> torch.device:
    """Return the torch device of this name, with its number.

    Parameters
    ----------
    device : str or torch.device
        ``"cpu"``, ``"cuda"`` (the current one) or ``"cuda:1"``.

    Raises
    ------
    InputError
        When it is neither the CPU nor a CUDA device that torch finds on this machine.
    """
    name = str(device)
    if name == "cpu":
        return torch.device("cpu")
    known = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name == "cuda" and known:
        return torch.device("cuda", torch.cuda.current_device())
    if name not in known:
        raise InputError(f"there is no device '{name}' here; expected one of {', '.join(['cpu', *known])}")
    return torch.device(name)
