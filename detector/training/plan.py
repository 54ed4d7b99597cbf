"""Everything that is decided before a detector is trained, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.errors import InputError
from ..options import (
    BACKBONE,
    SCORERS,
    WEIGHTS,
    BoxOptions,
    Compression,
    DetectOptions,
    FeatureOptions,
    FineTuneOptions,
    Scorer,
    SVMOptions,
    TrainOptions,
)


@dataclass(frozen=True)
class TrainPlan:
    """How a detector is trained; the defaults are the paper's where it gives them.

    Attributes
    ----------
    backbone : str
        A torchvision classification network, or "zf5".
    weights : {"imagenet", "none"} or path
        Where the convolutions' weights come from, and those of the fc layers of networks that have some.
    layer : str or None
        The node of the network whose map is pooled; None is the last one of stride 16.
    features : FeatureOptions
        Scales, pyramid, and what is scored: pool5 or the output of an fc layer; or R-CNN's method in the place of
        SPP-net's.
    scorer : {"svm", "softmax"}
        Linear SVMs on the features, or the softmax of the fine-tuned network, which needs the features fc7.
    detection : DetectOptions
        How the trained detector proposes windows and selects boxes.
    finetune : FineTuneOptions
        How the fc layers learn, where there are any.
    svm : SVMOptions
        Linear SVMs and their hard negatives.
    boxes : BoxOptions
        Box regression.
    options : TrainOptions
        The held-out part of the images, the norm of the features, the seed.
    compression : Compression or None
        How the fc layers are made smaller and faster in the model that is saved.

    Raises
    ------
    InputError
        For options that do not go together; the message says what would.
    """

    backbone: str = BACKBONE
    weights: str | Path = WEIGHTS
    layer: str | None = None
    features: FeatureOptions = field(default_factory=FeatureOptions)
    scorer: Scorer = "svm"
    detection: DetectOptions = field(default_factory=DetectOptions)
    finetune: FineTuneOptions = field(default_factory=FineTuneOptions)
    svm: SVMOptions = field(default_factory=SVMOptions)
    boxes: BoxOptions = field(default_factory=BoxOptions)
    options: TrainOptions = field(default_factory=TrainOptions)
    compression: Compression | None = None

    def __post_init__(self) -> None:
        features = self.features
        if self.scorer not in SCORERS:
            raise InputError(f"the scorer must be one of {', '.join(SCORERS)}, not {self.scorer!r}")
        if self.scorer == "softmax" and (features.kind != "fc7" or self.finetune.epochs == 0):
            raise InputError(
                "the softmax is the last layer of the fine-tuned network: it needs the features fc7, fine-tuned"
            )
        if self.compression is not None and features.kind == "pool5":
            raise InputError("there are no fc layers to compress: the detector's features are pool5")
        if features.method == "warp" and self.detection.regressions > 1:
            # Held-out images are scored on kept features, and of windows that were moved there are none.
            raise InputError(f"warped windows are regressed once, not {self.detection.regressions} times")

    @property
    def mirrors(self) -> bool:
        """Whether the mirror images are learnt from too."""
        return self.features.kind != "pool5" and self.finetune.epochs > 0 and self.finetune.mirror

    def learning(self) -> dict[str, Any]:
        """The options of the stages of learning, JSON-like, without those of stages that the plan does not have."""
        return {
            **({} if self.features.kind == "pool5" else {"fine_tuning": self.finetune.to_dict()}),
            **({"svm": self.svm.to_dict()} if self.scorer == "svm" else {}),
            "boxes": self.boxes.to_dict(),
            "training": self.options.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything that the model depends on, JSON-like."""
        return {
            "backbone": self.backbone,
            "weights": str(self.weights),
            "layer": self.layer,
            "features": self.features.to_dict(),
            "scorer": self.scorer,
            "detection": self.detection.to_dict(),
            "compression": None if self.compression is None else str(self.compression),
            **self.learning(),
        }
