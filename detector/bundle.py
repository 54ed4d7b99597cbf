"""The model file: tensors in safetensors, everything else as JSON in its header; nothing in it can be executed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.errors import InputError
from ..data.store import atomic_path
from .config import DetectOptions, FeatureOptions

#: Raised when a reader of this version could not understand the file.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Bundle:
    """All that is needed to detect.

    Attributes
    ----------
    backbone, layer : str
        Name of the network and of its node whose output is pooled.
    class_names : tuple of str
    features, detection : FeatureOptions, DetectOptions
    card : dict
        Where the model comes from and how well it does, JSON-like.
    convolutions : dict of Tensor
        The backbone's state.
    svm_weights, svm_intercepts : Tensor (classes, width), (classes,)
        Scores are ``features @ svm_weights.T + svm_intercepts``.
    box_weights, box_intercepts : Tensor (classes, width, 4), (classes, 4), or None
    """

    backbone: str
    layer: str
    class_names: tuple[str, ...]
    features: FeatureOptions
    detection: DetectOptions
    convolutions: dict[str, Tensor]
    svm_weights: Tensor
    svm_intercepts: Tensor
    box_weights: Tensor | None = None
    box_intercepts: Tensor | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the model to ``path``, whole or not at all."""
        header = {
            "format": FORMAT,
            "backbone": self.backbone,
            "layer": self.layer,
            "classes": list(self.class_names),
            "features": self.features.to_dict(),
            "detection": self.detection.to_dict(),
            "card": self.card,
        }
        tensors = {f"backbone.{name}": value for name, value in self.convolutions.items()}
        tensors |= {"svm.weights": self.svm_weights, "svm.intercepts": self.svm_intercepts}
        if self.box_weights is not None and self.box_intercepts is not None:
            tensors |= {"box.weights": self.box_weights, "box.intercepts": self.box_intercepts}
        with atomic_path(path) as temporary:
            contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(contiguous, temporary, metadata={"sppnet": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a model file.

        Raises
        ------
        InputError
            When the file is missing or is no model of ours.
        """
        header, tensors = _read(path, with_tensors=True)
        try:
            return cls(
                backbone=header["backbone"],
                layer=header["layer"],
                class_names=tuple(header["classes"]),
                features=FeatureOptions.from_dict(header["features"]),
                detection=DetectOptions.from_dict(header["detection"]),
                card=header["card"],
                convolutions={k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")},
                svm_weights=tensors["svm.weights"],
                svm_intercepts=tensors["svm.intercepts"],
                box_weights=tensors.get("box.weights"),
                box_intercepts=tensors.get("box.intercepts"),
            )
        except KeyError as error:
            raise InputError(f"{path}: not a complete sppnet model: {error} is missing") from error


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a model file, without its tensors.

    Raises
    ------
    InputError
        When the file is missing or is no model of ours.
    """
    return _read(path, with_tensors=False)[0]


def _read(path: str | Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("sppnet")
            if text is None:
                raise InputError(f"{path}: a safetensors file, but not an sppnet model ('sppnet train' makes one)")
            header = json.loads(text)
            names = file.keys() if with_tensors else []
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: not an sppnet model file ({error})") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: model format {header.get('format')}, this version reads format {FORMAT}")
    return header, tensors
