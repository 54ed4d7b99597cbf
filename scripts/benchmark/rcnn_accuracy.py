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
    """Pairs of models, one of each method, and the labelled images for scoring them.

    Raises
    ------
    InputError
        When a pair is not one of each method, classes differ, or the set has no objects to find.
    """

    def __init__(self, args: argparse.Namespace, device: str) -> None:
        import numpy as np

        from ...data.errors import InputError
        from ...detector.detection.bundle import Bundle
        from ...detector.detection.detector import detector_of

        self.bundles: dict[str, Bundle] = {}
        for pair in args.models:
            for path, (method, name) in zip(pair, METHODS.items(), strict=True):
                bundle = Bundle.load(path)
                if bundle.features.method != method:
                    raise InputError(f"{path}: a model of the method {bundle.features.method}; expected {method} here")
                self.bundles[name if len(args.models) == 1 else f"{name}, {path.stem}"] = bundle
        if len(self.bundles) < 2 * len(args.models):
            raise InputError("the models of --models must have different file names")
        self.class_names, *others = [bundle.class_names for bundle in self.bundles.values()]
        for names in others:
            if names != self.class_names:
                raise InputError(
                    f"the models of --models have different classes: {', '.join(self.class_names)}; {', '.join(names)}"
                )
        of_set = argparse.Namespace(**{**vars(args), "dataset": args.accuracy, "images": None})
        dataset = dataset_from(of_set, self.class_names)
        order = np.random.default_rng(args.seed).permutation(len(dataset))[: args.accuracy_images]
        self.samples: list[Sample] = [dataset[int(index)] for index in np.sort(order)]
        if not any((~sample.difficult).any() for sample in self.samples):
            raise InputError(f"{args.accuracy}: no object of {', '.join(self.class_names)} to find in the images taken")
        self.dtype: Precision = args.dtype
        self.quiet, self.set = args.quiet, f"{args.accuracy} {args.set}"
        self.detectors: dict[str, Detector] = {
            name: detector_of(bundle, device, self.dtype) for name, bundle in self.bundles.items()
        }

    def measure(self) -> dict[str, Any]:
        """Scores and training sets of all models; unreadable images are named and left out."""
        import numpy as np

        from ...data.errors import ImageError
        from ...data.progress import track, warn
        from ...eval.voc_ap import evaluate_voc

        found: dict[str, list[Any]] = {name: [] for name in self.detectors}
        propose = next(iter(self.detectors.values())).propose
        keys = {name: _maps_key(detector) for name, detector in self.detectors.items()}
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
            maps: dict[str, Any] = {}
            for name, detector in self.detectors.items():
                if keys[name] not in maps:
                    maps[keys[name]] = detector.maps(image)
                found[name].append(detector.detect_on(maps[keys[name]], windows, -np.inf))
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


def _maps_key(detector: Detector) -> str:
    """Key of the maps that a detector makes of an image."""
    from dataclasses import replace

    from ...data.store import content_key
    from ...detector.training.cache import fingerprint

    options = replace(detector.bundle.features, kind="pool5").to_dict()
    return content_key(fingerprint(detector.features.backbone), options)


def accuracy_table(result: dict[str, Any]) -> str:
    """Tables of AP, one for each metric with a row for each model."""
    from ...eval.report import text_table
    from ...eval.voc_ap import METRICS

    tables = [f"AP on {result['images']} images of {result['set']}, {result['dtype']}"]
    for metric, title in METRICS.items():
        rows = []
        for name, model in result["models"].items():
            about = [model["backbone"], model["features"]["features"], model["trained_on"]]
            rows.append([name, *about, *model[metric]["ap"].values(), model[metric]["map"]])
        classes = next(iter(result["models"].values()))[metric]["ap"]
        tables.append(text_table([title, "backbone", "features", "images learnt from", *classes, "mean"], rows))
    return "\n\n".join(tables)
