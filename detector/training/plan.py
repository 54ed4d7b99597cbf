"""All choices of a training run as one value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from ...data.errors import InputError
from ..options import (
    AUTO,
    EFFORTS,
    FEW_IMAGES,
    HELD_OUT,
    SCORERS,
    WEIGHTS,
    BoxOptions,
    Compression,
    DetectOptions,
    Effort,
    FeatureOptions,
    FineTuneOptions,
    Scorer,
    SVMOptions,
    TrainOptions,
)

#: Options that a training can choose by itself, by their names on the command line; where a plan has them.
CHOICES: dict[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "stride": ("stride",),
    "proposals": ("detection", "proposals"),
    "max_windows": ("detection", "max_windows"),
    "scales": ("features", "scales"),
    "pyramid": ("features", "levels"),
    "features": ("features", "kind"),
    "mirror": ("options", "mirror"),
    "held_out": ("options", "held_out"),
    "C": ("svm", "C"),
    "positive_weight": ("svm", "positive_weight"),
    "ridge": ("boxes", "ridge"),
    "regressions": ("detection", "regressions"),
}


@dataclass(frozen=True)
class TrainPlan:
    """All options of training a detector; the defaults are the paper's values if it gives them.

    Attributes
    ----------
    backbone : str
        A network as in :class:`.backbone.Backbone`, or "auto" for :func:`.convolutions.weights.best_backbone`.
    weights : {"imagenet", "none"} or path
        Initial weights of the convolutions, and of the fc layers if the network has some.
    layer : str or None
        Nodes of the network whose maps are pooled, with commas between them. None means the last map before the
        network's own pooling, and with it the last one whose own stride is at most :data:`.options.STRIDE`, if that is
        another.
    stride : int or None
        Limit of the maps' strides in pixels; strides beyond it become dilations. None means :data:`.options.STRIDE` for
        a layer that is named, and no limit for the default layers, since one of them is fine by itself.
    channels : tuple of int or None
        Channels to which principal components reduce the map of each layer, one number for each or one for all; half of
        them are components, the others their negatives. 0 keeps all channels. None means 512 for one layer, and for
        several 320 for the last and 160 for each other; of up to :data:`.options.FEW_IMAGES` images 106 and 54.
    features : FeatureOptions
        Scales, pyramid, features to score (pool5 or the output of an fc layer), and the method: SPP-net's or R-CNN's.
    scorer : {"svm", "softmax"}
        Linear SVMs on the features, or the softmax of the fine-tuned network, which needs the features fc7.
    detection : DetectOptions
        How the trained detector proposes windows and selects boxes.
    finetune : FineTuneOptions
        Fine-tuning of the fc layers, if there are any.
    svm : SVMOptions
        Linear SVMs and their hard negatives.
    boxes : BoxOptions
        Box regression.
    options : TrainOptions
        The held-out share of the images, the norm of the features, the seed.
    compression : Compression or None
        Compression of the fc layers in the saved model.
    effort : {"quick", "normal", "best"} or None
        What is chosen by the labelled photographs (:mod:`.effort`); None leaves all options as they are.
    fixed : frozenset of str
        Names of :data:`CHOICES` that are not chosen.
    learning_curve : bool
        Whether detectors that learn from a quarter and a half of the images are scored too, for the card. It needs the
        features pool5.

    Raises
    ------
    InputError
        When options do not fit together; the message says which ones do.
    """

    backbone: str = AUTO
    weights: str | Path = WEIGHTS
    layer: str | None = None
    stride: int | None = None
    channels: tuple[int, ...] | None = None
    features: FeatureOptions = field(default_factory=FeatureOptions)
    scorer: Scorer = "svm"
    detection: DetectOptions = field(default_factory=DetectOptions)
    finetune: FineTuneOptions = field(default_factory=FineTuneOptions)
    svm: SVMOptions = field(default_factory=SVMOptions)
    boxes: BoxOptions = field(default_factory=BoxOptions)
    options: TrainOptions = field(default_factory=TrainOptions)
    compression: Compression | None = None
    effort: Effort | None = None
    fixed: frozenset[str] = frozenset()
    learning_curve: bool = False

    def __post_init__(self) -> None:
        features = self.features
        if self.effort not in (None, *EFFORTS):
            raise InputError(f"the effort must be one of {', '.join(EFFORTS)}, not {self.effort!r}")
        if self.channels is not None and min(self.channels, default=-1) < 0:
            raise InputError(f"the channels of layers are numbers from 0 up, not {self.channels}")
        if self.scorer not in SCORERS:
            raise InputError(f"the scorer must be one of {', '.join(SCORERS)}, not {self.scorer!r}")
        if self.scorer == "softmax" and (features.kind != "fc7" or self.finetune.epochs == 0):
            raise InputError(
                "the softmax is the last layer of the fine-tuned network: it needs the features fc7, fine-tuned"
            )
        if self.learning_curve and features.kind != "pool5":
            raise InputError("a learning curve needs the features pool5: fine-tuning fc layers takes too long")
        if self.compression is not None and features.kind == "pool5":
            raise InputError("there are no fc layers to compress: the detector's features are pool5")

    @property
    def tunes(self) -> bool:
        """Whether fc layers are fine-tuned."""
        return self.features.kind != "pool5" and self.finetune.epochs > 0

    @property
    def searchable(self) -> bool:
        """Whether options can be compared: SVMs on pooled features of SPP-net, since all else is too slow."""
        return (self.features.method, self.features.kind, self.scorer) == ("spp", "pool5", "svm")

    def folded(self, images: int) -> bool:
        """Whether so many images are scored by cross-validation."""
        options = self.options
        by_itself = options.held_out is None and not self.tunes and images <= FEW_IMAGES
        return options.folds is not None or by_itself

    def scored(self, images: int) -> float:
        """Share of so many images on which a detector is scored that has not learnt from them."""
        if self.folded(images):
            return 1.0
        return HELD_OUT if self.options.held_out is None else self.options.held_out

    @property
    def mirrors(self) -> bool:
        """Whether mirror images are used in training."""
        return self.options.mirror or (self.tunes and self.finetune.mirror)

    def choice(self, name: str) -> Any:
        """Value of an option of :data:`CHOICES`."""
        return reduce(getattr, CHOICES[name], self)

    def changed(self, **values: Any) -> TrainPlan:
        """The plan with other values of options of :data:`CHOICES`."""
        plan = self
        for name, value in values.items():
            part, *inside = CHOICES[name]
            plan = replace(plan, **{part: replace(getattr(plan, part), **{inside[0]: value}) if inside else value})
        return plan

    def learning(self) -> dict[str, Any]:
        """Options of the training stages that the plan has, JSON-like."""
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
            "stride": self.stride,
            "channels": None if self.channels is None else list(self.channels),
            "features": self.features.to_dict(),
            "scorer": self.scorer,
            "detection": self.detection.to_dict(),
            "compression": None if self.compression is None else str(self.compression),
            **self.learning(),
        }
