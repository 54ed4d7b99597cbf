"""The two methods, SPP-net's and R-CNN's, by the name that options and model files have for them."""

from __future__ import annotations

from typing import Any

from .backbone import Backbone
from .bundle import Bundle
from .config import FeatureOptions
from .features import Features, WindowFeatures
from .head import Head
from .predictor import Detector, SPPDetector
from .warp import WarpDetector, WarpFeatures

_FEATURES: dict[str, type[Features[Any]]] = {"spp": WindowFeatures, "warp": WarpFeatures}
_DETECTORS: dict[str, type[Detector]] = {"spp": SPPDetector, "warp": WarpDetector}


def features_of(backbone: Backbone, options: FeatureOptions, head: Head | None = None) -> Features[Any]:
    """The features of windows that the options' method asks for."""
    return _FEATURES[options.method](backbone, options, head)


def detector_of(bundle: Bundle, device: str = "cpu") -> Detector:
    """The detector of a model's method."""
    return _DETECTORS[bundle.features.method](bundle, device)
