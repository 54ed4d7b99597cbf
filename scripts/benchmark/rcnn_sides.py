"""The two methods that ``sppnet benchmark rcnn`` compares, from a photograph to detections, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ...detector.windows.features import Planes, WindowFeatures
    from ...detector.windows.warping import WarpFeatures
    from ...eval.timing import StageTimer

#: First stages of both sides.
BEFORE = ("decoding", "proposals")

#: Stages that compute window features, and those that follow. Only R-CNN has warping.
FEATURES = ("warping", "convolutions", "pooling", "fc")
AFTER = ("SVMs", "NMS")

#: Sums of stages, by their names in tables.
TOTALS = {
    "features": FEATURES,
    "all without proposals": (BEFORE[0], *FEATURES, *AFTER),
    "all": (*BEFORE, *FEATURES, *AFTER),
}

#: Number of scored classes, as in VOC.
CLASSES = 20

#: Number of crops for choosing the batch size.
_TRIED_CROPS = {"cpu": 192, "cuda": 1024}
_BATCHES = {"cpu": (2, 4, 8, 16, 32, 64), "cuda": (32, 64, 128, 256, 512)}


def random_planes(width: int, seed: int, device: str) -> Planes:
    """Random linear classifiers of :data:`CLASSES` classes, for ``width`` features."""
    import torch

    from ...detector.windows.features import Planes

    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(CLASSES, width, generator=generator) / width**0.5
    return Planes(weights.to(device), torch.zeros(CLASSES, device=device))


@dataclass(frozen=True, eq=False)
class SPPSide:
    """SPP-net: convolutions on the whole image, then pooling, fc layers and SVMs for all windows."""

    name: str
    features: WindowFeatures
    planes: Planes

    def score(self, image: NDArray[Any], windows: NDArray[Any], timer: StageTimer) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the windows (N, 4) and their scores (N, classes), and time each stage."""
        import torch

        from ...detector.windows.features import linear_scores

        with timer.stage("convolutions"):
            maps = self.features.maps(image)
        with timer.stage("pooling"):
            cells = self.features.locate(maps, windows)
            chunks = self.features.pooled_chunks(self.features.for_layers(maps), cells)
        scores = torch.empty(len(cells), CLASSES)
        while True:
            with timer.stage("pooling"):
                chunk = next(chunks, None)
            if chunk is None:
                return windows, scores.numpy()[cells.inverse]
            part, rows = chunk
            rows = through_fc(self.features, rows, timer)
            with timer.stage("SVMs"), torch.inference_mode():
                scores[part] = linear_scores(rows, *self.planes)


@dataclass(frozen=True, eq=False)
class RCNNSide:
    """R-CNN: warping and convolutions of every window, then the same stages.

    At most ``sample`` windows are computed. They are drawn at random, because the best proposals are larger.
    """

    name: str
    features: WarpFeatures
    planes: Planes
    sample: int

    def score(self, image: NDArray[Any], windows: NDArray[Any], timer: StageTimer) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return a sample (n, 4) of the windows and its scores (n, classes), and time each stage."""
        import numpy as np
        import torch

        from ...detector.windows.features import linear_scores
        from ...detector.windows.warping import frames, warp

        features = self.features
        chosen = np.sort(np.random.default_rng(0).permutation(len(windows))[: self.sample])
        with timer.stage("warping"):
            pixels = features.backbone.preprocess(image)
            wanted = frames(windows[chosen], features.crop, features.options.context)
        scores = torch.empty(len(chosen), CLASSES)
        # Whole batches, with about as many rows for the fc layers as in SPP-net.
        chunk = -(-features.chunk // features.batch) * features.batch
        for start in range(0, len(wanted), chunk):
            part = slice(start, min(start + chunk, len(wanted)))
            pooled = []
            for first in range(part.start, part.stop, features.batch):
                with timer.stage("warping"):
                    crops = warp(pixels, wanted[first : min(first + features.batch, part.stop)], features.crop)
                with timer.stage("convolutions"), torch.inference_mode():
                    maps = features.backbone.maps(crops)
                with timer.stage("pooling"):
                    pooled.append(features.pool_maps(maps))
            with timer.stage("pooling"):
                rows = torch.cat(pooled)
            rows = through_fc(features, rows, timer)
            with timer.stage("SVMs"), torch.inference_mode():
                scores[part] = linear_scores(rows, *self.planes)
        return windows[chosen], scores.numpy()


Side = SPPSide | RCNNSide


def through_fc(features: WindowFeatures | WarpFeatures, rows: Tensor, timer: StageTimer) -> Tensor:
    """Run the fc layers, if any, on pooled rows."""
    import torch

    if features.options.kind == "pool5" or features.head is None:
        return rows
    with timer.stage("fc"), torch.inference_mode():
        return features.head.output(rows, features.options.kind)


def time_side(side: Side, image: NDArray[Any], windows: NDArray[Any], device: str) -> dict[str, float]:
    """Seconds of each stage from an image and its windows to detections.

    Times of a sample are scaled to all windows, except for NMS, whose time does not grow in proportion.
    """
    from ...detector.detection.postprocess import select
    from ...detector.options import RCNN_DETECTION
    from ...eval.timing import StageTimer

    timer = StageTimer(device)
    done, scores = side.score(image, windows, timer)
    seconds = {name: sum(times.seconds) * len(windows) / len(done) for name, times in timer.times().items()}
    options = RCNN_DETECTION
    scores = _realistic(scores, options.keep_above)
    timer.reset()
    with timer.stage("NMS"):
        select(done, scores, options.keep_above, options.nms, options.max_per_class)
    return seconds | {"NMS": timer.times()["NMS"].seconds[0]}


def _realistic(scores: NDArray[Any], keep_above: float) -> NDArray[Any]:
    """Shift the scores so that a tenth of the windows of each class passes the threshold, as with trained SVMs."""
    import numpy as np

    return np.asarray(scores - np.quantile(scores, 0.9, axis=0) + keep_above)


def best_batch(features: WarpFeatures) -> int:
    """Measure the fastest batch size for convolutions and pooling of crops."""
    import torch

    from ...detector.pooling.spp import pool_whole_maps
    from ...eval.timing import fastest, synchroniser

    device = features.device.type
    crops = torch.rand(_TRIED_CROPS[device], features.crop, features.crop, 3, device=device).permute(0, 3, 1, 2)

    def through(batch: int) -> None:
        with torch.inference_mode():
            for start in range(0, len(crops), batch):
                pool_whole_maps(features.backbone(crops[start : start + batch]), features.options.levels)

    return fastest(through, _BATCHES[device], 5, synchroniser(device))


def time_sides(
    sides: Sequence[Side],
    photographs: Iterable[Any],
    propose: Callable[[NDArray[Any]], NDArray[Any]],
    rounds: int,
    device: str,
) -> dict[str, list[dict[str, float]]]:
    """Seconds of every stage by side, for each photograph in each round, after an untimed warm-up round.

    The sides alternate on each photograph, so a slow minute of the machine affects all of them. Decoding and proposals
    are timed once for all sides.
    """
    from ...data.image import read_image

    seconds: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    paths = list(photographs)
    for number in range(rounds + 1):
        for path in paths:
            start = perf_counter()
            image = read_image(path)
            decoded = perf_counter()
            windows = propose(image)
            proposed = perf_counter()
            before = dict(zip(BEFORE, (decoded - start, proposed - decoded), strict=True))
            for side in sides:
                taken = before | time_side(side, image, windows, device)
                if number:
                    seconds[side.name].append(taken)
    return seconds
