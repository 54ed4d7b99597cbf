"""Options of a detector and its training, as frozen dataclasses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from ..data.errors import InputError
from .values import LONGEST_TEXT, Range, check_value, shortened

Options = TypeVar("Options", bound="BaseOptions")

ScaleRule = Literal["area", "reference"]
CornerRule = Literal["reference", "paper"]
Method = Literal["spp", "warp"]
FeatureKind = Literal["pool5", "fc6", "fc7"]
Scorer = Literal["svm", "softmax"]
Solver = Literal["coordinate descent", "liblinear"]
Precision = Literal["float32", "bfloat16", "tf32"]
Effort = Literal["quick", "normal", "best"]

MIN_SIDE = 64
"""Minimum side of a scaled image in pixels: a backbone then has at least one cell."""

METHODS: tuple[str, ...] = get_args(Method)
FEATURE_KINDS: tuple[str, ...] = get_args(FeatureKind)
SCORERS: tuple[str, ...] = get_args(Scorer)
SOLVERS: tuple[str, ...] = get_args(Solver)
PRECISIONS: tuple[str, ...] = get_args(Precision)
EFFORTS: tuple[Effort, ...] = get_args(Effort)

#: Windows of small objects; and the share of a class's objects that fast windows must cover (IoU 0.5) to be enough.
#: Where 0.88 and 0.91 of the platelets were covered in two draws of 40 of 50 smears, dense windows had an area mAP of
#: 0.879 and the fast ones 0.839.
MANY_WINDOWS, ENOUGH = 4000, 0.95

#: A backbone of detectors for comparisons with the paper, and its weights.
BACKBONE, WEIGHTS = "squeezenet1_1", "imagenet"
#: The word for the best backbone whose weights can be had (:func:`.convolutions.weights.best_backbone`).
AUTO = "auto"

#: Default limit of a map's stride, pixels: strides beyond it become dilations.
STRIDE = 16

#: Stride of a third map, pixels. With it mobilenet_v2 had by cross-validation a mean area AP of 0.809 on cats, cows,
#: dogs, sheep (100 photographs each) and blood cells (292) instead of 0.776 (docs/reproduction.md).
FINE_STRIDE = 8

#: Images up to which a detector is scored by cross-validation, and the number of folds. Of more images the share
#: :data:`HELD_OUT` tells enough, in less time.
FEW_IMAGES, FOLDS = 1000, 5
HELD_OUT = 0.1

#: Channels to which maps are reduced: of one layer, and of several the last and each earlier one. Mean area AP over
#: cat, cow and horse (50 photographs to learn from, 78 to score on, efficientnet_lite0): both maps whole, 672 + 1,280
#: channels, 0.615; 160 + 320 channels 0.607, 96 + 192 0.598, 64 + 128 0.570.
ONE_LAYER, LAST_LAYER, EARLIER_LAYER = 512, 320, 160

#: The same of several layers, for trainings on up to :data:`FEW_IMAGES`: a third of the length of rows and the time of
#: all stages but the maps, for the same AP (docs/reproduction.md, "How many channels").
FEW_LAST_LAYER, FEW_EARLIER_LAYER = 106, 54

#: Lengths of the shorter side of the paper's five scales (section 4.1).
FIVE_SCALES = (480, 576, 688, 864, 1200)

#: Default fraction of the energy, the sum of squared singular values, that a truncated SVD keeps.
DEFAULT_ENERGY = 0.95

_COMPRESSIONS = "svd, svd=0.9 (share of the energy kept), svd=256 (rank), bfloat16, or svd and bfloat16 with a comma"


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Check pyramid levels; returns a tuple of positive integers.

    Raises
    ------
    ValueError
        When there is no level, or one is not a positive integer.
    """
    checked = tuple(int(n) for n in levels)
    if not checked or any(n < 1 or n != given for n, given in zip(checked, levels, strict=True)):
        raise ValueError(f"levels must be one or more positive integers, not {tuple(levels)}")
    return checked


