"""Caches of a training run on disk: feature maps of images, or pooled rows of warped windows.

Maps are stored in half precision, channels last, one file for each image and scale,
and read through the page cache: about 2.5 MB, while the pooled windows would take
100 MB (paper, section 4.1: "we extract the feature maps only once"). Warped windows
share no map, so their pooled rows are stored. An entry that is damaged counts as
missing: each is checked once, when it is first asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ...data.arrays import Array
from ...data.memory import after_image
from ...data.store import content_key, load_array, save_array
from ..convolutions.backbone import Backbone
from ..convolutions.truncation import MapGrid
from ..device import to_device
from ..windows.features import Cells, FeatureMaps, Features, WindowFeatures
from ..windows.warping import WarpedWindows, WarpFeatures, frames

#: Part of every key; increase it when the meaning of an entry changes.
VERSION = 1


def fingerprint(backbone: Backbone) -> str:
    """Key of a backbone's structure and weights."""
    state = backbone.state()
    tensors = [state[name].detach().cpu().contiguous().numpy().tobytes() for name in sorted(state)]
    return content_key(backbone.name, backbone.layer, backbone.stride, sorted(state), *tensors)


def mirrored(image_key: str) -> str:
    """Key for the maps of an image's mirror image."""
    return f"{image_key}-mirrored"


