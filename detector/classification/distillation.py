"""Convolutions that learn, without labels, to compute another network's feature map."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from .augment import Augmentation
from .descent import Descent, Epoch
from .options import LearnOptions
from .photographs import Batch, Photographs

#: For AdamW, which came to an explained variance of 0.15 in 300 steps of 32 crops; SGD at 0.3 to 0.03.
_RATE = 2e-3

#: Photographs on a crop of which the teacher's channels are measured.
_MEASURED = 200


class Distillation(Descent):
    """Learns a teacher's map, cell by cell (Romero et al., "FitNets", ICLR 2015).

    Teacher and student see the same crops (Beyer et al., "Knowledge distillation: A good teacher is patient and
    consistent", CVPR 2022). The loss is the mean squared difference of the maps, as a part of the teacher's variance.
    Channels count for it as they do for a linear SVM, by their range. With each divided by its own standard deviation,
    the faintest, which are hardest to tell from noise, took what capacity there was: on held-out photographs of BCCD
    a student of 0.7 million weights then explained 37 % of the variance instead of 52 %, and of the mean channel's
    26 % instead of 34 %.

    Parameters
    ----------
    network : nn.Module
        The student: normalised images (B, 3, H, W) to maps of the teacher's shape. Changed in place.
    teacher : Backbone
    photographs, held_out, options, augmentation, report
        As in :class:`.descent.Descent`. The held-out score is the share of the teacher's variance that the student
        explains on crops as those that it learns from: 1 is a perfect copy, 0 the teacher's mean at every cell.

    Attributes
    ----------
    mean : Tensor (C,)
        Of the teacher's channels.
    variance : float
        Of the teacher's map: the mean of its channels'.

    Raises
    ------
    ValueError
        When the maps differ in shape.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: Backbone,
        photographs: Photographs,
        held_out: Photographs | None,
        options: LearnOptions,
        augmentation: Augmentation,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(network, photographs, held_out, options, augmentation, _RATE, report)
        self.teacher = teacher.to(self.device)
        probe = torch.zeros(1, 3, options.sizes[0], options.sizes[0], device=self.device)
        with torch.no_grad():
            shapes = [tuple(one.eval()(probe).shape[1:]) for one in (network, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the student's map must have the shape of the teacher's, {shapes[1]}, not {shapes[0]}")
        self.mean, self.variance = self._measure()

    @torch.no_grad()
    def _measure(self) -> tuple[Tensor, float]:
        """Mean of the teacher's channels, float32 (C,), and their mean variance, 1 where all are silent."""
        count, first, second = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        with closing(self._crops(self.photographs)) as batches:
            for batch in batches:
                maps = self._targets(self._images(batch.images)).double()
                first, second = first + maps.sum(dim=(0, 2, 3)), second + maps.square().sum(dim=(0, 2, 3))
                count += maps[:, 0].numel()
                if count >= _MEASURED * maps[0, 0].numel():
                    break
        mean = first / count
        variance = float((second / count - mean.square()).clamp(min=0).mean())
        return mean.float(), variance if variance > 1e-12 else 1.0

    def _crops(self, photographs: Photographs) -> Generator[Batch, None, None]:
        """A crop of each photograph as those that are learnt from, always the same: losses on them can be compared."""
        options = self.options
        return photographs.training(options.sizes[0], self.augmentation, options.batch, [options.seed])

    @torch.no_grad()
    def _targets(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.teacher(images)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's, float32 (B, C, h, w)."""
        wanted = self._targets(images)
        with self._precision():
            found = self.network(images)
        return found.float(), wanted.float()

    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        found, wanted = self._maps(images)
        return (found - wanted).square().mean() / self.variance

    @torch.no_grad()
    def _score(self) -> tuple[float | None, float | None, float | None]:
        assert self.held_out is not None
        missed, all_of_it, count = 0.0, 0.0, 0
        with closing(self._crops(self.held_out)) as batches:
            for batch in batches:
                found, wanted = self._maps(self._images(batch.images))
                missed += float((found - wanted).square().sum())
                all_of_it += float((wanted - self.mean[:, None, None]).square().sum())
                count += found.numel()
        return missed / count / self.variance, 1 - missed / max(all_of_it, 1e-12), None

    def _words(self, epoch: Epoch) -> str:
        return f"loss {epoch.held_out_loss:.3f}, explained variance {epoch.held_out_score:.3f}"
