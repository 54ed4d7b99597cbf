"""The model file: tensors in safetensors, everything else as JSON in its header; nothing in it can be executed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.errors import InputError
from ..data.store import atomic_path
from .compression import Compression, compress, describe
from .config import DetectOptions, FeatureOptions, Scorer
from .head import Head

#: Raised when a reader of this version could not understand the file.
FORMAT = 2


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
    score_weights, score_intercepts : Tensor (classes, width), (classes,)
        SVMs' scores are ``rows @ score_weights.T + score_intercepts``. For a softmax they have one row more, the
        background's, and give logits.
    box_weights, box_intercepts : Tensor (classes, pooled width, 4), (classes, 4), or None
        The regressors see pooled features, whatever the scores are made of.
    head : dict of Tensor
        State of the fc layers up to the one in use; empty when that is pool5.
    scorer : {"svm", "softmax"}
        Where scores come from: the SVMs' margins, or the log-odds of the fine-tuned network's probabilities.
    """

    backbone: str
    layer: str
    class_names: tuple[str, ...]
    features: FeatureOptions
    detection: DetectOptions
    convolutions: dict[str, Tensor]
    score_weights: Tensor
    score_intercepts: Tensor
    box_weights: Tensor | None = None
    box_intercepts: Tensor | None = None
    head: dict[str, Tensor] = field(default_factory=dict)
    scorer: Scorer = "svm"
    card: dict[str, Any] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """Everything that is not a tensor, JSON-like."""
        return {
            "format": FORMAT,
            "backbone": self.backbone,
            "layer": self.layer,
            "classes": list(self.class_names),
            "features": self.features.to_dict(),
            "detection": self.detection.to_dict(),
            "scorer": self.scorer,
            "card": self.card,
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they have in the file, contiguous on the CPU."""
        tensors = {f"backbone.{name}": value for name, value in self.convolutions.items()}
        tensors |= {f"head.{name}": value for name, value in self.head.items()}
        tensors |= {"score.weights": self.score_weights, "score.intercepts": self.score_intercepts}
        if self.box_weights is not None and self.box_intercepts is not None:
            tensors |= {"box.weights": self.box_weights, "box.intercepts": self.box_intercepts}
        return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def compressed(self, compression: Compression, rows: Tensor | None = None) -> Bundle:
        """The model with smaller and faster fc layers, which its card tells of.

        Parameters
        ----------
        compression : Compression
        rows : tensor (N, pooled width), optional
            Pooled windows for whose outputs the layers are compressed (see :func:`.compression.compress`).

        Raises
        ------
        InputError
            For a model without fc layers, or one that is compressed already.
        """
        if not self.head:
            raise InputError(f"there are no fc layers to compress: the model's features are {self.features.features}")
        if "compression" in self.card:
            raise InputError(f"the model is compressed already ({self.card['compression']['method']})")
        head = Head.from_state(self.head)
        small = compress(head, compression, rows)
        record = {"method": str(compression), **describe(head, small)}
        return replace(self, head=small.state(upto=self.features.features), card={**self.card, "compression": record})

    def save(self, path: str | Path) -> None:
        """Write the model to ``path``, whole or not at all."""
        with atomic_path(path) as temporary:
            save_file(self.tensors(), temporary, metadata={"sppnet": json.dumps(self.header())})

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
                scorer=header["scorer"],
                card=header["card"],
                convolutions=_part(tensors, "backbone."),
                head=_part(tensors, "head."),
                score_weights=tensors["score.weights"],
                score_intercepts=tensors["score.intercepts"],
                box_weights=tensors.get("box.weights"),
                box_intercepts=tensors.get("box.intercepts"),
            )
        except KeyError as error:
            raise InputError(f"{path}: not a complete sppnet model: {error} is missing") from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


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
            # Copies lie in memory as all tensors of torch do; from where they lie in a file MKL, on some processors,
            # adds in another order.
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: not an sppnet model file ({error})") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path}: model format {header.get('format')}, this version reads format {FORMAT}")
    return header, tensors
