"""Options of training on photographs by stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...data.errors import InputError
from ..options import MIN_SIDE, BaseOptions

Fit = Literal["any", "crop", "warp"]

SizeRule = Literal["alternate", "range"]

Optimizer = Literal["sgd", "adamw"]

Schedule = Literal["cosine", "steps", "plateau"]

Kind = Literal["none", "paper", "strong"]

FITS: tuple[str, ...] = get_args(Fit)

SIZE_RULES: tuple[str, ...] = get_args(SizeRule)

OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)

SCHEDULES: tuple[str, ...] = get_args(Schedule)

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class LearnOptions(BaseOptions):
    """How a classification network is trained (paper, sections 2.3 and 3.1).

    Attributes
    ----------
    epochs : int
        Passes over the training set.
    batch : int
        Photographs in a mini-batch.
    rate : float or None
        Initial learning rate of the fc layers. Pretrained convolutions under new fc layers learn at 0.03 of it. None
        means 0.1, or 0.01 with pretrained fc layers; with "adamw" a fiftieth of these.
    optimizer : {"sgd", "adamw"}
        Stochastic gradient descent with Nesterov's momentum, or Adam with decoupled weight decay (Loshchilov and
        Hutter, ICLR 2019).
    momentum : float
        Used by "sgd".
    weight_decay : float
        Applied to weights, not to biases and batch norms.
    schedule : {"cosine", "steps", "plateau"}
        "cosine": the rate falls to 0 along half a cosine. "steps": it is divided by ten after 60 and 85 per cent of the
        epochs. "plateau": it is divided by ten when the held-out loss has not fallen for ``patience`` epochs, as in the
        paper.
    patience : int
        Used by "plateau".
    warmup : float
        Epochs in which the rate rises from 0.
    sizes : tuple of int
        Sides of the training images, pixels, largest first. Crops are cut at the first size and resized to the others
        (224 and 180 in the paper).
    size_rule : {"alternate", "range"}
        Each epoch has one size: the next of ``sizes``, or a random one from the smallest to the largest. The last
        epoch always has the largest, the size of testing, because batch norms (which the paper's networks do not have)
        keep the statistics of the last size.
    smoothing : float
        Label smoothing: share of the target probability that is spread over all classes (Szegedy et al., CVPR 2016).
    average : float
        Decay of the running mean of the weights over the steps; the mean is the result (0.99 averages over about a
        hundred steps). 0 keeps the last weights.
    mixed : bool or None
        Multiply in bfloat16; None means yes if the device is fast at it.
    held_out : float
        Share of the photographs in the held-out set, which is scored after each epoch and not trained on.
    seed : int
        Seed of all random choices.

    Examples
    --------
    The paper's two sizes, in turn:

    >>> LearnOptions(epochs=10, sizes=(224, 180)).size_rule
    'alternate'
    """

    epochs: int = 30
    batch: int = 64
    rate: float | None = None
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    patience: int = 3
    warmup: float = 1.0
    sizes: tuple[int, ...] = (224,)
    size_rule: SizeRule = "alternate"
    smoothing: float = 0.0
    average: float = 0.0
    mixed: bool | None = None
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs < 1 or self.batch < 2:
            raise InputError(
                f"epochs must be at least 1 and the batch 2 or more photographs, not {self.epochs} and {self.batch}"
            )
        if self.rate is not None and not 0 < self.rate <= 1e6:
            raise InputError(f"the learning rate must be positive, and at most a million, not {self.rate}")
        if not 0 <= self.momentum < 1 or not self.weight_decay >= 0 or not self.warmup >= 0 or self.patience < 1:
            raise InputError(
                f"the momentum must be at least 0 and less than 1, the weight decay and the warm-up at least 0 and the "
                f"patience at least 1, not {self.momentum}, {self.weight_decay}, {self.warmup} and {self.patience}"
            )
        if self.seed < 0:
            raise InputError(f"the seed must be 0 or more, not {self.seed}")
        if not self.sizes or min(self.sizes) < MIN_SIDE or max(self.sizes) != self.sizes[0]:
            raise InputError(
                f"sizes must be {MIN_SIDE} pixels or more, the largest first, not {','.join(map(str, self.sizes))}"
            )
        if not 0 <= self.held_out < 1 or not 0 <= self.average < 1 or not 0 <= self.smoothing < 1:
            raise InputError(
                f"the held-out part, the averaging and the smoothing must be at least 0 and less than 1, not "
                f"{self.held_out}, {self.average} and {self.smoothing}"
            )

    def size_at(self, epoch: int) -> int:
        """Side in pixels of the images of an epoch, counted from 0."""
        left = self.epochs - 1 - epoch
        if left == 0 or self.size_rule == "alternate":
            return self.sizes[left % len(self.sizes)]
        import numpy as np  # imported here, so that a command's help stays fast

        rng = np.random.default_rng([self.seed, epoch])
        return int(rng.integers(min(self.sizes), max(self.sizes), endpoint=True))


@dataclass(frozen=True)
class Augmentation(BaseOptions):
    """How training crops are made (see :func:`.augment.training_crop`).

    Attributes
    ----------
    kind : {"none", "paper", "strong"}
    warp : bool
        Stretch photographs to squares, for a network that takes only one size but should see whole photographs.
    area : (least, most)
        Share of the photograph's area in a "strong" crop.

    Examples
    --------
    >>> Augmentation("strong", area=(0.5, 1.0))
    Augmentation(kind='strong', warp=False, area=(0.5, 1.0))
    """

    kind: Kind = "paper"
    warp: bool = False
    area: tuple[float, float] = (0.25, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            raise InputError(f"area must be two shares of a photograph, 0 < least <= most <= 1, not {self.area}")


#: Student and teacher networks of a distillation.
STUDENT, TEACHER = "sppnet_student_480", "efficientnet_lite0"

#: With these crops objects are as large as in a photograph that a detector scales to a shorter side of 320 to 688
#: pixels. A student of one scale, 688, that was trained with crops of 5 to 100 % of a photograph explained 39 % of its
#: teacher's variance at 224 pixels and 29 % at 688.
DISTIL_AUGMENTATION = Augmentation("strong", area=(0.08, 0.8))

#: A distillation alternates between two sizes and keeps a running mean of the weights.
DISTIL_LEARN = LearnOptions(
    epochs=60,
    batch=16,
    optimizer="adamw",
    rate=1.5e-3,
    weight_decay=0.05,
    sizes=(320, 224),
    average=0.998,
    held_out=0.05,
)
