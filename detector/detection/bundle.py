"""All parts of a detector as one value, which a model file stores (:mod:`.modelfile`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...data.errors import InputError
from ..head.compression import compress, describe
from ..head.head import Head, factors
from ..modelfile import read_model, tensors_below, write_model
from ..options import RCNN_DETECTION, Compression, DetectOptions, FeatureOptions, Scorer, check_stride
from ..pooling.levels import bins
from ..values import shortened
from .calibration import Calibration

#: Names of the tensors in a file.
_NAMES = re.compile(r"(backbone|head)\..+|score\.(weights|intercepts)|box\.(weights|intercepts)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything that detection needs: weights, options, calibration and card.

    Attributes
    ----------
    backbone, layer : str
        Names of the network and of its node whose output is pooled.
    stride : int or None
        Stride of that map in pixels. None, as in older files: the stride that it has in the network as it is.
    class_names : tuple of str
    features, detection : FeatureOptions, DetectOptions
    card : dict
        Origin and scores of the model, JSON-like.
    convolutions : dict of Tensor
        The backbone's state.
    score_weights, score_intercepts : Tensor (classes, width), (classes,)
        SVM scores are ``rows @ score_weights.T + score_intercepts``. For a softmax there is one more row, for the
        background, and the results are logits.
    box_weights, box_intercepts : Tensor (classes, pooled width, 4), (classes, 4), or None
        Box regressors; they always use pooled features.
    head : dict of Tensor
        State of the fc layers in use; empty for pool5 features.
    scorer : {"svm", "softmax"}
        Scores are SVM margins, or log-odds of the fine-tuned network's probabilities.
    calibration : Calibration, optional
        Maps scores to probabilities; None for models trained without held-out images.

    Raises
    ------
    InputError
        When parts do not fit together: the shapes of the weights, the classes, the calibration; or the stride is no
        positive number.
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
    stride: int | None = None

    def __post_init__(self) -> None:
        check_stride(self.stride)
        if self.calibration is not None and len(self.calibration.slopes) != len(self.class_names):
            raise InputError(
                f"the calibration has {len(self.calibration.slopes)} classes, the model has {len(self.class_names)}"
            )
        self._check_shapes()

    def _check_shapes(self) -> None:
        """Raise an InputError for weights whose shapes do not fit each other."""
        head = Head.from_state(self.head) if self.head else None
        kind, classes = self.features.kind, len(self.class_names)
        if kind != "pool5" and (head is None or not factors(head.get_submodule(kind))):
            raise InputError(f"the features are {kind}, and there is no such fc layer")
        scored = self.pooled_width if head is None or kind == "pool5" else head.width(kind)
        rows = classes + (self.scorer == "softmax")
        shapes = {"score.weights": (rows, scored), "score.intercepts": (rows,)}
        if self.box_weights is not None and self.box_intercepts is not None:
            shapes |= {"box.weights": (classes, self.pooled_width, 4), "box.intercepts": (classes, 4)}
        own = self._own_tensors()
        for name, shape in shapes.items():
            if own[name].shape != shape or not own[name].is_floating_point():
                raise InputError(
                    f"{name} must be floating-point numbers of the shape {shape}, not {own[name].dtype} of "
                    f"{tuple(own[name].shape)}"
                )
        if self.pooled_width % bins(self.features.levels):
            raise InputError(f"windows of {self.pooled_width} numbers do not fit the levels {self.features.levels}")

    @property
    def pooled_width(self) -> int:
        """Length of the row of a pooled window: its channels times the bins of the pyramid."""
        first = self.head.get("fc6.0.weight", self.head.get("fc6.weight", self.score_weights))
        return first.shape[-1]

    def check_channels(self, channels: int) -> None:
        """Raise an InputError if the backbone's maps have other channels than the windows of the model's weights."""
        width = channels * bins(self.features.levels)
        if width != self.pooled_width:
            raise InputError(f"windows have {width} numbers, the weights are for {self.pooled_width}")

    def header(self) -> dict[str, Any]:
        """Everything except the tensors, JSON-like."""
        return {
            "kind": "detector",
            "backbone": self.backbone,
            "layer": self.layer,
            "stride": self.stride,
            "classes": list(self.class_names),
            "features": self.features.to_dict(),
            "detection": self.detection.to_dict(),
            "scorer": self.scorer,
            "card": self.card,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by their names in the file, contiguous on the CPU."""
        tensors = {f"backbone.{name}": value for name, value in self.convolutions.items()}
        tensors |= {f"head.{name}": value for name, value in self.head.items()} | self._own_tensors()
        return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def _own_tensors(self) -> dict[str, Tensor]:
        """The weights behind the features, by their names in the file."""
        tensors = {"score.weights": self.score_weights, "score.intercepts": self.score_intercepts}
        if self.box_weights is not None and self.box_intercepts is not None:
            tensors |= {"box.weights": self.box_weights, "box.intercepts": self.box_intercepts}
        return tensors

    def compressed(self, compression: Compression, rows: Tensor | None = None) -> Bundle:
        """Return the model with smaller and faster fc layers; the card records the compression.

        Parameters
        ----------
        compression : Compression
        rows : tensor (N, pooled width), optional
            Pooled windows on which compression preserves the outputs (see :func:`.compression.compress`).

        Raises
        ------
        InputError
            When the model has no fc layers or is already compressed.
        """
        if not self.head:
            raise InputError(f"there are no fc layers to compress: the model's features are {self.features.kind}")
        if "compression" in self.card:
            raise InputError(f"the model is already compressed ({self.card['compression']['method']})")
        head = Head.from_state(self.head)
        small = compress(head, compression, rows)
        record = {"method": str(compression), **describe(head, small)}
        return replace(self, head=small.state(upto=self.features.kind), card={**self.card, "compression": record})

    def halved(self) -> Bundle:
        """Return the model with float16 tensors, at half the size; loading converts them to single precision.

        The fc layers do not change: use :meth:`compressed` for them.
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
        """Write the model to ``path`` atomically."""
        write_model(path, self.header(), self.tensors())

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a model file.

        Raises
        ------
        InputError
            When the file is missing, damaged or is no sppnet model, or its parts do not fit together.
        """
        header, tensors = read_model(path, "detector")
        calibration = header.get("calibration")  # older files have no such key, and no "stride"
        boxes = any(name.startswith("box.") for name in tensors)
        try:
            bundle = cls(
                backbone=header["backbone"],
                layer=header["layer"],
                stride=header.get("stride"),
                class_names=tuple(header["classes"]),
                features=FeatureOptions.from_dict(header["features"]),
                detection=_detection(header["detection"]),
                scorer=header["scorer"],
                card=header["card"],
                convolutions=tensors_below(tensors, "backbone."),
                head=tensors_below(tensors, "head."),
                score_weights=tensors["score.weights"],
                score_intercepts=tensors["score.intercepts"],
                box_weights=tensors["box.weights"] if boxes else None,
                box_intercepts=tensors["box.intercepts"] if boxes else None,
                calibration=None if calibration is None else Calibration.from_dict(calibration),
            )
        except KeyError as error:
            raise InputError(f"{path}: not a complete sppnet model: {error} is missing") from error
        except InputError as error:
            raise InputError(f"{path}: not a valid sppnet model: {error}") from error
        unknown = [name for name in tensors if not _NAMES.fullmatch(name)]
        if unknown:
            raise InputError(f"{path}: not a valid sppnet model: there is no part for {shortened(unknown[0])}")
        return bundle


def _detection(stored: dict[str, Any]) -> DetectOptions:
    """Read the options of detection; models of earlier versions lack some, and detect as they did."""
    known = {**RCNN_DETECTION.to_dict(), **stored}
    earlier = {"nms_before": stored["nms"], "max_per_class_before": known["max_per_class"]}
    return DetectOptions.from_dict({**known, **earlier, **stored})
