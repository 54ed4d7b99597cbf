"""Options of a classification network, frozen and fast to import."""

from __future__ import annotations

from dataclasses import dataclass

from ...data.errors import InputError
from ..descent.options import Fit
from ..options import MIN_SIDE, BaseOptions, FeatureOptions, check_levels

#: Default network of a classifier, and the source of its weights.
BACKBONE, WEIGHTS = "sppnet_small", "none"


@dataclass(frozen=True)
class ClassifierOptions(BaseOptions):
    """Structure of a classification network (paper, section 2.2).

    Attributes
    ----------
    levels : tuple of int
        Pyramid levels; level n pools n x n bins of the whole map.
    width : int
        Outputs of fc6 and of fc7; pretrained fc layers keep their own width.
    dropout : float
        Share of the outputs of fc6 and fc7 that is dropped in training. The paper uses 0.5, with far more photographs.
    size : int
        Side in pixels of the square training crops, the largest if there are several.
    fit : {"any", "crop", "warp"}
        "any" is the SPP network, which takes images of any size. The others are the same network without SPP, for
        comparison. It pools only the finest level, and takes only images of ``size`` x ``size`` pixels: crops of the
        photograph ("crop") or the whole photograph, warped ("warp").
    multi_label : bool
        A photograph may show any number of the classes: one sigmoid per class instead of one softmax.

    Examples
    --------
    >>> ClassifierOptions(levels=(1, 2, 4)).pooled_levels
    (1, 2, 4)
    >>> ClassifierOptions(levels=(1, 2, 4), fit="crop").pooled_levels
    (4,)
    """

    levels: tuple[int, ...] = FeatureOptions.levels
    width: int = 512
    dropout: float = 0.3
    size: int = 224
    fit: Fit = "any"
    multi_label: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_levels(self.levels)
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                f"fc layers need a width of at least 1 and a dropout from 0 to below 1, not {self.width} and "
                f"{self.dropout}"
            )
        if self.size < MIN_SIDE:
            raise InputError(f"the size of photographs must be {MIN_SIDE} pixels or more, not {self.size}")

    @property
    def pooled_levels(self) -> tuple[int, ...]:
        """Levels in use; without SPP only the finest."""
        return self.levels if self.fit == "any" else (max(self.levels),)
