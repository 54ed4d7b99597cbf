"""Choose the device that a model runs on."""

from __future__ import annotations

import torch

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
