"""Detectors that have learnt nothing: their SVMs and box regressors are random."""

import torch
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.options import DetectOptions, FeatureOptions
from sppnet.detector.windows.features import WindowFeatures

CLASSES = ("box", "disc", "star", "triangle")


def random_model(class_names=CLASSES, features=None, seed=0, windows=60, boxes=None, **fields):
    """A model on features of windows (at one small scale when absent) whose scores spread around 0.

    ``boxes`` is the standard deviation of regressors' weights; without it there are no regressors. ``fields`` are
    other fields of the bundle.
    """
    features = features or WindowFeatures(Backbone("squeezenet1_1"), FeatureOptions(scales=(128,), levels=(1, 2)))
    generator, classes, width = torch.Generator().manual_seed(seed), len(class_names), features.width
    made = {
        "backbone": features.backbone.name,
        "layer": features.backbone.layer,
        "stride": features.backbone.stride,
        "class_names": tuple(class_names),
        "features": features.options,
        "detection": DetectOptions(max_windows=windows),
        "convolutions": features.backbone.state(),
        "score_weights": torch.randn(classes, width, generator=generator) / width**0.5,
        "score_intercepts": torch.zeros(classes),
    }
    if boxes is not None:
        made["box_weights"] = boxes * torch.randn(classes, width, 4, generator=generator)
        made["box_intercepts"] = torch.zeros(classes, 4)
    return Bundle(**made | fields)
