"""The model file: tensors in safetensors, everything else as JSON in its header; it contains no executable code."""

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

#: Increased when older versions could not read new files.
FORMAT = 2

# Name of each kind, and the command that makes one.
_KINDS: dict[Kind, tuple[str, str]] = {
    "detector": ("a detector", "sppnet train"),
    "classifier": ("a classification network", "sppnet classify train"),
    "backbone": ("a backbone", "sppnet distil"),
}


def write_model(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model file atomically.

    Parameters
    ----------
    path : str or Path
    header : mapping
        Everything except the tensors, JSON-like; "kind" is the kind of model.
    tensors : mapping of str to tensor
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"sppnet": json.dumps({"format": FORMAT, **header})})


def read_model(path: str | Path, kind: Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and tensors of a model file.

    Parameters
    ----------
    path : str or Path
        A file or the name of a bundled model (see :func:`sppnet.data.embedded.find_model`).
    kind : {"detector", "classifier", "backbone"}

    Raises
    ------
    InputError
        When the file is missing or not an sppnet model of that kind.
    """
    header, tensors = _read(path, with_tensors=True)
    found = header["kind"]
    if found != kind:
        is_a, _ = _KINDS[found]
        wanted, command = _KINDS[kind]
        raise InputError(f"{path}: is {is_a}, expected {wanted} ('{command}' makes one)")
    return header, tensors


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the JSON header of a model file of any kind, without tensors; ``path`` as for :func:`read_model`.

    Raises
    ------
    InputError
        When the file is missing or not an sppnet model.
    """
    return _read(path, with_tensors=False)[0]


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, under their names without it."""
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
            # Copies have torch's usual memory alignment; with a file's alignment MKL adds in another order on some
            # processors.
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: not an sppnet model file ({error})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: not an sppnet model file (its header is no JSON object)")
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: model format {header.get('format')}, this version reads format {FORMAT}")
    header.setdefault("kind", "detector")  # files from before there were other kinds
    if header["kind"] not in _KINDS:
        raise InputError(f"{path}: a model of the kind {header['kind']!r}, which this version does not know")
    return header, tensors
