"""Training crops and batches of labelled photographs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
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
from ..windows.scales import resize
from .augment import at_size, centre_crop, training_crop, warped
from .options import Augmentation, Fit

#: Memory for photographs kept after reading, bytes.
_KEPT = 2_000_000_000

#: Photograph's shorter side over the crop's side (paper, section 3.1: 256 and 224).
CONTEXT = 256 / 224


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one size with their targets.

    Attributes
    ----------
    images : uint8 tensor (B, side, side, 3)
    targets : tensor
        int64 (B,); for multi-label sets int8 (B, classes) with 1, 0 and -1 (ignored).
    whole : tensor
        Targets of the whole batch, where these are the photographs of one of several processes.
    """

    images: Tensor
    targets: Tensor
    whole: Tensor


class Photographs:
    """A labelled set, read only once if memory allows; photographs much larger than the crops are scaled down.

    Parameters
    ----------
    images : LabelledImages
    side : int
        Side of the crops, pixels.
    label : str
        Label of the progress bar on stderr.
    quiet : bool

    Attributes
    ----------
    images : LabelledImages
        The readable ones; the others are named on stderr.
    failed : dict of str to str
        Reason for each unreadable one, by name.
    """

    def __init__(self, images: LabelledImages, side: int, label: str, quiet: bool = False) -> None:
        self.side = side
        self.failed: dict[str, str] = {}
        self._kept: list[Array | None] = []
        self._room = _KEPT
        readable = []
        with closing(ahead(self._read, images, depth=4)) as read:
            for index, pixels in enumerate(track(read, label, len(images), quiet)):
                if isinstance(pixels, ImageError):
                    self.failed[images[index].name] = str(pixels)
                    warn(f"sppnet: {pixels}")
                    continue
                readable.append(index)
                self._kept.append(self._if_room(pixels))
        self.images = images.subset(readable)
        self._targets = torch.from_numpy(self.images.targets if images.multi_label else self.images.labels)

    def _if_room(self, pixels: Array) -> Array | None:
        self._room -= pixels.nbytes
        return pixels if self._room >= 0 else None

    def __getstate__(self) -> dict[str, Any]:
        """All but the pixels: another process reads those that it needs."""
        return {**self.__dict__, "_kept": [None] * len(self), "_room": _KEPT}

    def _read(self, image: Any) -> Array | ImageError:
        try:
            pixels: Array = image.image
        except ImageError as error:
            return error
        # The smallest regions that are cut out need twice the side.
        most = round(2 * CONTEXT * self.side)
        if min(pixels.shape[:2]) <= most:
            return pixels
        # No limit on the longer side: it would leave the crops of a long strip too few pixels.
        return resize(pixels, most, max_side=max(pixels.shape[:2]))[0]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Array:
        kept = self._kept[index]
        if kept is not None:
            return kept
        pixels = self._read(self.images[index])
        if isinstance(pixels, ImageError):  # it was readable before
            raise pixels
        if self._room >= 0:  # in another process than the first
            self._kept[index] = self._if_room(pixels)
        return pixels

    def training(
        self,
        side: int,
        augmentation: Augmentation,
        batch: int,
        seed: Sequence[int],
        workers: int = 1,
        own: Callable[[Array], Array] = lambda chosen: chosen,
    ) -> Generator[Batch, None, None]:
        """Yield the batches of one epoch: random crops in random order, made by ``workers`` threads in the background.

        Crops are cut at :attr:`side` and resized to ``side``. An incomplete last batch is left out. The number of
        threads changes nothing: each crop has its own random numbers. Of each batch only the photographs are read that
        ``own`` chooses.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        size = min(batch, len(order))

        def crops(chosen: Array) -> Batch:
            made = [
                at_size(training_crop(self[i], self.side, augmentation, np.random.default_rng([*seed, i])), side)
                for i in map(int, own(chosen))
            ]
            return self._batch(made, own(chosen), chosen)

        chosen = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
        return ahead(crops, chosen, depth=2 + workers, workers=workers)

    def centres(self, fit: Fit, batch: int) -> Generator[Batch, None, None]:
        """Yield batches of the centre crops in order; for a network with the fit "warp", the warped photographs."""

        def crops(chosen: Array) -> Batch:
            return self._batch([centre_view(self[i], self.side, fit) for i in map(int, chosen)], chosen, chosen)

        indices = np.arange(len(self))
        return ahead(crops, [indices[start : start + batch] for start in range(0, len(self), batch)], depth=3)

    def _batch(self, crops: Sequence[Array], chosen: Array, whole: Array) -> Batch:
        targets, of_all = (self._targets[torch.from_numpy(rows)] for rows in (chosen, whole))
        return Batch(torch.from_numpy(np.stack(crops)), targets, of_all)


def centre_view(image: Array, side: int, fit: Fit) -> Array:
    """The single test view, uint8 (side, side, 3): the centre crop, or the whole photograph, warped."""
    return warped(image, side) if fit == "warp" else centre_crop(image, side, round(side * CONTEXT))