class FeatureCache(Protocol):
    """Interface of the caches: per image, the data that window features come from, under the file's content key."""

    @property
    def features(self) -> Features[Any]:
        """Pooled features of windows."""

    @property
    def backbone_key(self) -> str:
        """See :func:`fingerprint`."""

    def has(self, image_key: str, windows: Array) -> bool:
        """Whether the cache holds all that the features of ``windows`` (N, 4) of an image need."""

    def fill(self, image_key: str, image: Array, windows: Array) -> None:
        """Compute and store what is missing for windows (N, 4) of an RGB uint8 image (H, W, 3)."""

    def load(self, image_key: str, image_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Any:
        """Load the data of an image of (height, width) pixels to the features' device; it was stored in half precision.

        Raises
        ------
        FileNotFoundError
            Before :meth:`fill` for this image.
        """


class MapCache:
    """A :class:`FeatureCache` of feature maps, which serve all windows; keyed by the backbone's weights and the scale.

    Parameters
    ----------
    folder : path
        Created with the first entry.
    features : WindowFeatures
    """

    def __init__(self, folder: str | Path, features: WindowFeatures):
        self.folder, self.features = Path(folder), features
        self.backbone_key = fingerprint(features.backbone)
        self._checked: set[Path] = set()

    def _entries(self, image_key: str, scale: int) -> list[Path]:
        """Files of the maps at a scale."""
        keys = [image_key, self.backbone_key, scale]
        grids = range(len(self.features.backbone.grids))
        return [self.folder / f"{content_key(VERSION, *keys, *([grid] if grid else []))}.npy" for grid in grids]

    def _missing(self, image_key: str) -> list[int]:
        scales, grids = self.features.options.scales, self.features.backbone.grids
        return [scale for scale in scales if not all(map(self._sound, self._entries(image_key, scale), grids))]

    def _sound(self, path: Path, grid: MapGrid) -> bool:
        """Whether a map is there and undamaged."""
        if path in self._checked:
            return path.is_file()
        found = load_array(path)
        sound = found is not None and found.dtype == np.float16 and found.ndim == 3 and found.shape[2] == grid.channels
        if sound:
            self._checked.add(path)
        return sound

    def has(self, image_key: str, windows: Array) -> bool:
        """Whether the maps of all scales are cached (see :class:`FeatureCache`)."""
        return not self._missing(image_key)

    def fill(self, image_key: str, image: Array, windows: Array) -> None:
        """Compute and store the missing maps (see :class:`FeatureCache`)."""
        for scale in self._missing(image_key):
            maps = self.features.maps_at(image, scale)
            for path, found in zip(self._entries(image_key, scale), maps, strict=True):
                save_array(path, found.permute(1, 2, 0).to("cpu", torch.float16).contiguous().numpy())
                self._checked.add(path)

    def load(self, image_key: str, image_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> FeatureMaps:
        """Load the maps of an image (see :class:`FeatureCache`)."""
        after_image()
        maps = []
        for scale in self.features.options.scales:
            for path in self._entries(image_key, scale):
                stored = np.load(path, allow_pickle=False)
                maps.append(to_device(torch.from_numpy(stored), self.features.device).to(dtype).permute(2, 0, 1))
        return FeatureMaps(image_size, tuple(maps))


class RowCache:
    """A :class:`FeatureCache` of pooled rows of warped windows: 100 MB for an image with 2,000 windows.

    New windows, for example of a new label, are added to the cached ones.

    Parameters
    ----------
    folder : path
        Created with the first entry.
    features : WarpFeatures
    """

    def __init__(self, folder: str | Path, features: WarpFeatures):
        self.folder, self.features = Path(folder), features
        self.backbone_key = fingerprint(features.backbone)
        self._checked: set[Path] = set()

    def _entry(self, image_key: str) -> tuple[Path, Path]:
        options = self.features.options
        key = content_key(
            VERSION, image_key, self.backbone_key, self.features.crop, options.context, list(options.levels)
        )
        return self.folder / f"{key}-frames.npy", self.folder / f"{key}-rows.npy"

    def _frames(self, windows: Array) -> Array:
        return np.unique(frames(windows, self.features.crop, self.features.options.context), axis=0)

    def _known(self, image_key: str) -> set[tuple[int, ...]]:
        of_frames, of_rows = self._entry(image_key)
        if not (of_frames.is_file() and of_rows.is_file()):
            return set()
        if of_frames not in self._checked:
            known, rows = load_array(of_frames), load_array(of_rows)
            if known is None or rows is None or len(known) > len(rows):
                return set()
            if known.shape[1:] != (4,) or rows.shape[1:] != (self.features.pooled_width,):
                return set()
            self._checked.add(of_frames)
        return {tuple(frame) for frame in np.load(of_frames, allow_pickle=False).tolist()}

    def has(self, image_key: str, windows: Array) -> bool:
        """Whether the rows of these windows are cached (see :class:`FeatureCache`)."""
        return {tuple(frame) for frame in self._frames(windows).tolist()} <= self._known(image_key)

    def fill(self, image_key: str, image: Array, windows: Array) -> None:
        """Compute and store the missing rows (see :class:`FeatureCache`)."""
        known = self._known(image_key)
        wanted = [frame for frame in self._frames(windows).tolist() if tuple(frame) not in known]
        if not wanted:
            return
        new = np.array(wanted, np.int32)
        cells = Cells(np.zeros(len(new), np.int64), new, np.arange(len(new)))
        rows = self.features.pool(self.features.maps(image), cells).to("cpu", torch.float16).numpy()
        of_frames, of_rows = self._entry(image_key)
        if known:
            new = np.concatenate([np.load(of_frames, allow_pickle=False), new])
            rows = np.concatenate([np.load(of_rows, allow_pickle=False)[: len(known)], rows])
        else:
            of_frames.unlink(missing_ok=True)  # those of damaged rows
        # Rows first: if the run stops between the two, rows without frames do no harm.
        save_array(of_rows, rows)
        save_array(of_frames, new)
        self._checked.add(of_frames)

    def load(self, image_key: str, image_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> WarpedWindows:
        """Load the rows of an image's windows (see :class:`FeatureCache`)."""
        after_image()
        of_frames, of_rows = (np.load(path, allow_pickle=False) for path in self._entry(image_key))
        stored = to_device(torch.from_numpy(of_rows), self.features.device)
        rows = dict(zip(map(tuple, of_frames.tolist()), stored, strict=False))
        return WarpedWindows(image_size, None, self.features.device, dtype, rows)


def feature_cache(folder: str | Path, features: Features[Any]) -> FeatureCache:
    """Create the cache for a kind of features, under a work folder."""
    if isinstance(features, WarpFeatures):
        return RowCache(Path(folder) / "rows", features)
    assert isinstance(features, WindowFeatures)
    return MapCache(Path(folder) / "maps", features)
