"""What a classification network is made of, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from ...data.errors import InputError
from ..descent.options import FITS, Fit
from ..options import MIN_SIDE, BaseOptions, FeatureOptions, check_levels

#: The network that classifiers are trained on unless told, and where its weights come from.
BACKBONE, WEIGHTS = "sppnet_small", "none"


@dataclass(frozen=True)
class ClassifierOptions(BaseOptions):
    """From photograph to class scores (paper, section 2.2).

    Attributes
    ----------
    levels : tuple of int
        Pyramid levels; level n pools n x n bins of the whole map.
    width : int
        Numbers in fc6 and in fc7; those of a pretrained classifier keep theirs.
    dropout : float
        Part of fc6's and fc7's outputs that training does without; the paper's is 0.5, with far more photographs.
    size : int
        Side in pixels of the square crops it is trained on, the largest one where there are several.
    fit : {"any", "crop", "warp"}
        "any" is the SPP network, which takes images of any size. The others are its twin without SPP, to compare
        with: the pyramid's finest level alone, on images of ``size`` x ``size`` pixels only, which are cut out of
        the photograph or are the whole of it, warped.
    multi_label : bool
        A photograph shows any number of the classes: a sigmoid for each in the place of one softmax.

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
        """The levels in use: without SPP the finest one."""
        return self.levels if self.fit == "any" else (max(self.levels),)
