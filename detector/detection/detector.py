"""Detectors: one pass over the image, then scores for any number of windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.detections import Detections
from ...data.embedded import DEFAULT_MODEL
from ...data.errors import InputError
from ...proposals.backends import make_proposer
from ..convolutions.backbone import Backbone
from ..device import usable_device
from ..head.compression import for_device
from ..head.head import Head
from ..options import PRECISIONS, FeatureOptions, Method, Precision
from ..pooling.spp import gpu_kernels
from ..windows.features import FeatureMaps, Features, WindowFeatures, linear_scores
from ..windows.on_device import locate, pooled_chunks
from ..windows.on_device import scores as scores_on_device
from ..windows.warping import WarpFeatures
from .bundle import Bundle
from .interface import BaseDetector
from .on_device import Look, finish_on_device
from .on_device import log_odds as log_odds_on_device
from .postprocess import finish, judged, log_odds, ranked

AnyDetector = TypeVar("AnyDetector", bound="Detector")


class Detector(BaseDetector):
    """Score the windows of an image, for any kind of features, and turn scores into detections.

    Parameters
    ----------
    bundle : Bundle
    device : str or torch.device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    precision : {"float32", "bfloat16", "tf32"}
        Precision of the convolutions. bfloat16 halves their time on processors with instructions for it, takes longer
        on others, and moves scores and boxes a little. tf32, for CUDA devices, rounds the factors of products. It does
        not belong to the model: :meth:`save` leaves it out.

    Attributes
    ----------
    class_names : tuple of str
        Classes, in the order of detection labels and score columns.
    card : dict
        Origin and scores of the model.

    Raises
    ------
    InputError
        When the model has another method, its parts do not fit together, the device does not exist, or the precision is
        another one.
    """

    method: ClassVar[Method]

    def __init__(self, bundle: Bundle, device: str | torch.device = "cpu", precision: Precision = "float32"):
        if bundle.features.method != self.method:
            raise InputError(
                f"the model was trained with the method {bundle.features.method}, not {self.method}; "
                "sppnet.load() gives the right detector"
            )
        if precision not in PRECISIONS:
            raise InputError(f"the precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        self.bundle, self.class_names, self.card = bundle, bundle.class_names, bundle.card
        options = bundle.detection
        self._proposer = make_proposer(options.proposals, options.max_windows, seed=0)
        backbone = Backbone.from_state(bundle.backbone, bundle.layer, bundle.convolutions, bundle.stride)
        bundle.check_channels(backbone.channels)
        if precision != "float32":
            backbone = backbone.in_bfloat16() if precision == "bfloat16" else backbone.in_tf32()
        self._place(backbone, usable_device(device))

    def _place(self, backbone: Backbone, device: torch.device) -> None:
        """Move all weights to a device."""

        def placed(values: Tensor) -> Tensor:
            return values.float().to(device)

        bundle = self.bundle
        # From the model's weights, not the layers in use: their precision is the fastest one for the old device.
        head = for_device(Head.from_state(bundle.head), device) if bundle.head else None
        self.features = self._features(backbone.to(device), head)
        self._weights, self._intercepts = placed(bundle.score_weights), placed(bundle.score_intercepts)
        self._box_weights = None if bundle.box_weights is None else placed(bundle.box_weights)
        self._box_intercepts = None if bundle.box_intercepts is None else placed(bundle.box_intercepts)

    @abstractmethod
    def _features(self, backbone: Backbone, head: Head | None) -> Features[Any]:
        """Extractor of window features."""

    def sharing(self: AnyDetector, bundle: Bundle) -> AnyDetector:
        """A detector of another bundle with the same convolutions, which are not built again."""
        other = copy(self)
        other.bundle, other.class_names, other.card = bundle, bundle.class_names, bundle.card
        other._place(self.features.backbone, self.device)
        return other

    @classmethod
    def load(
        cls: type[AnyDetector],
        model: str | Path = DEFAULT_MODEL,
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
    ) -> AnyDetector:
        """Load a detector from a model file.

        Parameters
        ----------
        model : str or Path
            Name of a bundled model, or a file (see :func:`sppnet.data.embedded.find_model`).
        device : str or torch.device
            ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision : {"float32", "bfloat16", "tf32"}
            Precision of the convolutions (see the class).

        Raises
        ------
        InputError
            When the model or device does not exist, the file is no model or one of another method, or the precision is
            another one.
        """
        return cls(Bundle.load(model), device, precision)

    def save(self, path: str | Path) -> None:
        """Write the model file that :meth:`load` reads."""
        self.bundle.save(path)

    @property
    def calibrated(self) -> bool:
        """Whether detections have probabilities."""
        return self.bundle.calibration is not None

    @property
    def device(self) -> torch.device:
        """Device of the detector."""
        return self.features.device

    def _smaller_chunks(self) -> bool:
        return self.features.smaller_chunks()

    def _move(self, device: str | torch.device) -> None:
        place = usable_device(device)
        if place != self.device:
            self._place(self.features.backbone, place)

    def propose(self, image: Array) -> Array:
        """Windows that :meth:`detect` uses by default, float32 (N, 4), best first."""
        return self._proposer(image)[: self.bundle.detection.max_windows]

    def maps(self, image: Array) -> Any:
        """Feature maps of an RGB uint8 image (H, W, 3): :meth:`.features.Features.maps`."""
        return self.features.maps(image)

    def maps_of(self, images: Sequence[Array]) -> list[Any]:
        """Feature maps of several images: :meth:`.features.Features.maps_of`."""
        return self.features.maps_of(images)

    def score_on(self, maps: Any, windows: Array) -> Array:
        """Scores (N, classes) of windows (N, 4) on the result of :meth:`maps` (see :meth:`score_windows`)."""
        (scores,) = _scores_of_each([self], maps, windows)
        return np.asarray(scores.cpu())

    def detect_on(self, maps: Any, windows: Array, threshold: float | None = None) -> Detections:
        """Objects among windows (N, 4) on the result of :meth:`maps` (see :meth:`detect`)."""
        (found,) = detect_each([self], maps, windows, threshold)
        return found

    def _detections(self, maps: Any, windows: Array, scores: Tensor, threshold: float | None) -> Detections:
        """Objects among scored windows."""
        options = self.bundle.detection
        level = self._threshold(threshold)
        size, names, calibration = maps.image_size, self.class_names, self.bundle.calibration
        if self._stays_on_device:
            found = finish_on_device(windows, scores, size, names, options, self._look_on_device(maps))
            return ranked(judged(found, level, calibration))
        look = None if self._box_weights is None else partial(self._look, maps)
        return finish(windows, scores.numpy(), size, names, options, level, look, calibration)

    @property
    def _stays_on_device(self) -> bool:
        """Whether windows can stay on the device from their scores to the detections."""
        return isinstance(self.features, WindowFeatures) and gpu_kernels(self.device) is not None

    def _odds(self, logits: Tensor) -> Tensor:
        """Log-odds (N, classes) of logits (N, classes + 1), where they are."""
        return log_odds_on_device(logits) if self._stays_on_device else torch.from_numpy(log_odds(logits.numpy()))

    def _look_on_device(self, maps: FeatureMaps) -> Look | None:
        """Regression outputs and scores of all classes at boxes that are on the device; None without regressors."""
        assert isinstance(self.features, WindowFeatures)
        box_weights, box_intercepts = self._box_weights, self._box_intercepts
        if box_weights is None or box_intercepts is None:
            return None
        features = self.features
        classes, width, _ = box_weights.shape
        weights = box_weights.permute(1, 0, 2).reshape(width, 4 * classes)

        def look(boxes: Tensor) -> tuple[Tensor, Tensor]:
            deltas = torch.empty(len(boxes), classes, 4, device=boxes.device)
            scores = torch.empty(len(boxes), classes, device=boxes.device)
            for part, rows in pooled_chunks(features, maps, *locate(features, maps, boxes)):
                deltas[part] = (rows @ weights).reshape(-1, classes, 4) + box_intercepts
                linear = linear_scores(features.after_layers(rows), self._weights, self._intercepts)
                scores[part] = log_odds_on_device(linear) if self.bundle.scorer == "softmax" else linear
            return deltas, scores

        return torch.inference_mode()(look)

    def above(self, found: Detections, threshold: float | None = None) -> Detections:
        """Those of the detections with a lower threshold that :meth:`detect` gives with this one."""
        levels = np.broadcast_to(np.asarray(self._threshold(threshold), np.float32), len(self.class_names))
        values = found.probabilities if self.calibrated else found.scores
        return found[values > levels[found.labels]]

    def _threshold(self, given: float | None) -> float | tuple[float, ...]:
        """Threshold in use: one number, or one per class."""
        calibration = self.bundle.calibration
        if calibration is None:
            return self.bundle.detection.show_above if given is None else given
        if given is None:
            return calibration.thresholds
        if not (0 <= given <= 1 or given == -np.inf):
            raise ValueError(f"the model gives probabilities: the threshold must be from 0 to 1, not {given:g}")
        return given

    def _look(self, maps: Any, boxes: Array, labels: Array, scored: bool) -> tuple[Array, Array]:
        """Regression outputs (M, 4) and, if they are ``scored``, scores (M,) of boxes (M, 4) for their classes (M,)."""
        assert self._box_weights is not None
        assert self._box_intercepts is not None
        cells = self.features.locate(maps, boxes)
        deltas, scores = np.empty((len(boxes), 4), np.float32), np.zeros(len(boxes), np.float32)
        with torch.inference_mode():
            for part, pooled in self.features.pooled_chunks(maps, cells):
                here = np.flatnonzero((part.start <= cells.inverse) & (cells.inverse < part.stop))
                rows = cells.inverse[here] - part.start
                if scored:
                    linear = linear_scores(self.features.after_layers(pooled), self._weights, self._intercepts).cpu()
                    values = self._odds(linear) if self.bundle.scorer == "softmax" else linear
                    scores[here] = values.numpy()[rows, labels[here]]
                for label in np.unique(labels[here]):
                    own = labels[here] == label
                    chosen = pooled[torch.from_numpy(rows[own]).to(pooled.device)]
                    moved = torch.addmm(self._box_intercepts[label], chosen, self._box_weights[label])
                    deltas[here[own]] = moved.cpu().numpy()
        return deltas, scores


def detect_each(
    detectors: Sequence[Detector], maps: Any, windows: Array, threshold: float | None = None
) -> list[Detections]:
    """:meth:`Detector.detect_on` of detectors with the same features; windows (N, 4) are pooled once for all."""
    scores = _scores_of_each(detectors, maps, windows)
    return [one._detections(maps, windows, own, threshold) for one, own in zip(detectors, scores, strict=True)]


def _scores_of_each(detectors: Sequence[Detector], maps: Any, windows: Array) -> list[Tensor]:
    """Scores (N, classes) of windows (N, 4) by detectors with the same features: on the device, if they stay there."""
    features = detectors[0].features
    weights = torch.cat([one._weights for one in detectors])
    intercepts = torch.cat([one._intercepts for one in detectors])
    if detectors[0]._stays_on_device:
        assert isinstance(features, WindowFeatures)
        boxes = torch.from_numpy(windows).to(maps.device, non_blocking=True)
        scores = scores_on_device(features, maps, boxes, weights, intercepts)
    else:
        cells = features.locate(maps, windows)
        scores = features.scores(maps, cells, weights, intercepts).cpu()[torch.from_numpy(cells.inverse)]
    parts = scores.split([len(one._weights) for one in detectors], dim=1)
    return [
        (one._odds(part) if one.bundle.scorer == "softmax" else part).contiguous()
        for one, part in zip(detectors, parts, strict=True)
    ]


class SPPDetector(Detector):
    """SPP-net detector (paper, section 4): the convolutions run once over the whole image.

    Create one with :meth:`load` or :func:`sppnet.train`. For many sets of windows in one
    image call :meth:`set_image` once and :meth:`score_windows` as often as needed.
    Parameters and attributes are those of :class:`Detector`.

    Examples
    --------
    >>> detector = SPPDetector.load("animals")              # doctest: +SKIP
    >>> found = detector.detect("photo.jpg")                # doctest: +SKIP
    >>> found[found.scores > 0].save("photo.json")          # doctest: +SKIP
    """

    method = "spp"

    def _features(self, backbone: Backbone, head: Head | None) -> WindowFeatures:
        return WindowFeatures(backbone, self.bundle.features, head)


class WarpDetector(Detector):
    """R-CNN-style detector for comparison, used like :class:`.detector.SPPDetector`: the network runs on every window.

    It does hundreds of times the work of SPP-net. Parameters and attributes are those of :class:`.detector.Detector`.

    Examples
    --------
    >>> detector = WarpDetector.load("animals-warped.safetensors")      # doctest: +SKIP
    >>> found = detector.detect("photo.jpg")                            # doctest: +SKIP
    """

    method = "warp"

    def _features(self, backbone: Backbone, head: Head | None) -> WarpFeatures:
        return WarpFeatures(backbone, self.bundle.features, head)


_FEATURES: dict[str, type[Features[Any]]] = {"spp": WindowFeatures, "warp": WarpFeatures}

_DETECTORS: dict[str, type[Detector]] = {"spp": SPPDetector, "warp": WarpDetector}


def features_of(backbone: Backbone, options: FeatureOptions, head: Head | None = None) -> Features[Any]:
    """Create the window features of the options' method."""
    return _FEATURES[options.method](backbone, options, head)


def detector_of(bundle: Bundle, device: str | torch.device = "cpu", precision: Precision = "float32") -> Detector:
    """Create the detector for a model's method."""
    return _DETECTORS[bundle.features.method](bundle, device, precision)
