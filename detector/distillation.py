"""Distillation: a small network learns the feature map of a pretrained teacher network, without labels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import __version__
from ..data.errors import InputError
from ..data.labelled import LabelledImage, LabelledImages, described, no_labels
from ..data.progress import log
from ..data.store import Checkpoint, content_key, locked
from .convolutions.backbone import Backbone
from .convolutions.reduction import learn_reduction, reduced_channels
from .convolutions.truncation import MapGrid, cut, default_layers, to_learn
from .convolutions.weights import weights_key
from .descent.curves import write_curves
from .descent.descent import Descent
from .descent.epochs import Epoch
from .descent.options import (
    DISTIL_AUGMENTATION,
    DISTIL_LEARN,
    STUDENT,
    TEACHER,
    Augmentation,
    LearnOptions,
)
from .descent.photographs import Batch, Photographs
from .modelfile import write_model
from .training.reduction import stored_shapes

#: Increased when this version would misread earlier checkpoints.
_VERSION = 3


def distil(
    photographs: Sequence[Path],
    out: str | Path,
    backbone: str = STUDENT,
    teacher: str = TEACHER,
    teacher_weights: str | Path = "imagenet",
    learn: LearnOptions = DISTIL_LEARN,
    augmentation: Augmentation = DISTIL_AUGMENTATION,
    work: str | Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
    teacher_layer: str | None = None,
    channels: Sequence[int] | None = None,
) -> Path:
    """Train a network's convolutions to reproduce the feature map of a teacher network, and save them.

    Parameters
    ----------
    photographs : sequence of Path
        Image files without labels. A file that cannot be read is reported and left out.
    out : str or Path
        The file to write; use it as ``weights`` of :class:`.backbone.Backbone` for this backbone.
    backbone : str
        The student, with random initial weights. Its default map must have the stride of the teacher's, and as many
        channels as the reduction leaves of them.
    teacher, teacher_weights : str, str or Path
        The teacher network, as in :class:`.backbone.Backbone`.
    learn : LearnOptions
    augmentation : Augmentation
    work : str or Path, optional
        Folder of the checkpoint of each epoch and the curves; by default the name of ``out`` with ``.work``.
    device : str
    quiet : bool
        No progress bars, and only warnings to the logger ``sppnet``.
    teacher_layer : str, optional
        The teacher's layers whose maps are learnt, with commas between them; by default the two of a detector
        (:func:`.truncation.default_layers`).
    channels : sequence of int, optional
        Channels that principal components leave of the map of each layer, as in :class:`.training.plan.TrainPlan`.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    InputError
        When the two maps differ in shape, there are too few photographs, the training diverges, or another run has
        the folder ``work``.
    """
    part, example = cut(backbone), Backbone(teacher, teacher_weights, teacher_layer or default_layers(teacher))
    wanted = reduced_channels(example, channels)
    _check_alike(part.map, backbone, example, wanted)
    images = LabelledImages([LabelledImage(path, no_labels()) for path in photographs], (), multi_label=True)
    fit, held_out = images.split(learn.held_out, learn.seed)
    work = Path(f"{out}.work") if work is None else Path(work)
    key = content_key(
        _VERSION,
        [described(fit), described(held_out)],
        [backbone, teacher, example.layer, wanted, weights_key(teacher_weights)],
        [learn.to_dict(), augmentation.to_dict()],
    )
    with locked(work):
        kept = Photographs(fit, learn.sizes[0], "reading photographs", quiet)
        unseen = Photographs(held_out, learn.sizes[0], "reading held-out photographs", quiet)
        example.to(device)
        _reduce(example, wanted, part.channels, kept, learn, augmentation, Checkpoint(work, "reduction", key))
        student = to_learn(part, seed=learn.seed).to(device)
        training = Distillation(student, example, kept, unseen, learn, augmentation, lambda line: log(line, quiet))

        def draw() -> None:
            score, done = "explained variance", len(training.history) == learn.epochs
            write_curves(work, training.history, "squared difference of the maps", score, score, done)

        training.run_resumably(work, "distillation", key, draw, quiet)
    last = training.history[-1]
    card = {
        "version": __version__,
        "images": len(kept),
        "teacher": teacher,
        "teacher_layer": example.layer,
        "teacher_channels": example.channels,
        "teacher_weights": str(teacher_weights),
        "training": learn.to_dict(),
        "augmentation": augmentation.to_dict(),
        "loss": last.loss,
        "held_out": {"images": len(unseen), "loss": last.held_out_loss, "explained": last.held_out_score},
        "failed": sorted({**kept.failed, **unseen.failed}),
    }
    header = {"kind": "backbone", "backbone": backbone, "layer": part.layer, "stride": part.map.stride, "card": card}
    write_model(out, header, {f"backbone.{name}": value for name, value in student.state_dict().items()})
    return Path(out)


def _check_alike(own: MapGrid, name: str, teacher: Backbone, wanted: Sequence[int | None]) -> None:
    """Raise an InputError if the student's map has not the geometry and channels of the teacher's, reduced."""
    widths = [width if most is None else most for width, most in zip(teacher.layer_channels, wanted, strict=True)]
    places = {f"stride {grid.stride}, first cell at {grid.offset0:g}" for grid in teacher.grids}
    maps = [
        f"{own.channels} channels at stride {own.stride}, first cell at {own.offset0:g}",
        f"{'+'.join(map(str, widths))} channels at {' and '.join(sorted(places))}",
    ]
    if own.channels != sum(widths) or {f"stride {own.stride}, first cell at {own.offset0:g}"} != places:
        raise InputError(f"the map of {name} ({maps[0]}) must be like that of {teacher.name} ({maps[1]})")


#: Number of photographs to measure the teacher's channels on, one crop each.
_MEASURED = 200


def _reduce(
    teacher: Backbone,
    wanted: Sequence[int | None],
    channels: int,
    photographs: Photographs,
    learn: LearnOptions,
    augmentation: Augmentation,
    stored: Checkpoint,
) -> None:
    """Reduce the teacher's maps to the principal components of crops like those of the training, in place.

    The mean square of a channel is then 1 on average: what a network with random weights computes.
    """
    if len(wanted) == 1 and wanted[0] is None:
        return
    arrays = stored.load(stored_shapes(teacher, wanted))
    if arrays is None:
        with closing(photographs.training(learn.sizes[0], augmentation, 1, [learn.seed])) as batches:
            crops = (batch.images[0].numpy() for batch in islice(batches, _MEASURED))
            # Their negatives would teach the student nothing more.
            reduction = learn_reduction(teacher, crops, wanted, both_signs=False)
        size = (channels / len(wanted)) ** 0.5
        arrays = {f"layer{number}": size * values.numpy() for number, values in enumerate(reduction)}
        stored.save(arrays)
    teacher.reduce([torch.from_numpy(arrays[f"layer{number}"]) for number in range(len(wanted))])


#: For AdamW, which reached an explained variance of 0.15 in 300 steps of 32 crops; SGD at a rate of 0.3 reached 0.03.
_RATE = 2e-3


class Distillation(Descent):
    """Learns the feature map of a teacher network, cell by cell (Romero et al., "FitNets", ICLR 2015).

    Teacher and student see the same crops (Beyer et al., "Knowledge distillation: A good teacher is patient and
    consistent", CVPR 2022). The loss is the mean squared difference of the maps, divided by the teacher's variance.
    Channels with a larger range count more, as for a linear SVM. When each channel was divided by its standard
    deviation, the weakest channels, which are nearly noise, took most of the capacity: on held-out photographs of BCCD
    a student of 0.7 million weights then explained 37 % of the variance instead of 52 %, and 26 % instead of 34 % of
    the mean channel's.

    Parameters
    ----------
    network : nn.Module
        The student: maps normalised images (B, 3, H, W) to maps of the teacher's shape. Changed in place.
    teacher : Backbone
    photographs, held_out, options, augmentation, report
        As in :class:`.descent.Descent`. The held-out score is the fraction of the teacher's variance that the student
        explains, on crops like those of the training: 1 is a perfect copy, 0 the teacher's mean at every cell.

    Attributes
    ----------
    mean : Tensor (C,)
        Mean of each channel of the teacher.
    variance : float
        Mean variance of the teacher's channels.

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
        """Mean of each channel of the teacher, float32 (C,), and their mean variance; 1 if all are constant."""
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
        """One crop of each photograph, like in training but always the same, so that losses are comparable."""
        options = self.options
        return photographs.training(options.sizes[0], self.augmentation, options.batch, [options.seed], self._workers())

    @torch.no_grad()
    def _targets(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.teacher(images)

    def _maps(self, student: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's maps, float32 (B, C, h, w)."""
        wanted = self._targets(images)
        with self._precision():
            found = student(images)
        return found.float(), wanted.float()

    def _loss(self, images: Tensor, batch: Batch) -> Tensor:
        found, wanted = self._maps(self.learner, images)
        return (found - wanted).square().mean() / self.variance

    @torch.no_grad()
    def _score(self) -> tuple[float | None, float | None, float | None]:
        assert self.held_out is not None
        missed, all_of_it, count = 0.0, 0.0, 0
        with closing(self._crops(self.held_out)) as batches:
            for batch in batches:
                found, wanted = self._maps(self.network, self._images(batch.images))
                missed += float((found - wanted).square().sum())
                all_of_it += float((wanted - self.mean[:, None, None]).square().sum())
                count += found.numel()
        return missed / count / self.variance, 1 - missed / max(all_of_it, 1e-12), None

    def _words(self, epoch: Epoch) -> str:
        return f"loss {epoch.held_out_loss:.3f}, explained variance {epoch.held_out_score:.3f}"
