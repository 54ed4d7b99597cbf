"""The model file: tensors in safetensors, everything else as JSON in its header; nothing in it can be executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.embedded import find_model
from ..data.errors import InputError
from ..data.store import atomic_path

Kind = Literal["detector", "classifier", "backbone"]

#: Raised when a reader of this version could not understand the file.
FORMAT = 2

# What each kind is called, and the command that makes one.
_KINDS: dict[Kind, tuple[str, str]] = {
    "detector": ("a detector", "sppnet train"),
    "classifier": ("a classification network", "sppnet classify train"),
    "backbone": ("convolutions alone", "sppnet distil"),
}


def write_model(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model, whole or not at all.

    Parameters
    ----------
    path : str or Path
    header : mapping
        Everything that is not a tensor, JSON-like; "kind" says what the model is.
    tensors : mapping of str to tensor
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"sppnet": json.dumps({"format": FORMAT, **header})})


def read_model(path: str | Path, kind: Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a model file.

    Parameters
    ----------
    path : str or Path
        Also the name of a model that the package carries (see :func:`sppnet.data.embedded.find_model`).
    kind : {"detector", "classifier", "backbone"}

    Raises
    ------
    InputError
        When the file is missing, or is no model of ours of that kind.
    """
    header, tensors = _read(path, with_tensors=True)
    found = header["kind"]
    if found != kind:
        is_a, _ = _KINDS[found]
        wanted, command = _KINDS[kind]
        raise InputError(f"{path}: is {is_a}, expected {wanted} ('{command}' makes one)")
    return header, tensors


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a model file of any kind, without its tensors; ``path`` as for :func:`read_model`.

    Raises
    ------
    InputError
        When the file is missing or is no model of ours.
    """
    return _read(path, with_tensors=False)[0]


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: str | Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    found = find_model(path)
    try:
        with safe_open(found, framework="pt") as file:
            text = (file.metadata() or {}).get("sppnet")
            if text is None:
                raise InputError(f"{path}: a safetensors file, but not an sppnet model ('sppnet train' makes one)")
            header = json.loads(text)
            names = file.keys() if with_tensors else []
            # Copies lie in memory as all tensors of torch do; from where they lie in a file MKL, on some processors,
            # adds in another order.
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: not an sppnet model file ({error})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: not an sppnet model file (its header is no JSON object)")
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: model format {header.get('format')}, this version reads format {FORMAT}")
    header.setdefault("kind", "detector")  # files of before there were others
    if header["kind"] not in _KINDS:
        raise InputError(f"{path}: a model of the kind {header['kind']!r}, which this version does not know")
    return header, tensors