def check_stride(stride: int | None) -> None:
    """Check the limit of a map's stride.

    Raises
    ------
    InputError
        When it is neither None nor a whole number of pixels from 1 up.
    """
    if stride is not None and (type(stride) is not int or stride < 1):
        raise InputError(f"the stride of a map must be a whole number of pixels from 1 up, not {shortened(stride)}")


#: Most scales, and levels of a pyramid.
MOST_NUMBERS = 100

#: Range of numbers that single precision can hold and multiply.
_FINITE = (-1e30, 1e30)


@dataclass(frozen=True)
class BaseOptions:
    """Checks the types and ranges of options, and converts them to and from JSON-like dictionaries."""

    KEYS: ClassVar[Mapping[str, str]] = {}
    """Keys used in files for fields that have another name there."""

    RANGES: ClassVar[Mapping[str, Range]] = {}
    """Smallest and largest value of fields that have limits, as in :func:`.values.check_value`."""

    def __post_init__(self) -> None:
        self._check(vars(self))

    @classmethod
    def _check(cls, values: Mapping[str, Any]) -> None:
        """Raise an InputError for a value of another type, or out of range."""
        kinds = get_type_hints(cls)
        for name in (field.name for field in fields(cls) if field.name in values):
            check_value(cls.KEYS.get(name, name), values[name], kinds[name], cls.RANGES.get(name, (None, None)))

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON-like values; tuples become lists."""
        values = {self.KEYS.get(name, name): value for name, value in asdict(self).items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls: type[Options], values: Mapping[str, Any]) -> Options:
        """Options from the values of :meth:`to_dict`.

        Raises
        ------
        InputError
            For an unknown key (the message suggests the nearest known one), one that is missing and has no default, or
            a value of another type or out of range.
        """
        known = {cls.KEYS.get(field.name, field.name): field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                nearest = difflib.get_close_matches(key[:LONGEST_TEXT], known, n=1) or list(known)
                raise InputError(f"unknown option {shortened(key)} for {cls.__name__}; did you mean {nearest[0]!r}?")
        given = {known[key]: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in given]
        if missing:
            raise InputError(f"{missing[0]!r} is missing in {cls.__name__}")
        cls._check(given)
        return cls(**given)


@dataclass(frozen=True)
class FeatureOptions(BaseOptions):
    """Options of the window features (paper, sections 2.2 and 4.1).

    Attributes
    ----------
    scales : tuple of int
        Lengths of the image's shorter side in pixels; not used if windows are warped. The default was chosen by mean
        area AP over cat, cow and horse (50 photographs to learn from, 78 to score on, efficientnet_lite0): 0.632, with
        480 and 688 0.583, 320 and 576 0.606, 480, 688 and 864 0.602, 688 alone 0.558.
    levels : tuple of int
        Pyramid levels; level n pools n x n bins.
    scale_rule : {"area", "reference"}
        How a window's scale is chosen (see :func:`.scales.choose_scale`).
    projection_rule : {"reference", "paper"}
        How a window's corners become feature cells (see :func:`.projection.project`).
    kind : {"pool5", "fc6", "fc7"}
        Input of the SVMs: the pooled map of a window, or the output of an fc layer; "features" in files.
    method : {"spp", "warp"}
        The convolutions run once for each scale of the image, or, as in R-CNN, on every window, cropped and warped.
    crop : int or None
        Side in pixels of the squares that windows are warped to; None is the backbone's input size.
    context : int
        Pixels on each side of the square that show the surroundings of the window (R-CNN: 16).

    Examples
    --------
    >>> options = FeatureOptions(scales=(480, 576, 688), kind="fc7")
    >>> options.levels, options.kind
    ((1, 2, 3, 6), 'fc7')
    """

    KEYS: ClassVar[Mapping[str, str]] = {"kind": "features"}
    RANGES: ClassVar[Mapping[str, Range]] = {
        "scales": (1, 16_384),
        "levels": (1, 1_000),
        "crop": (MIN_SIDE, 4_096),
        "context": (0, 2_048),
    }

    scales: tuple[int, ...] = (320, 480, 688)
    levels: tuple[int, ...] = (1, 2, 3, 6)
    scale_rule: ScaleRule = "area"
    projection_rule: CornerRule = "reference"
    kind: FeatureKind = "pool5"
    method: Method = "spp"
    crop: int | None = None
    context: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop is not None and self.crop < 2 * self.context + 1:
            raise InputError(
                f"windows are warped to squares of at least {MIN_SIDE} pixels, more than twice the context, "
                f"not {self.crop} with a context of {self.context}"
            )
        if not 1 <= len(self.scales) <= MOST_NUMBERS or not 1 <= len(self.levels) <= MOST_NUMBERS:
            raise InputError(
                f"features need 1 to {MOST_NUMBERS} scales and levels, not {len(self.scales)} and {len(self.levels)}"
            )

    @property
    def window_scales(self) -> int:
        """Number of scales; 1 for warped windows, which have a single size."""
        return len(self.scales) if self.method == "spp" else 1


@dataclass(frozen=True)
class DetectOptions(BaseOptions):
    """Options from scores to detections (reference, ``spp_detect``; R-CNN's ``rcnn_test``).

    Attributes
    ----------
    proposals : str
        Method of :func:`sppnet.proposals.backends.make_proposer`.
    max_windows : int
        The largest number of windows scored in an image.
    keep_above : float
        Windows with a lower score are dropped before suppression.
    nms_before, nms : float
        Of two boxes of a class with a higher IoU the lower-scoring one is removed, before and after the regression.
        Without regression only ``nms`` counts.
    regressions : int
        Number of box-regression passes, each on the boxes of the last; R-CNN and the reference do one. After none
        boxes are not scored again and do not vote. With a second pass the cross-validated area AP of cat, cow, dog,
        horse (100 photographs each) and three kinds of blood cells (205) was higher by 1.0 points in the mean of the
        five tasks, on other photographs by 0.9.
    rescored : bool
        Whether the boxes of each pass are scored, too. A detection's score is then the mean over its boxes.
    voting : float
        A detection's box is the mean of all boxes of its class with at least this IoU, weighted by their scores above
        -1, an SVM's score of a certain negative (Gidaris and Komodakis, "Object detection via a multi-region and
        semantic segmentation-aware CNN model", ICCV 2015, section 3.3); 1 leaves it as it is.
    max_per_class_before, max_per_class : int
        The largest number of boxes of a class in an image, after the first suppression and of all. Without regression
        only ``max_per_class`` counts.
    show_above : float
        Detections with a higher score are shown, if the caller gives no threshold and the model is not calibrated
        (calibration has its own thresholds); the reference's demo has -0.5.

    Notes
    -----
    With scores again, ``nms_before`` 0.7 and ``voting`` 0.4, against R-CNN's way (:data:`RCNN_DETECTION`): mean area AP
    of five animals 0.653 and 0.591, with 50 photographs each to learn from. With more boxes (``keep_above`` -2 instead
    of -1.5, ``max_per_class_before`` 200 instead of 100) four animals had by cross-validation 0.792 instead of 0.788,
    three kinds of blood cells 0.897 instead of 0.893 (tables in docs/reproduction.md).

    Examples
    --------
    >>> DetectOptions(max_windows=500, nms=0.4).to_dict()["nms"]
    0.4
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "max_windows": (1, 1_000_000_000),
        "keep_above": _FINITE,
        "nms": (0, 1),
        "regressions": (0, 100),
        "max_per_class": (1, 1_000_000_000),
        "max_per_class_before": (1, 1_000_000_000),
        "show_above": _FINITE,
        "nms_before": (0, 1),
        "voting": (0, 1),
    }

    proposals: str = "fast"
    max_windows: int = 2000
    keep_above: float = -2.0
    nms: float = 0.3
    regressions: int = 2
    max_per_class: int = 100
    show_above: float = -0.5
    nms_before: float = 0.7
    rescored: bool = True
    voting: float = 0.4
    max_per_class_before: int = 200


