"""The detector: one pass over the image, then any number of windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from ...data.arrays import Array
from ...data.boxes import as_boxes, clip
from ...data.detections import Detections
from ...data.embedded import DEFAULT_MODEL
from ...data.errors import InputError
from ...data.image import as_image
from ...proposals.backends import make_proposer
from ..convolutions.backbone import Backbone
from ..head.compression import for_device
from ..head.head import Head
from ..options import FeatureOptions, Method
from ..windows.features import Cells, Features, WindowFeatures
from ..windows.warping import WarpFeatures
from .bundle import Bundle
from .postprocess import finish, log_odds

AnyDetector = TypeVar("AnyDetector", bound="Detector")


class Detector(ABC):
    """Scores the windows of an image, whatever their features are made of, and turns scores into detections.

    Parameters
    ----------
    bundle : Bundle
    device : str
        ``"cpu"`` or ``"cuda"``.

    Attributes
    ----------
    class_names : tuple of str
        What the labels of detections and the columns of scores stand for.
    card : dict
        Where the model comes from and how well it does.

    Raises
    ------
    InputError
        For a model of another method.
    """

    method: ClassVar[Method]

    def __init__(self, bundle: Bundle, device: str = "cpu"):
        if bundle.features.method != self.method:
            raise InputError(f"the model was trained with the method {bundle.features.method}, not {self.method}")
        self.bundle = bundle
        backbone = Backbone.from_state(bundle.backbone, bundle.layer, bundle.convolutions).to(device)
        head = for_device(Head.from_state(bundle.head), torch.device(device)) if bundle.head else None
        self.features = self._features(backbone, head)
        self.class_names = bundle.class_names
        self.card = bundle.card
        self._weights = bundle.score_weights.float().to(device)
        self._intercepts = bundle.score_intercepts.float().to(device)
        self._box_weights = None if bundle.box_weights is None else bundle.box_weights.float().to(device)
        self._box_intercepts = None if bundle.box_intercepts is None else bundle.box_intercepts.float().to(device)
        options = bundle.detection
        self._proposer = make_proposer(options.proposals, options.max_windows, seed=0)
        self._maps: Any = None

    @abstractmethod
    def _features(self, backbone: Backbone, head: Head | None) -> Features[Any]:
        """Where the features of windows come from."""

    @classmethod
    def load(cls: type[AnyDetector], model: str | Path = DEFAULT_MODEL, device: str = "cpu") -> AnyDetector:
        """The detector in a model file.

        Parameters
        ----------
        model : str or Path
            The name of a model that the package carries, or a file (see :func:`sppnet.data.embedded.find_model`).
        device : str
            ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        InputError
            When there is no such model, or the file is no model, or one of another method.
        """
        return cls(Bundle.load(model), device)

    def save(self, path: str | Path) -> None:
        """Write the model file that :meth:`load` reads."""
        self.bundle.save(path)

    @property
    def calibrated(self) -> bool:
        """Whether detections have probabilities."""
        return self.bundle.calibration is not None

    def propose(self, image: Array) -> Array:
        """The windows (N, 4) that :meth:`detect` looks at when it is given none, float32, best first."""
        return self._proposer(image)[: self.bundle.detection.max_windows]

    def set_image(self, image: Any) -> None:
        """Take the image whose windows are scored: a path, a PIL image, or RGB or grey uint8 (H, W[, 3]).

        Raises
        ------
        InputError
            When a file cannot be read.
        ValueError
            When an array has another shape or dtype.
        """
        self._maps = self.features.maps(as_image(image))

    def score_windows(self, windows: ArrayLike) -> Array:
        """Scores of windows on the image set last.

        Parameters
        ----------
        windows : array (N, 4)
            x1, y1, x2, y2 in pixels, 0-based, half-open.

        Returns
        -------
        float32 array (N, classes)

        Raises
        ------
        RuntimeError
            Before :meth:`set_image`.
        """
        maps = self._current()
        cells = self.features.locate(maps, as_boxes(windows))
        return self._scores(maps, cells)[cells.inverse]

    def detect(self, image: Any, threshold: float | None = None, windows: ArrayLike | None = None) -> Detections:
        """Objects in an image, the best first.

        Parameters
        ----------
        image : path, PIL image, or RGB or grey uint8 array
        threshold : float, optional
            Only detections whose probability is higher, from 0 to 1, or ``-np.inf`` for all; when absent that of each
            class with which the best F1 was reached on held-out images. A model without calibration compares it with
            scores, and has one score for all classes when it is absent.
        windows : array (N, 4), optional
            Windows to look at instead of the proposals, x1 y1 x2 y2, 0-based, half-open; cut to the image.

        Raises
        ------
        InputError
            When a file cannot be read.
        ValueError
            When an array has another shape or dtype, or the threshold is no probability though the model gives some.
        """
        pixels = as_image(image)
        looked_at = self.propose(pixels) if windows is None else clip(as_boxes(windows), *pixels.shape[:2])
        self.set_image(pixels)
        return self.detect_on(self._current(), looked_at, threshold)

    def detect_on(self, maps: Any, windows: Array, threshold: float | None = None) -> Detections:
        """Objects among ``windows`` (N, 4) on maps that are there already (see :meth:`detect`)."""
        options = self.bundle.detection
        cells = self.features.locate(maps, windows)
        scores = self._scores(maps, cells)[cells.inverse]
        level = self._threshold(threshold)

        def regress(boxes: Array, labels: Array) -> Array:
            moved = self.features.locate(maps, boxes)
            return self._deltas(maps, moved, moved.inverse, labels)

        regressor = None if self._box_weights is None else regress
        calibration = self.bundle.calibration
        return finish(windows, scores, maps.image_size, self.class_names, options, level, regressor, calibration)

    def _threshold(self, given: float | None) -> float | tuple[float, ...]:
        """What detections are compared with: one number, or one for each class."""
        calibration = self.bundle.calibration
        if calibration is None:
            return self.bundle.detection.show_above if given is None else given
        if given is None:
            return calibration.thresholds
        if not (0 <= given <= 1 or given == -np.inf):
            raise ValueError(f"the model gives probabilities: the threshold must be from 0 to 1, not {given:g}")
        return given

    def _scores(self, maps: Any, cells: Cells) -> Array:
        """Scores (U, classes) of distinct windows."""
        scores = self.features.scores(maps, cells, self._weights, self._intercepts)
        return log_odds(scores) if self.bundle.scorer == "softmax" else scores

    def _deltas(self, maps: Any, cells: Cells, rows: Array, labels: Array) -> Array:
        """Regression outputs (M, 4) of distinct windows ``rows`` (M,) for their classes."""
        assert self._box_weights is not None
        assert self._box_intercepts is not None
        wanted, place = np.unique(rows, return_inverse=True)
        deltas = np.empty((len(rows), 4), np.float32)
        with torch.inference_mode():
            pooled = self.features.pool(maps, cells[wanted])
            for label in np.unique(labels):
                here = np.flatnonzero(labels == label)
                chosen = pooled[torch.from_numpy(place.reshape(-1)[here]).to(pooled.device)]
                moved = torch.addmm(self._box_intercepts[label], chosen, self._box_weights[label])
                deltas[here] = moved.cpu().numpy()
        return deltas

    def _current(self) -> Any:
        if self._maps is None:
            raise RuntimeError("call set_image(image) before asking for scores")
        return self._maps


class SPPDetector(Detector):
    """SPP-net detection (paper, section 4): the convolutions run over the image, once.

    Make one with :meth:`load` or :func:`sppnet.train`. For one image with many sets
    of windows call :meth:`set_image` once and :meth:`score_windows` as often as you like.
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
    """R-CNN-style detection, used like an :class:`.detector.SPPDetector`: every window goes through the network.

    Hundreds of times the work of SPP-net, for comparison. Parameters and attributes are those of
    :class:`.detector.Detector`.

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
    """The features of windows that the options' method asks for."""
    return _FEATURES[options.method](backbone, options, head)


def detector_of(bundle: Bundle, device: str = "cpu") -> Detector:
    """The detector of a model's method."""
    return _DETECTORS[bundle.features.method](bundle, device)
