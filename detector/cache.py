"""What a training run keeps on disk: feature maps of images, and the state of its stages.

Maps are kept in half precision, channels last, one file for each image and scale,
and read through the page cache: about 2.5 MB where the pooled windows would be
100 MB (paper, section 4.1: "we extract the feature maps only once").
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.memory import after_image
from ..data.store import atomic_path, content_key
from .backbone import Backbone
from .features import FeatureMaps, WindowFeatures

Array = NDArray[Any]

#: Part of every key; raised when the meaning of an entry changes.
VERSION = 1


def fingerprint(backbone: Backbone) -> str:
    """A key of a backbone's structure and weights."""
    state = backbone.state()
    tensors = [state[name].detach().cpu().contiguous().numpy().tobytes() for name in sorted(state)]
    return content_key(backbone.name, backbone.layer, sorted(state), *tensors)


def mirrored(image_key: str) -> str:
    """The key under which maps of an image's mirror image are kept."""
    return f"{image_key}-mirrored"


class MapCache:
    """Feature maps of image files, keyed by the file's content, the backbone's weights and the scale.

    Parameters
    ----------
    folder : path
        Made when the first entry is written.
    features : WindowFeatures
    """

    def __init__(self, folder: str | Path, features: WindowFeatures):
        self.folder, self.features = Path(folder), features
        self.backbone_key = fingerprint(features.backbone)

    def _entry(self, image_key: str, scale: int) -> Path:
        return self.folder / f"{content_key(VERSION, image_key, self.backbone_key, scale)}.npy"

    def missing(self, image_key: str) -> list[int]:
        """Scales whose map of the image is not there yet."""
        return [scale for scale in self.features.options.scales if not self._entry(image_key, scale).is_file()]

    def fill(self, image_key: str, image: Array) -> None:
        """Compute and keep the maps that are missing for an RGB uint8 image (H, W, 3)."""
        for scale in self.missing(image_key):
            values = self.features.map_at(image, scale).permute(1, 2, 0).to("cpu", torch.float16)
            with atomic_path(self._entry(image_key, scale)) as temporary:
                np.save(temporary, values.contiguous().numpy())

    def load(self, image_key: str, image_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> FeatureMaps:
        """The maps of an image of (height, width) pixels, on the features' device; kept they are in half precision.

        Raises
        ------
        FileNotFoundError
            When :meth:`fill` has not been called for this image.
        """
        after_image()
        maps = []
        for scale in self.features.options.scales:
            stored = np.load(self._entry(image_key, scale), allow_pickle=False)
            maps.append(torch.from_numpy(stored).to(self.features.device, dtype).permute(2, 0, 1))
        return FeatureMaps(image_size, tuple(maps))


class Checkpoint:
    """Named arrays of one stage in one file; written whole, found again only under the same key."""

    def __init__(self, folder: str | Path, stage: str, key: str):
        self.path = Path(folder) / f"{stage}-{key}.npz"

    def save(self, arrays: dict[str, Array]) -> None:
        """Replace what was kept."""
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self) -> dict[str, Array] | None:
        """What was kept, or None; a damaged file counts as none."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return dict(file)
        except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
            return None