#: As in R-CNN and the paper: windows are suppressed, regressed once, and suppressed again.
RCNN_DETECTION = DetectOptions(
    keep_above=-1.5, regressions=1, nms_before=0.3, rescored=False, voting=1.0, max_per_class_before=100
)


@dataclass(frozen=True)
class SVMOptions(BaseOptions):
    """Options of the linear SVMs and hard negatives (reference: ``-s 3 -c 0.001 -w1 2 -B 10``; paper, section 4.1).

    Attributes
    ----------
    C : float
        Weight of the hinge loss. Hard negatives are collected with the default, whatever it is (see
        :meth:`.stages.Stages.miner`).
    positive_weight : float
        Factor on C for positives.
    bias : float
        Value of the constant feature.
    tolerance : float
        liblinear's stopping rule, the range of the projected gradient; 0.1 is its default and the reference's value.
    max_epochs : int
        The largest number of passes over the data in one solution.
    extra_positives : int
        Number of best-fitting proposals of each object that are positives, too. The reference trains on the objects
        only, which is 0 here. Five raised the VOC07 mAP on 170 held-out photographs of six animal classes
        from 0.421 to 0.444 (1,527 training photographs, squeezenet1_1, one run each).
    positive_iou : float
        Minimum IoU of an extra positive with its object.
    negative_iou : float
        A window is a negative of a class if its IoU with every object of the class is lower.
    duplicate_iou : float
        Of two negatives with a higher IoU only the higher-scoring one is kept.
    hard_above : float
        A negative with a lower score is easy and not collected.
    easy_below : float
        A collected negative with a lower score after a solution is dropped.
    retrain_after : int
        Number of new negatives of a class after which its SVM is solved again.
    start_negatives : int
        Number of random initial negatives of a class, spread over the images.
    max_gigabytes : float
        Memory for pooled windows; liblinear needs as much again for its copy of one class.
    solver : {"coordinate descent", "liblinear"}
        Our solver, which reads rows in half precision and starts from its last solution, or scikit-learn's liblinear.
        liblinear finds the same planes within the tolerance, but needs eight times the memory for the rows of a class
        and starts from zero each time.

    Examples
    --------
    The reference's positives, the labelled objects alone:

    >>> SVMOptions(extra_positives=0).C
    0.001
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "max_epochs": (1, None),
        "extra_positives": (0, None),
        **dict.fromkeys(("positive_iou", "negative_iou", "duplicate_iou"), (0, 1)),
        "retrain_after": (1, None),
        "start_negatives": (0, None),
    }

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
        super().__post_init__()
        if not self.C > 0:
            raise InputError(f"C, the weight of the SVMs' hinge loss, must be more than 0, not {self.C}")
        if not self.positive_weight > 0:
            raise InputError(f"the weight of positives must be more than 0, not {self.positive_weight}")


@dataclass(frozen=True)
class BoxOptions(BaseOptions):
    """Options of bounding-box regression (R-CNN, appendix C; reference SPP-net).

    Attributes
    ----------
    min_iou : float
        Windows with a higher IoU with an object of the class train its regressor. The reference has 0.5, R-CNN 0.6.
        On held-out photographs of six animal classes (170; squeezenet1_1, fine-tuned fc7) regression raised VOC07 mAP
        from 0.522 to 0.529 with 0.5, to 0.547 with 0.6 and to 0.540 with 0.7: the best-scoring windows fit better than
        most, and a regressor trained on worse windows moves them too far.
    ridge : float
        Weight of the squared norm. R-CNN has 1000, the reference 4000. On 78 photographs each of cat, cow and horse,
        50 others to learn from (efficientnet_lite0, two maps of 480 channels), mean area AP was 0.607 with 4000, 0.632
        with 1000 and 0.625 with 300.
    max_windows : int
        The largest number of windows of a class, spread evenly over its images.

    Examples
    --------
    >>> BoxOptions(min_iou=0.5).to_dict()
    {'min_iou': 0.5, 'ridge': 1000.0, 'max_windows': 4000}
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"min_iou": (0, 1), "max_windows": (1, None)}

    min_iou: float = 0.6
    ridge: float = 1000.0
    max_windows: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ridge > 0:
            raise InputError(f"the ridge of box regression must be more than 0, not {self.ridge}")


