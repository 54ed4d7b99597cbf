"""sppnet: the SPP-net detector of He et al. (ECCV 2014), from photographs to boxes.

The public names are loaded when they are first used, so ``import sppnet`` costs
nothing and needs neither torch nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "COCODataset": ".data.coco",
    "CombinedDetector": ".detector.detection.combination",
    "Detections": ".data.detections",
    "FolderDataset": ".data.folder",
    "InputError": ".data.errors",
    "SPPClassifier": ".detector.classification.network",
    "SPPDetector": ".detector.detection.detector",
    "VOCDataset": ".data.voc",
    "WarpDetector": ".detector.detection.detector",
    "open_labelled": ".data.labelled_sources",
    "read_image": ".data.image",
    "selective_search": ".proposals.selective_search",
    "spp_pool": ".detector.pooling.spp",
    "train": ".detector.training.train",
    "train_classifier": ".detector.classification.train",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'sppnet' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
