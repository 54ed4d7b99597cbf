"""From photographs without labels to convolutions in one file, by the example of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ... import __version__
from ...data.errors import InputError
from ...data.labelled import LabelledImage, LabelledImages, no_labels
from ...data.progress import log
from ...data.store import content_key
from ..backbone import Backbone
from ..modelfile import write_model
from ..networks import cut, to_learn
from .augment import Augmentation
from .curves import write_curves
from .distillation import Distillation
from .options import LearnOptions
from .photographs import Photographs
from .train import described, weights_key

#: Raised when a checkpoint of an earlier version would be understood wrongly.
_VERSION = 2

#: Things look as large in the crops as in a photograph whose shorter side a detector scales to 688 pixels. A student
#: taught with crops of 5 % to all of a photograph explained 39 % of its teacher's variance on photographs of 224 pixels
#: and 29 % on those of 688.
AUGMENTATION = Augmentation("strong", area=(0.04, 0.4))

#: Two sizes in turn, a running mean of the weights.
LEARN = LearnOptions(
    epochs=60,
    batch=16,
    optimizer="adamw",
    rate=1.5e-3,
    weight_decay=0.05,
    sizes=(256, 192),
    average=0.998,
    held_out=0.05,
)


def distil(
    photographs: Sequence[Path],
    out: str | Path,
    backbone: str = "sppnet_student",
    teacher: str = "mobilenet_v2",
    teacher_weights: str | Path = "imagenet",
    learn: LearnOptions = LEARN,
    augmentation: Augmentation = AUGMENTATION,
    work: str | Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> Path:
    """Train a network's convolutions to compute the map of another one, and save them.

    Parameters
    ----------
    photographs : sequence of Path
        Image files; they need no labels. One that cannot be read is named and left out.
    out : str or Path
        The file to write: ``weights`` of :class:`sppnet.detector.backbone.Backbone` for this backbone.
    backbone : str
        The student, which starts at random. Its default map must have the stride and channels of the teacher's.
    teacher, teacher_weights : str, str or Path
        The network imitated, as in :class:`sppnet.detector.backbone.Backbone`.
    learn : LearnOptions
    augmentation : Augmentation
    work : str or Path, optional
        Where the state after each epoch and the curves are kept; the file's name with ``.work`` by default.
    device : str
    quiet : bool
        Say nothing on stderr but warnings.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        When the maps do not fit each other, there is too little to learn from, or learning diverges.
    """
    part, example = cut(backbone), Backbone(teacher, teacher_weights)
    maps = [f"{net.channels} channels at stride {net.stride}, first cell at {net.offset0:g}" for net in (part, example)]
    if maps[0] != maps[1]:
        raise InputError(f"the map of {backbone} ({maps[0]}) must be like that of {teacher} ({maps[1]})")
    images = LabelledImages([LabelledImage(path, no_labels()) for path in photographs], (), multi_label=True)
    fit, held_out = images.split(learn.held_out, learn.seed)
    work = Path(f"{out}.work") if work is None else Path(work)
    key = content_key(
        _VERSION,
        [described(fit), described(held_out)],
        [backbone, teacher, weights_key(teacher_weights)],
        [learn.to_dict(), augmentation.to_dict()],
    )
    kept = Photographs(fit, learn.sizes[0], "reading photographs", quiet)
    unseen = Photographs(held_out, learn.sizes[0], "reading held-out photographs", quiet)
    student = to_learn(part, seed=learn.seed).to(device)
    training = Distillation(student, example, kept, unseen, learn, augmentation, lambda line: log(line, quiet))

    def draw() -> None:
        write_curves(work, training.history, "squared difference of the maps", "explained variance")

    training.run_resumably(work, "distillation", key, draw, quiet)
    last = training.history[-1]
    card = {
        "version": __version__,
        "images": len(kept),
        "teacher": teacher,
        "teacher_weights": str(teacher_weights),
        "training": learn.to_dict(),
        "augmentation": augmentation.to_dict(),
        "loss": last.loss,
        "held_out": {"images": len(unseen), "loss": last.held_out_loss, "explained": last.held_out_score},
        "failed": sorted({**kept.failed, **unseen.failed}),
    }
    header = {"kind": "backbone", "backbone": backbone, "layer": part.layer, "card": card}
    write_model(out, header, {f"backbone.{name}": value for name, value in student.state_dict().items()})
    return Path(out)