@dataclass(frozen=True)
class FineTuneOptions(BaseOptions):
    """Options of the fc layers and their fine-tuning (paper, section 4.2; reference: Caffe's solver).

    Attributes
    ----------
    width : int
        Outputs of fc6 and of fc7 if they start from random weights; layers of the backbone's classifier keep theirs.
    epochs : int
        The largest number of epochs; 0 leaves the layers unchanged.
    patience : int
        Training stops after this many epochs without a lower held-out loss.
    rate : float or None
        Initial learning rate of weights; biases learn at twice the rate. None is 0.01 for layers that start from
        random weights and 0.001 (the reference's) for pretrained ones.
    drops : tuple of float
        Fractions of the epochs after which the rate is divided by ten.
    momentum, weight_decay : float
    dropout : float
        Fraction of the outputs of fc6 and fc7 that dropout sets to zero.
    batch : int
        Number of windows in a mini-batch.
    positives_in_batch : int
        Number of positives among them.
    positives_per_image : int
        Positives drawn from an image in an epoch; more if there are few images.
    batches_in_epoch : int
        Minimum number of batches in an epoch: with few images more positives are drawn from each.
    positive_iou : float
        Minimum IoU of a positive with its object.
    negative_iou : float
        Minimum IoU of a negative with its nearest object; its IoU is below ``positive_iou``.
    mirror : bool
        Mirror every image half of the time.
    max_gigabytes : float
        Memory for the pooled windows that batches are mixed from.

    Examples
    --------
    >>> FineTuneOptions(epochs=4).positives_of_each(images=100)
    32
    """

    RANGES: ClassVar[Mapping[str, Range]] = dict.fromkeys(
        ("momentum", "dropout", "positive_iou", "negative_iou"), (0, 1)
    )

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
        super().__post_init__()
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
        """Learning rate of an epoch, counted from 0, for pretrained or random initial weights."""
        start = (0.001 if pretrained else 0.01) if self.rate is None else self.rate
        return start * 0.1 ** sum(epoch >= drop * self.epochs for drop in self.drops)


