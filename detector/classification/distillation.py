"""Convolutions that learn, without labels, to compute another network's feature map."""

from __future__ import annotations

from collections.abc import Callable
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

#: Photographs on whose middles the teacher's channels are measured.
_MEASURED = 200


class Distillation(Descent):
    """Learns a teacher's map, cell by cell (Romero et al., "FitNets", ICLR 2015).

    Teacher and student see the same crops (Beyer et al., "Knowledge distillation: A good teacher is patient and
    consistent", CVPR 2022). The loss is the mean squared difference of the maps, each channel divided by its standard
    deviation in the teacher, so that none counts for its range.

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
    mean, deviation : Tensor (C,)
        Of the teacher's channels.

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
        self.mean, self.deviation = self._measure()

    @torch.no_grad()
    def _measure(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the teacher's channels, float32 (C,); of silent ones the deviation is 1."""
        count, first, second = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        with closing(self.photographs.centres("crop", self.options.batch)) as batches:
            for batch in batches:
                maps = self._targets(self._images(batch.images)).double()
                first, second = first + maps.sum(dim=(0, 2, 3)), second + maps.square().sum(dim=(0, 2, 3))
                count += maps[:, 0].numel()
                if count >= _MEASURED * maps[0, 0].numel():
                    break
        mean = first / count
        deviation = (second / count - mean.square()).clamp(min=0).sqrt()
        return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()

    @torch.no_grad()
    def _targets(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.teacher(images)

    def _differences(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Student less teacher, and teacher less its mean, in standard deviations, (B, C, h, w)."""
        wanted = self._targets(images)
        with self._precision():
            found = self.network(images)
        deviation, mean = (values[:, None, None] for values in (self.deviation, self.mean))
        return (found.float() - wanted) / deviation, (wanted - mean) / deviation

    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        return self._differences(images)[0].square().mean()

    @torch.no_grad()
    def _score(self) -> tuple[float | None, float | None, float | None]:
        assert self.held_out is not None
        missed, all_of_it, count = 0.0, 0.0, 0
        # Crops as those that are learnt from, the same after each epoch: the losses can be compared.
        crops = self.held_out.training(
            self.options.sizes[0], self.augmentation, self.options.batch, [self.options.seed]
        )
        with closing(crops) as batches:
            for batch in batches:
                differences, contents = self._differences(self._images(batch.images))
                missed += float(differences.square().sum())
                all_of_it += float(contents.square().sum())
                count += differences.numel()
        return missed / count, 1 - missed / max(all_of_it, 1e-12), None

    def _words(self, epoch: Epoch) -> str:
        return f"loss {epoch.held_out_loss:.3f}, explained variance {epoch.held_out_score:.3f}"
