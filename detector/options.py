"""Options as frozen values: what a detector is made of and how it is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

from ..data.errors import InputError

Options = TypeVar("Options", bound="BaseOptions")

ScaleRule = Literal["area", "reference"]
CornerRule = Literal["reference", "paper"]
Method = Literal["spp", "warp"]
FeatureKind = Literal["pool5", "fc6", "fc7"]
Scorer = Literal["svm", "softmax"]
Solver = Literal["coordinate descent", "liblinear"]

MIN_SIDE = 64
"""No scaled image is narrower, in pixels: every backbone of stride 16 finds at least one cell in it."""

METHODS: tuple[str, ...] = get_args(Method)
FEATURE_KINDS: tuple[str, ...] = get_args(FeatureKind)
SCORERS: tuple[str, ...] = get_args(Scorer)
SOLVERS: tuple[str, ...] = get_args(Solver)

#: The network that detectors are trained on unless told, and where its weights come from.
BACKBONE, WEIGHTS = "squeezenet1_1", "imagenet"

#: Lengths of the shorter side of the paper's five scales (section 4.1).
FIVE_SCALES = (480, 576, 688, 864, 1200)

#: Share of the energy, the sum of squared singular values, that a truncated SVD keeps unless told.
DEFAULT_ENERGY = 0.95

_COMPRESSIONS = "svd, svd=0.9 (share of the energy kept), svd=256 (rank), bfloat16, or svd and bfloat16 with a comma"


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """The levels as a tuple of positive integers.

    Raises
    ------
    ValueError
        When there is none, or one is no positive integer.
    """
    checked = tuple(int(n) for n in levels)
    if not checked or any(n < 1 or n != given for n, given in zip(checked, levels, strict=True)):
        raise ValueError(f"levels must be one or more positive integers, not {tuple(levels)}")
    return checked


@dataclass(frozen=True)
class BaseOptions:
    """Values to and from JSON-like dictionaries; unknown keys are refused."""

    KEYS: ClassVar[Mapping[str, str]] = {}
    """Keys in files of the fields that have another name there."""

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON-like values; tuples become lists."""
        values = {self.KEYS.get(name, name): value for name, value in asdict(self).items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls: type[Options], values: Mapping[str, Any]) -> Options:
        """The options that :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            For a key that is no option; the message names the nearest known one.
        """
        known = {cls.KEYS.get(field.name, field.name): field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                nearest = difflib.get_close_matches(key, known, n=1) or list(known)
                raise InputError(f"unknown option {key!r} for {cls.__name__}; did you mean {nearest[0]!r}?")
        return cls(**{known[key]: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


@dataclass(frozen=True)
class FeatureOptions(BaseOptions):
    """From image to window features (paper, sections 2.2 and 4.1).

    Attributes
    ----------
    scales : tuple of int
        Lengths of the image's shorter side in pixels, where windows are not warped.
    levels : tuple of int
        Pyramid levels; level n pools n x n bins.
    scale_rule : {"area", "reference"}
        How a window's scale is chosen (see :func:`.scales.choose_scale`).
    projection_rule : {"reference", "paper"}
        How a window's corners become feature cells (see :func:`.projection.project`).
    kind : {"pool5", "fc6", "fc7"}
        What the SVMs see of a window: its pooled map, or the output of an fc layer; "features" in files.
    method : {"spp", "warp"}
        The convolutions run over the image once for each scale, or, as in R-CNN, over every window, cut out and warped.
    crop : int or None
        Side in pixels of the squares that windows are warped to; None is the backbone's own input size.
    context : int
        Pixels of such a square on each side that show what is around the window (R-CNN: 16).

    Examples
    --------
    >>> options = FeatureOptions(scales=(480, 576, 688), kind="fc7")
    >>> options.levels, options.kind
    ((1, 2, 3, 6), 'fc7')
    """

    KEYS: ClassVar[Mapping[str, str]] = {"kind": "features"}

    scales: tuple[int, ...] = (688,)
    levels: tuple[int, ...] = (1, 2, 3, 6)
    scale_rule: ScaleRule = "area"
    projection_rule: CornerRule = "reference"
    kind: FeatureKind = "pool5"
    method: Method = "spp"
    crop: int | None = None
    context: int = 16

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"the method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.context < 0 or (self.crop is not None and self.crop < max(MIN_SIDE, 2 * self.context + 1)):
            raise InputError(
                f"windows are warped to squares of at least {MIN_SIDE} pixels, more than twice the context, "
                f"not {self.crop} with a context of {self.context}"
            )
        if not self.scales or any(scale < 1 for scale in self.scales):
            raise InputError(f"scales must be positive side lengths in pixels, not {self.scales}")
        if not self.levels or any(level < 1 for level in self.levels):
            raise InputError(f"pyramid levels must be positive, not {self.levels}")
        if self.kind not in FEATURE_KINDS:
            raise InputError(f"features must be one of {', '.join(FEATURE_KINDS)}, not {self.kind!r}")

    @property
    def window_scales(self) -> int:
        """Scales that a window can be seen at: a warped one has a single size."""
        return len(self.scales) if self.method == "spp" else 1


@dataclass(frozen=True)
class DetectOptions(BaseOptions):
    """From scores to detections (reference, ``spp_detect``; R-CNN's ``rcnn_test``).

    Attributes
    ----------
    proposals : str
        Method of :func:`sppnet.proposals.backends.make_proposer`.
    max_windows : int
        Windows scored in an image.
    keep_above : float
        Windows of a class that score lower are dropped before suppression.
    nms : float
        IoU above which the lower-scoring of two boxes of a class goes; applied before and after the regression.
    regressions : int
        Box-regression passes, each on the boxes of the one before; R-CNN and the reference do one.
    max_per_class : int
        Detections kept for an image and class.
    show_above : float
        Score that a detection is shown above when the caller gives no threshold and the model has no calibration,
        whose thresholds take its place; the reference's demo has -0.5.

    Examples
    --------
    >>> DetectOptions(max_windows=500, nms=0.4).to_dict()["nms"]
    0.4
    """

    proposals: str = "fast"
    max_windows: int = 2000
    keep_above: float = -1.5
    nms: float = 0.3
    regressions: int = 1
    max_per_class: int = 100
    show_above: float = -0.5

    def __post_init__(self) -> None:
        if self.max_windows < 1 or self.regressions < 0:
            raise InputError(
                f"max_windows must be at least 1 and regressions at least 0, not {self.max_windows} and "
                f"{self.regressions}"
            )


@dataclass(frozen=True)
class SVMOptions(BaseOptions):
    """Linear SVMs and their hard negatives (reference: ``-s 3 -c 0.001 -w1 2 -B 10``; paper, section 4.1).

    Attributes
    ----------
    C : float
        Weight of the hinge loss.
    positive_weight : float
        Factor on C for positives.
    bias : float
        Value of the constant feature.
    tolerance : float
        liblinear's stopping rule, spread of the projected gradient; 0.1 is its default, which the reference keeps.
    max_epochs : int
        Bound on passes over the data of one solution.
    extra_positives : int
        Proposals of each object that are positives too, those that fit it best. The reference trains on the
        objects alone, which is 0 here. Five raised the VOC07 mAP on 170 held-out photographs of six animal classes
        from 0.421 to 0.444 (1,527 to learn from, squeezenet1_1, one run each).
    positive_iou : float
        Least IoU of an extra positive with its object.
    negative_iou : float
        A window is a negative of a class when its IoU with every object of the class is lower.
    duplicate_iou : float
        Of two negatives that overlap by more only the higher-scoring is kept.
    hard_above : float
        A negative that scores lower is easy and not collected.
    easy_below : float
        A collected negative that scores lower after a solution is dropped.
    retrain_after : int
        New negatives of a class that make its SVM be solved again.
    start_negatives : int
        Random negatives of a class to begin with, spread over the images.
    max_gigabytes : float
        Memory for pooled windows; with liblinear, as much again for its copy of one class's.
    solver : {"coordinate descent", "liblinear"}
        Our own, which reads rows in half precision and goes on from its last solution, or scikit-learn's liblinear.
        That finds the same planes to the tolerance, but needs eight times the memory for a class's rows and starts
        from nothing each time.

    Examples
    --------
    The reference's positives, the labelled objects alone:

    >>> SVMOptions(extra_positives=0).C
    0.001
    """

    C: float = 0.001
    positive_weight: float = 2.0
    bias: float = 10.0
    tolerance: float = 0.1
    max_epochs: int = 300
    extra_positives: int = 5
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    duplicate_iou: float = 0.7
    hard_above: float = -1.0
    easy_below: float = -1.2
    retrain_after: int = 2000
    start_negatives: int = 2000
    max_gigabytes: float = 2.0
    solver: Solver = "coordinate descent"

    def __post_init__(self) -> None:
        if not self.C > 0:
            raise InputError(f"C, the weight of the SVMs' hinge loss, must be more than 0, not {self.C}")
        if self.solver not in SOLVERS:
            raise InputError(f"the solver of the SVMs must be one of {', '.join(SOLVERS)}, not {self.solver!r}")


@dataclass(frozen=True)
class BoxOptions(BaseOptions):
    """Bounding-box regression (R-CNN, appendix C; reference SPP-net).

    Attributes
    ----------
    min_iou : float
        Windows with a higher IoU with an object of the class teach its regressor. The reference has 0.5, R-CNN 0.6.
        On held-out photographs of six animal classes (170; squeezenet1_1, fine-tuned fc7) regression raised VOC07 mAP
        from 0.522 to 0.529 with 0.5, to 0.547 with 0.6 and to 0.540 with 0.7: the windows that win fit better than
        most, and those taught by worse ones are moved too far.
    ridge : float
        Weight of the squared norm.
    max_windows : int
        Windows taken for a class, spread evenly over its images.

    Examples
    --------
    >>> BoxOptions(min_iou=0.5).to_dict()
    {'min_iou': 0.5, 'ridge': 4000.0, 'max_windows': 4000}
    """

    min_iou: float = 0.6
    ridge: float = 4000.0
    max_windows: int = 4000


@dataclass(frozen=True)
class FineTuneOptions(BaseOptions):
    """The fc layers and their fine-tuning (paper, section 4.2; reference: Caffe's solver).

    Attributes
    ----------
    width : int
        Numbers in fc6 and in fc7 where they start at random; those of the backbone's own classifier keep theirs.
    epochs : int
        Visits to every image at most; 0 leaves the layers as they start.
    patience : int
        Epochs without a lower held-out loss after which learning stops.
    rate : float or None
        Learning rate of weights at first; biases learn at twice the rate. None is 0.01 for layers that start at
        random and 0.001 (the reference's) for pretrained ones.
    drops : tuple of float
        Parts of the epochs after which the rate is divided by ten.
    momentum, weight_decay : float
    dropout : float
        Part of fc6's and fc7's outputs that a batch does without.
    batch : int
        Windows in a mini-batch.
    positives_in_batch : int
        Those of them that are positives.
    positives_per_image : int
        Positives drawn from an image in an epoch; more where there are few images.
    batches_in_epoch : int
        As many batches as an epoch should have at least: few images are asked for more positives each.
    positive_iou : float
        Least IoU of a positive with its object.
    negative_iou : float
        Least IoU of a negative with its nearest object, which is below ``positive_iou``.
    mirror : bool
        Take every image's mirror image half the time.
    max_gigabytes : float
        Memory for the pooled windows that are mixed with each other.

    Examples
    --------
    >>> FineTuneOptions(epochs=4).positives_of_each(images=100)
    32
    """

    width: int = 1024
    epochs: int = 8
    patience: int = 5
    rate: float | None = None
    drops: tuple[float, ...] = (0.6, 0.85)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.5
    batch: int = 128
    positives_in_batch: int = 32
    positives_per_image: int = 8
    batches_in_epoch: int = 100
    positive_iou: float = 0.5
    negative_iou: float = 0.1
    mirror: bool = True
    max_gigabytes: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.epochs < 0 or self.positives_per_image < 1:
            raise InputError(
                f"fc layers need a width of at least 1, 0 or more epochs and 1 or more positives of an image, not "
                f"{self.width}, {self.epochs} and {self.positives_per_image}"
            )
        if not 1 <= self.positives_in_batch < self.batch:
            raise InputError(f"a batch of {self.batch} windows cannot have {self.positives_in_batch} positives")

    def positives_of_each(self, images: int) -> int:
        """Positives drawn from each of ``images`` images in an epoch."""
        return max(self.positives_per_image, -(-self.batches_in_epoch * self.positives_in_batch // max(1, images)))

    @property
    def negatives_per_positive(self) -> int:
        """Negatives drawn from an image for each of its positives."""
        return -(-(self.batch - self.positives_in_batch) // self.positives_in_batch)

    def rate_at(self, epoch: int, pretrained: bool) -> float:
        """Learning rate of an epoch, counted from 0, of layers that started pretrained or not."""
        start = (0.001 if pretrained else 0.01) if self.rate is None else self.rate
        return start * 0.1 ** sum(epoch >= drop * self.epochs for drop in self.drops)


@dataclass(frozen=True)
class TrainOptions(BaseOptions):
    """What a training run does besides the options of its parts.

    Attributes
    ----------
    held_out : float
        Part of the images on which the detector is scored before they join the training.
    norm : float
        Mean L2 norm that the features are scaled to (reference: 20).
    seed : int
        Seed of every random choice.

    Examples
    --------
    >>> TrainOptions(held_out=0.2, seed=1)
    TrainOptions(held_out=0.2, norm=20.0, seed=1)
    """

    held_out: float = 0.1
    norm: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise InputError(f"the held-out part must be at least 0 and less than 1, not {self.held_out}")


@dataclass(frozen=True)
class Compression:
    """How fc6 and fc7 are made smaller.

    Attributes
    ----------
    svd : float, int or None
        Below 1: the share of the energy that the rank must keep; an integer: the rank; None: no SVD.
    bfloat16 : bool
        Weights and products in half the bytes.

    Examples
    --------
    >>> str(Compression(svd=0.9, bfloat16=True))
    'svd=0.9,bfloat16'
    >>> Compression.parse("svd=256")
    Compression(svd=256, bfloat16=False)
    """

    svd: float | int | None = None
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.svd is None and not self.bfloat16:
            raise InputError(f"a compression is one of {_COMPRESSIONS}")
        rank = isinstance(self.svd, int) and self.svd >= 1
        if self.svd is not None and not rank and not 0 < self.svd < 1:
            raise InputError(f"svd keeps a share of the energy between 0 and 1, or a rank from 1 up, not {self.svd}")

    @classmethod
    def parse(cls, text: str) -> Compression:
        """What ``--compress`` says; ``str`` of the result says it again.

        Raises
        ------
        InputError
            For anything else.
        """
        svd: float | int | None = None
        bfloat16 = False
        for part in text.split(","):
            name, given, value = part.strip().partition("=")
            if name == "bfloat16" and not given:
                bfloat16 = True
            elif name == "svd":
                svd = _number(value, text) if given else DEFAULT_ENERGY
            else:
                raise InputError(f"unknown compression '{text}'; expected {_COMPRESSIONS}")
        return cls(svd, bfloat16)

    def __str__(self) -> str:
        parts = [] if self.svd is None else [f"svd={self.svd}"]
        return ",".join([*parts, "bfloat16"] if self.bfloat16 else parts)


def _number(value: str, text: str) -> float | int:
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        raise InputError(f"unknown compression '{text}'; expected {_COMPRESSIONS}") from None