@dataclass(frozen=True)
class TrainOptions(BaseOptions):
    """Options of a training run that belong to no single part.

    Attributes
    ----------
    held_out : float or None
        Fraction of the images on which a detector is scored that has not learnt from them.
    folds : int or None
        Number of parts of the images, each of which is scored by a detector that has learnt from the others. With
        neither, :func:`.training.split.choose_split` decides.
    mirror : bool
        Whether SVMs and box regressors learn from mirror images, too; fine-tuning has an option of its own.
    norm : float
        Mean L2 norm to which the features are scaled (reference: 20).
    seed : int
        Seed of every random choice.

    Examples
    --------
    >>> TrainOptions(held_out=0.2, seed=1)
    TrainOptions(held_out=0.2, folds=None, mirror=False, norm=20.0, seed=1)
    """

    held_out: float | None = None
    folds: int | None = None
    mirror: bool = False
    norm: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise InputError(f"the held-out part must be at least 0 and less than 1, not {self.held_out}")
        if self.folds is not None and self.folds < 2:
            raise InputError(f"the number of folds must be 2 or more, not {self.folds}")
        if self.held_out is not None and self.folds is not None:
            raise InputError("the detector is scored on folds or on a held-out part, not on both")


@dataclass(frozen=True)
class Compression:
    """Compression of fc6 and fc7.

    Attributes
    ----------
    svd : float, int or None
        Below 1: the fraction of the energy that the rank must keep; an integer: the rank; None: no SVD.
    bfloat16 : bool
        Weights and products in bfloat16, half the bytes.

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
        """Parse the value of ``--compress``; ``str`` is the inverse.

        Raises
        ------
        InputError
            For any other text.
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
