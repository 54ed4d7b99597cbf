"""Labelled photographs as crops and batches for a network that learns from them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.ahead import ahead
from ...data.arrays import Array
from ...data.errors import ImageError
from ...data.labelled import LabelledImages
from ...data.progress import track, warn
from ..convolutions.backbone import MEAN, STD
from ..windows.scales import resize
from .augment import at_size, centre_crop, training_crop, warped
from .options import Augmentation, Fit

#: Memory for photographs that are read once and kept, bytes.
_KEPT = 2_000_000_000

#: Of a crop's side and the photograph's shorter side (paper, section 3.1: 224 of 256).
CONTEXT = 256 / 224


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one size with what they show.

    Attributes
    ----------
    images : uint8 tensor (B, side, side, 3)
    targets : tensor
        int64 (B,), or int8 (B, classes) with 1, 0 and -1 (not to be learnt from) where there may be several labels.
    """

    images: Tensor
    targets: Tensor


class Photographs:
    """A labelled set, read once where memory allows; photographs far larger than the crops are scaled down.

    Parameters
    ----------
    images : LabelledImages
    side : int
        Of the crops, pixels.
    label : str
        What is going on, for the progress on stderr.
    quiet : bool

    Attributes
    ----------
    images : LabelledImages
        Those that can be read; the others are named on stderr.
    failed : dict of str to str
        The names of those that cannot, with the reason.
    """

    def __init__(self, images: LabelledImages, side: int, label: str, quiet: bool = False) -> None:
        self.side = side
        self.failed: dict[str, str] = {}
        self._kept: list[Array | None] = []
        readable, room = [], _KEPT
        with closing(ahead(self._read, images, depth=4)) as read:
            for index, pixels in enumerate(track(read, label, len(images), quiet)):
                if isinstance(pixels, ImageError):
                    self.failed[images[index].name] = str(pixels)
                    warn(f"sppnet: {pixels}")
                    continue
                readable.append(index)
                room -= pixels.nbytes
                self._kept.append(pixels if room >= 0 else None)
        self.images = images.subset(readable)
        self._targets = torch.from_numpy(self.images.targets if images.multi_label else self.images.labels)

    def _read(self, image: Any) -> Array | ImageError:
        try:
            pixels: Array = image.image
        except ImageError as error:
            return error
        # Twice the side is what the smallest regions that are cut out need.
        most = round(2 * CONTEXT * self.side)
        if min(pixels.shape[:2]) <= most:
            return pixels
        # A strip keeps its aspect ratio too: a limit on its longer side would leave crops too few pixels.
        return resize(pixels, most, max_side=max(pixels.shape[:2]))[0]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Array:
        kept = self._kept[index]
        if kept is not None:
            return kept
        pixels = self._read(self.images[index])
        if isinstance(pixels, ImageError):  # readable a while ago
            raise pixels
        return pixels

    def training(
        self, side: int, augmentation: Augmentation, batch: int, seed: Sequence[int]
    ) -> Generator[Batch, None, None]:
        """One visit to every photograph in random order, in batches of random crops, made in the background.

        Crops are cut at :attr:`side` and resized to ``side``. A last batch that is not full is left out.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        size = min(batch, len(order))

        def crops(chosen: Array) -> Batch:
            made = [
                at_size(training_crop(self[i], self.side, augmentation, np.random.default_rng([*seed, i])), side)
                for i in map(int, chosen)
            ]
            return self._batch(made, chosen)

        return ahead(crops, [order[start : start + size] for start in range(0, len(order) - size + 1, size)], depth=3)

    def centres(self, fit: Fit, batch: int) -> Generator[Batch, None, None]:
        """The middle of every photograph, in order; the whole, warped, for a network that is fed that way."""

        def crops(chosen: Array) -> Batch:
            return self._batch([centre_view(self[i], self.side, fit) for i in map(int, chosen)], chosen)

        indices = np.arange(len(self))
        return ahead(crops, [indices[start : start + batch] for start in range(0, len(self), batch)], depth=3)

    def _batch(self, crops: Sequence[Array], chosen: Array) -> Batch:
        return Batch(torch.from_numpy(np.stack(crops)), self._targets[torch.from_numpy(chosen)])


def centre_view(image: Array, side: int, fit: Fit) -> Array:
    """The one view that a network is tested on, uint8 (side, side, 3): what lies around the centre, or all, warped."""
    return warped(image, side) if fit == "warp" else centre_crop(image, side, round(side * CONTEXT))


def normalised(images: Tensor) -> Tensor:
    """RGB uint8 (B, H, W, 3) as a network takes it: float32 (B, 3, H, W), channels last in memory."""
    mean, std = (255 * torch.tensor(values, device=images.device) for values in (MEAN, STD))
    return images.float().sub_(mean).div_(std).permute(0, 3, 1, 2)
