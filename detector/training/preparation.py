"""What a training computes of each photograph before it learns anything: proposals and feature maps, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...data.boxes import flip
from ...data.image import image_size
from ...data.sample import Sample
from ...proposals.backends import Proposer
from ...proposals.cache import ProposalCache
from ..windows.features import Features
from .cache import FeatureCache, feature_cache, mirrored
from .images import training_windows


@dataclass(frozen=True, eq=False)
class Preparation:
    """The caches of a training, and what fills them.

    Attributes
    ----------
    work : Path
        Folder of the training.
    proposer : Proposer
    features : Features
        Pooled features.
    mirrors : bool
        Whether mirror images are learnt from, too.
    """

    work: Path
    proposer: Proposer
    features: Features[Any]
    mirrors: bool

    @cached_property
    def cache(self) -> FeatureCache:
        """Of feature maps, or of the rows of warped windows."""
        return feature_cache(self.work, self.features)

    @cached_property
    def _stored(self) -> ProposalCache:
        return ProposalCache(self.work / "proposals", self.proposer)

    def proposals(self, sample: Sample) -> Array:
        """Proposals in an image, float32 (N, 4), computed if they are not there."""
        return self._stored.get(sample.path)

    def fill(self, sample: Sample, key: str, proposals: Array) -> None:
        """Compute the maps of an image, and of its mirror image, that are not there."""
        windows = training_windows(sample, proposals)
        wanted = {key: windows}
        if self.mirrors:
            wanted[mirrored(key)] = flip(windows, image_size(sample.path)[1])
        if all(self.cache.has(*one) for one in wanted.items()):
            return
        image = sample.image
        for one, its_windows in wanted.items():
            self.cache.fill(one, image if one == key else np.ascontiguousarray(image[:, ::-1]), its_windows)


def prepare(preparation: Preparation, samples: Sequence[Sample], keys: Sequence[str]) -> int:
    """Fill the caches for some images; returns their number."""
    for sample, key in zip(samples, keys, strict=True):
        preparation.fill(sample, key, preparation.proposals(sample))
    return len(keys)
