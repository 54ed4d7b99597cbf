"""A detector as one value, and as a model file (:mod:`.modelfile`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...data.errors import InputError
from ..head.compression import compress, describe
from ..head.head import Head
from ..modelfile import read_model, tensors_below, write_model
from ..options import Compression, DetectOptions, FeatureOptions, Scorer
from .calibration import Calibration


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
    calibration : Calibration, optional
        From scores to probabilities; None for models that were trained without held-out images.

    Raises
    ------
    InputError
        When the calibration is of another number of classes.
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
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.calibration is not None and len(self.calibration.slopes) != len(self.class_names):
            raise InputError(
                f"the calibration is of {len(self.calibration.slopes)} classes, the model has {len(self.class_names)}"
            )

    def header(self) -> dict[str, Any]:
        """Everything that is not a tensor, JSON-like."""
        return {
            "kind": "detector",
            "backbone": self.backbone,
            "layer": self.layer,
            "classes": list(self.class_names),
            "features": self.features.to_dict(),
            "detection": self.detection.to_dict(),
            "scorer": self.scorer,
            "card": self.card,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
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
            raise InputError(f"there are no fc layers to compress: the model's features are {self.features.kind}")
        if "compression" in self.card:
            raise InputError(f"the model is compressed already ({self.card['compression']['method']})")
        head = Head.from_state(self.head)
        small = compress(head, compression, rows)
        record = {"method": str(compression), **describe(head, small)}
        return replace(self, head=small.state(upto=self.features.kind), card={**self.card, "compression": record})

    def halved(self) -> Bundle:
        """The model in half the bytes: float16 tensors, which are single precision again once loaded.

        Fc layers stay as they are; :meth:`compressed` is for them.
        """

        def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}

        return replace(
            self,
            convolutions=half(self.convolutions),
            score_weights=self.score_weights.half(),
            score_intercepts=self.score_intercepts.half(),
            box_weights=None if self.box_weights is None else self.box_weights.half(),
            box_intercepts=None if self.box_intercepts is None else self.box_intercepts.half(),
        )

    def save(self, path: str | Path) -> None:
        """Write the model to ``path``, whole or not at all."""
        write_model(path, self.header(), self.tensors())

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a model file.

        Raises
        ------
        InputError
            When the file is missing or is no model of ours.
        """
        header, tensors = read_model(path, "detector")
        calibration = header.get("calibration")  # files of before there was one have no such key
        try:
            return cls(
                backbone=header["backbone"],
                layer=header["layer"],
                class_names=tuple(header["classes"]),
                features=FeatureOptions.from_dict(header["features"]),
                detection=DetectOptions.from_dict(header["detection"]),
                scorer=header["scorer"],
                card=header["card"],
                convolutions=tensors_below(tensors, "backbone."),
                head=tensors_below(tensors, "head."),
                score_weights=tensors["score.weights"],
                score_intercepts=tensors["score.intercepts"],
                box_weights=tensors.get("box.weights"),
                box_intercepts=tensors.get("box.intercepts"),
                calibration=None if calibration is None else Calibration.from_dict(calibration),
            )
        except KeyError as error:
            raise InputError(f"{path}: not a complete sppnet model: {error} is missing") from error
        except (InputError, TypeError) as error:
            raise InputError(f"{path}: not a sound sppnet model: {error}") from error
