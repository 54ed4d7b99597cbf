"""sppnet: the SPP-net detector of He et al. (ECCV 2014), from photographs to boxes.

The public names are loaded when they are first used, so ``import sppnet`` costs
nothing and needs neither torch nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Augmentation": ".detector.descent.options",
    "BoxOptions": ".detector.options",
    "COCODataset": ".data.coco",
    "ClassifierOptions": ".detector.classification.options",
    "CombinedDetector": ".detector.detection.combination",
    "Compression": ".detector.options",
    "DetectOptions": ".detector.options",
    "Detections": ".data.detections",
    "FeatureOptions": ".detector.options",
    "FineTuneOptions": ".detector.options",
    "FolderDataset": ".data.folder",
    "InputError": ".data.errors",
    "LearnOptions": ".detector.descent.options",
    "SPPClassifier": ".detector.classification.network",
    "SPPDetector": ".detector.detection.detector",
    "SVMOptions": ".detector.options",
    "SlidingWindowPyramidPooling": ".detector.pooling.spp",
    "SpatialPyramidPooling": ".detector.pooling.spp",
    "TrainOptions": ".detector.options",
    "TrainPlan": ".detector.training.plan",
    "VOCDataset": ".data.voc",
    "WarpDetector": ".detector.detection.detector",
    "load": ".detector.load",
    "open_dataset": ".data.open",
    "open_labelled": ".data.labelled_sources",
    "read_image": ".data.image",
    "selective_search": ".proposals.selective_search",
    "spp_pool": ".detector.pooling.spp",
    "train": ".detector.training.train",
    "train_classifier": ".detector.classification.train",
}

__all__ = [*_HOME, "__version__"]

# What editors and type checkers read in the place of the table, which they cannot follow.
if TYPE_CHECKING:
    from .data.coco import COCODataset as COCODataset
    from .data.detections import Detections as Detections
    from .data.errors import InputError as InputError
    from .data.folder import FolderDataset as FolderDataset
    from .data.image import read_image as read_image
    from .data.labelled_sources import open_labelled as open_labelled
    from .data.open import open_dataset as open_dataset
    from .data.voc import VOCDataset as VOCDataset
    from .detector.classification.network import SPPClassifier as SPPClassifier
    from .detector.classification.options import ClassifierOptions as ClassifierOptions
    from .detector.classification.train import train_classifier as train_classifier
    from .detector.descent.options import Augmentation as Augmentation
    from .detector.descent.options import LearnOptions as LearnOptions
    from .detector.detection.combination import CombinedDetector as CombinedDetector
    from .detector.detection.detector import SPPDetector as SPPDetector
    from .detector.detection.detector import WarpDetector as WarpDetector
    from .detector.load import load as load
    from .detector.options import BoxOptions as BoxOptions
    from .detector.options import Compression as Compression
    from .detector.options import DetectOptions as DetectOptions
    from .detector.options import FeatureOptions as FeatureOptions
    from .detector.options import FineTuneOptions as FineTuneOptions
    from .detector.options import SVMOptions as SVMOptions
    from .detector.options import TrainOptions as TrainOptions
    from .detector.pooling.spp import SlidingWindowPyramidPooling as SlidingWindowPyramidPooling
    from .detector.pooling.spp import SpatialPyramidPooling as SpatialPyramidPooling
    from .detector.pooling.spp import spp_pool as spp_pool
    from .detector.training.plan import TrainPlan as TrainPlan
    from .detector.training.train import train as train
    from .proposals.selective_search import selective_search as selective_search
else:
    # Out of a type checker's sight: it would take every misspelt name for one of these.
    def __getattr__(name: str) -> Any:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module 'sppnet' has no attribute {name!r}; it has {', '.join(__all__)}")
        return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
