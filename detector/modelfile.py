"""The model file: tensors in safetensors, everything else as JSON in its header; it contains no executable code."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from ..data.embedded import find_model
from ..data.errors import InputError
from ..data.store import atomic_path
from .options import Scorer
from .values import check_value, shortened

Kind = Literal["detector", "classifier", "backbone"]

#: Increased when older versions could not read new files.
FORMAT = 2

# Name of each kind, and the command that makes one.
_KINDS: dict[Kind, tuple[str, str]] = {
    "detector": ("a detector", "sppnet train"),
    "classifier": ("a classification network", "sppnet classify train"),
    "backbone": ("a backbone", "sppnet distil"),
}


#: Types of the values in a header, as :func:`.values.check_value` takes them; all but "kind" may be missing.
_FIELDS: dict[str, Any] = {
    "kind": str,
    "backbone": str,
    "layer": str,
    "classes": tuple[str, ...],
    "features": dict,
    "detection": dict,
    "options": dict,
    "scorer": Scorer,
    "card": dict,
    "calibration": dict | None,
}

#: Key of the checksum in the header. It is no second text beside the header: safetensors writes several in any order.
_CHECKSUM = "crc32"


def write_model(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model file atomically; equal models make equal bytes.

    Parameters
    ----------
    path : str or Path
    header : mapping
        Everything except the tensors, JSON-like; "kind" is the kind of model.
    tensors : mapping of str to tensor
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    whole = {"format": FORMAT, **header}
    text = json.dumps({**whole, _CHECKSUM: _checksum(whole, contiguous)})
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"sppnet": text})


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
        When the file is missing, not an sppnet model of that kind, or damaged: it has another checksum (files of
        earlier versions have none), or numbers that are not finite.
    """
    text, tensors = _open(path, find_model(path), _MODEL)
    header = _header(path, text, tensors)
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
    return _header(path, _open(path, find_model(path), _MODEL, with_tensors=False)[0])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any safetensors file; those of a model file are checked as :func:`read_model` does.

    Raises
    ------
    InputError
        When the file is none, or damaged.
    """
    text, tensors = _open(path, path, "cannot be read as a state dict")
    if text is None:
        check_finite(path, tensors)
    else:
        _header(path, text, tensors)
    return tensors


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_finite(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise an InputError for a tensor with numbers that are not finite, or not in single precision."""
    for name, value in tensors.items():
        # The sum is finite only if all numbers are, or if it overflows; it takes a tenth of the time.
        if value.is_floating_point() and not value.float().sum().isfinite() and not value.float().isfinite().all():
            raise InputError(f"{path}: {shortened(name)} has numbers that are not finite: the file is damaged")


def what_is(path: Path) -> str | None:
    """What a file is that people take for weights, in words; None for any other."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError:
        return None
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer to the file: 'git lfs pull' fetches the file itself"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page: the download went wrong"
    if path.suffix == ".safetensors" and start.startswith((b"pk\x03\x04", b"\x80\x02")):
        return "it is a file of torch.save under another name"
    return None


def first_line(error: Exception) -> str:
    """The first line of an error's message, shortened, or its type."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


#: What a file is said to be that is no safetensors file.
_MODEL = "not an sppnet model file"


def _open(
    path: str | Path, file: Path, refusal: str, with_tensors: bool = True
) -> tuple[str | None, dict[str, Tensor]]:
    """The text of the header, if there is one, and the tensors of a safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys() if with_tensors else []
            # Copies have torch's usual memory alignment; with a file's alignment MKL adds in another order on some
            # processors.
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name).clone() for name in names}
            return (opened.metadata() or {}).get("sppnet"), tensors
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else what_is(file) or first_line(error)
        raise InputError(f"{path}: {refusal} ({reason})") from error


def _header(path: str | Path, text: str | None, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Read a header, and check it and the tensors."""
    if text is None:
        raise InputError(f"{path}: a safetensors file, but not an sppnet model ('sppnet train' makes one)")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or lists in lists a thousand deep
        raise InputError(f"{path}: {_MODEL} (its header is not JSON: {first_line(error)})") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: {_MODEL} (its header is no JSON object)")
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: model format {shortened(header.get('format'))}, this version reads format {FORMAT}")
    checksum = header.pop(_CHECKSUM, None)  # files of earlier versions have none
    if tensors is not None and checksum is not None and checksum != _checksum(header, tensors):
        raise InputError(f"{path}: the file is damaged: its checksum is not that of its contents")
    header.setdefault("kind", "detector")  # files from before there were other kinds
    try:
        for key, kind in _FIELDS.items():
            if key in header:
                check_value(key, header[key], kind)
        names = header.get("classes", [""])
        if not 0 < len(set(names)) == len(names):
            raise InputError(f"classes must be one or more different names, not {shortened(names)}")
    except InputError as error:
        raise InputError(f"{path}: not a valid sppnet model: {error}") from error
    if header["kind"] not in _KINDS:
        raise InputError(f"{path}: a model of the kind {header['kind']!r}, which this version does not know")
    check_finite(path, tensors or {})
    return header


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the header and all tensors, 8 hex digits.

    It finds damage. Against forgery nothing in the file could help, so a cryptographic hash would only take longer.
    """
    state = zlib.crc32(json.dumps(header).encode())
    for name, value in sorted(tensors.items()):
        state = zlib.crc32(json.dumps([name, str(value.dtype), value.shape]).encode(), state)
        # Of any dtype, numpy's or not.
        state = zlib.crc32(value.reshape(-1).view(uint8).numpy().data, state)
    return f"{state:08x}"
