"""Accuracy of R-CNN's warping against SPP-net's single pass: two trained models on the same images and windows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..datasets import dataset_from

if TYPE_CHECKING:
    from ...data.sample import Sample
    from ...detector.detection.bundle import Bundle
    from ...detector.detection.detector import Detector
    from ...detector.options import Precision

METHODS = {"spp": "SPP-net", "warp": "R-CNN"}


class Accuracy:
    """Two models and the labelled images for scoring them.

    Raises
    ------
    InputError
        When the models are not one of each method with the same classes, or the set has no objects to find.
    """

    def __init__(self, args: argparse.Namespace, device: str) -> None:
        import numpy as np

        from ...data.errors import InputError
        from ...detector.detection.bundle import Bundle
        from ...detector.detection.detector import detector_of

        bundles = [Bundle.load(path) for path in args.models]
        for path, bundle, method in zip(args.models, bundles, METHODS, strict=True):
            if bundle.features.method != method:
                raise InputError(f"{path}: a model of the method {bundle.features.method}; expected {method} here")
        names = [bundle.class_names for bundle in bundles]
        if names[0] != names[1]:
            raise InputError(
                f"the models of --models have different classes: {', '.join(names[0])}; {', '.join(names[1])}"
            )
        of_set = argparse.Namespace(**{**vars(args), "dataset": args.accuracy, "images": None})
        dataset = dataset_from(of_set, names[0])
        order = np.random.default_rng(args.seed).permutation(len(dataset))[: args.accuracy_images]
        self.samples: list[Sample] = [dataset[int(index)] for index in np.sort(order)]
        if not any((~sample.difficult).any() for sample in self.samples):
            raise InputError(f"{args.accuracy}: no object of {', '.join(names[0])} to find in the images taken")
        self.dtype: Precision = args.dtype
        self.class_names, self.quiet, self.set = names[0], args.quiet, f"{args.accuracy} {args.set}"
        self.bundles: dict[str, Bundle] = dict(zip(METHODS.values(), bundles, strict=True))
        self.detectors: dict[str, Detector] = {
            name: detector_of(bundle, device, self.dtype) for name, bundle in self.bundles.items()
        }

    def measure(self) -> dict[str, Any]:
        """Scores and training sets of both models; unreadable images are named and left out."""
        import numpy as np

        from ...data.errors import ImageError
        from ...data.progress import track, warn
        from ...eval.voc_ap import evaluate_voc

        found: dict[str, list[Any]] = {name: [] for name in self.detectors}
        propose = next(iter(self.detectors.values())).propose
        read: list[Sample] = []
        failed: list[str] = []
        for sample in track(self.samples, "scoring both methods", quiet=self.quiet):
            try:
                image = sample.image
            except ImageError as error:
                warn(f"sppnet: {error}")
                failed.append(str(sample.path))
                continue
            read.append(sample)
            windows = propose(image)
            for name, detector in self.detectors.items():
                found[name].append(detector.detect(image, -np.inf, windows))
        models = {}
        for name, detections in found.items():
            scores = evaluate_voc(detections, read, self.class_names)
            card = self.bundles[name].card
            models[name] = {
                "voc07": scores.to_dict("voc07"),
                "voc": scores.to_dict("voc"),
                "backbone": self.bundles[name].backbone,
                "features": self.bundles[name].features.to_dict(),
                "trained_on": card.get("images"),
            }
        return {"set": self.set, "images": len(read), "dtype": self.dtype, "models": models, "failed": failed}


def accuracy_table(result: dict[str, Any]) -> str:
    """Table of AP of each class and the means, side by side."""
    from ...eval.report import text_table
    from ...eval.voc_ap import METRICS

    models = result["models"]
    columns = [(name, metric) for metric in METRICS for name in models]
    classes = next(iter(models.values()))["voc07"]["ap"]
    rows = [[label, *(models[name][metric]["ap"][label] for name, metric in columns)] for label in classes]
    rows.append(["mean", *(models[name][metric]["map"] for name, metric in columns)])
    trained = "; ".join(
        f"{name}: {model['backbone']}, {model['features']['features']}, trained on {model['trained_on']} images"
        for name, model in models.items()
    )
    header = ["class", *(f"{name}, {METRICS[metric]}" for name, metric in columns)]
    return (
        f"AP on {result['images']} images of {result['set']} ({result['dtype']}; {trained})\n{text_table(header, rows)}"
    )
