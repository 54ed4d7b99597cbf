"""The reduction of a training's maps, learnt on some of its photographs and kept with its caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ...data.progress import track
from ...data.sample import Sample
from ...data.store import Checkpoint, content_key
from ..convolutions.backbone import Backbone
from ..convolutions.reduction import learn_reduction, reduced_channels
from ..windows.scales import resize
from .cache import fingerprint

#: Part of the key of a stored reduction; increase it when its content or meaning changes.
VERSION = 2

#: The largest number of photographs to learn from at scales up to :data:`SCALE`, and at any scale.
MOST_IMAGES, SCALE, LEAST_IMAGES = 64, 480, 16


def reduce_maps(
    backbone: Backbone,
    channels: Sequence[int] | None,
    samples: Sequence[Sample],
    image_keys: Sequence[str],
    scale: int,
    folder: Path,
    seed: int,
    quiet: bool,
) -> None:
    """Reduce the maps of a backbone in place, as ``channels`` says.

    A stored reduction is used again if all images that it was learnt from are still there: more photographs then need
    no new maps of the old ones.

    Parameters
    ----------
    backbone : Backbone
    channels : sequence of int, optional
        For each layer (see :attr:`.plan.TrainPlan.channels`).
    samples, image_keys : sequences
        The training images and the content keys of their files.
    scale : int
        Shorter side of the images to learn from, pixels.
    folder : Path
        Folder of the stored reduction.
    seed : int
        Seed of the choice of images.
    quiet : bool
        No progress bar.
    """
    wanted = reduced_channels(backbone, channels, len(samples))
    if len(wanted) == 1 and wanted[0] is None:
        return
    stored = Checkpoint(folder, "reduction", content_key(VERSION, fingerprint(backbone), wanted, scale))
    arrays = stored.load({"images": (None,), **stored_shapes(backbone, wanted)})
    if arrays is None or not set(arrays["images"].tolist()) <= set(image_keys):
        # A larger scale has more cells to learn from in each photograph.
        most = min(MOST_IMAGES, max(LEAST_IMAGES, round(MOST_IMAGES * (SCALE / scale) ** 2)))
        chosen = np.sort(np.random.default_rng([seed, len(samples)]).permutation(len(samples))[:most])
        images = (resize(samples[i].image, scale)[0] for i in track(chosen, "reduction of the maps", quiet=quiet))
        learnt = learn_reduction(backbone, images, wanted)
        arrays = {f"layer{number}": values.numpy() for number, values in enumerate(learnt)}
        arrays["images"] = np.array([image_keys[i] for i in chosen])
        stored.save(arrays)
    backbone.reduce([torch.from_numpy(arrays[f"layer{number}"]) for number in range(len(wanted))])


def stored_shapes(backbone: Backbone, wanted: Sequence[int | None]) -> Mapping[str, Sequence[int]]:
    """Shapes of a stored reduction to so many channels of each layer, by the names of its arrays."""
    pairs = zip(backbone.layer_channels, wanted, strict=True)
    return {f"layer{number}": () if most is None else (width, most) for number, (width, most) in enumerate(pairs)}
