"""The options of a classification network, frozen and light to import."""

from __future__ import annotations

from dataclasses import dataclass

from ...data.errors import InputError
from ..descent.options import FITS, Fit
from ..options import MIN_SIDE, BaseOptions, FeatureOptions, check_levels

#: The default network of a classifier, and where its weights come from.
BACKBONE, WEIGHTS = "sppnet_small", "none"


@dataclass(frozen=True)
class ClassifierOptions(BaseOptions):
    """From photograph to class scores (paper, section 2.2).

    Attributes
    ----------
    levels : tuple of int
        Pyramid levels; level n pools n x n bins of the whole map.
    width : int
        Numbers in fc6 and in fc7; pretrained fc layers keep their own width.
    dropout : float
        Part of the outputs of fc6 and fc7 that is dropped in training; the paper's is 0.5, with far more photographs.
    size : int
        Side in pixels of the square crops it is trained on; the largest where there are several.
    fit : {"any", "crop", "warp"}
        "any" is the SPP network, which takes images of any size. The others are the same network without SPP, for
        comparison: it pools the finest level only, and takes images of ``size`` x ``size`` pixels only, which are
        cut out of the photograph ("crop") or the whole photograph warped ("warp").
    multi_label : bool
        A photograph may show any number of the classes: a sigmoid for each class instead of one softmax.

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
        check_levels(self.levels)
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                f"fc layers need a width of at least 1 and a dropout from 0 to below 1, not {self.width} and "
                f"{self.dropout}"
            )
        if self.size < MIN_SIDE:
            raise InputError(f"the size of photographs must be {MIN_SIDE} pixels or more, not {self.size}")
        if self.fit not in FITS:
            raise InputError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")

    @property
    def pooled_levels(self) -> tuple[int, ...]:
        """The levels in use; without SPP only the finest."""
        return self.levels if self.fit == "any" else (max(self.levels),)
