"""Training from photographs to a model file, in stages that can be stopped at any point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..data.errors import InputError
from ..data.image import image_size
from ..data.progress import log, track
from ..data.sample import Dataset, Sample
from ..data.store import content_key, file_key, write_json
from ..eval.voc_ap import evaluate_voc
from ..proposals.backends import Proposer, make_proposer
from ..proposals.cache import ProposalCache
from .backbone import Backbone
from .bbox import BoxRegressor, gram_matrix
from .bundle import Bundle
from .cache import Checkpoint, MapCache
from .config import BoxOptions, DetectOptions, FeatureOptions, SVMOptions, TrainOptions
from .features import WindowFeatures
from .mining import Miner
from .predictor import SPPDetector
from .sampling import TrainingImages, mean_norm, regression_windows

Array = NDArray[Any]

#: Part of every stage's key; raised when what a stage keeps or means changes.
STAGES = 1

#: Images between two checkpoints of the mining.
CHECKPOINT_EVERY = 200


@dataclass(frozen=True)
class _Split:
    """Order in which the images are visited: shuffled, the held-out ones last."""

    fit: tuple[int, ...]
    held_out: tuple[int, ...]

    @classmethod
    def make(cls, count: int, part: float, seed: int) -> _Split:
        order = np.random.default_rng([seed, count]).permutation(count).tolist()
        held_out = min(count - 1, round(count * part)) if count > 1 else 0
        return cls(tuple(order[: count - held_out]), tuple(order[count - held_out :]))


def train(
    dataset: Dataset,
    *,
    out: str | Path,
    backbone: str = "squeezenet1_1",
    weights: str | Path = "imagenet",
    layer: str | None = None,
    features: FeatureOptions | None = None,
    detection: DetectOptions | None = None,
    svm: SVMOptions | None = None,
    boxes: BoxOptions | None = None,
    options: TrainOptions | None = None,
    proposer: Proposer | None = None,
    work: str | Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> SPPDetector:
    """Train a detector and save it.

    Proposals and feature maps are kept under ``work`` by the content of the images, so
    that a run that was stopped goes on where it was and another run on more images
    computes only theirs. Part of the images is held out: the detector is scored on them
    (VOC07 AP, in the model's card) before they join the training.

    Parameters
    ----------
    dataset : Dataset
        Labelled photographs, e.g. :class:`sppnet.VOCDataset`.
    out : path
        The model file to write.
    backbone : str
        A torchvision classification network, or "zf5".
    weights : {"imagenet", "none"} or path
        Where the convolutions' weights come from.
    layer : str, optional
        The node whose map is pooled; the last one of stride 16 when absent.
    features, detection, svm, boxes, options : optional
        Options of the stages; defaults are the paper's.
    proposer : Proposer, optional
        Where the windows to learn from come from, e.g. :class:`sppnet.proposals.precomputed.PrecomputedBoxes`;
        the method that ``detection`` names when absent. (The trained detector proposes by ``detection``.)
    work : path, optional
        Folder of caches; ``out`` with ``.work`` added when absent.
    device : str
        ``"cpu"`` or ``"cuda"``.
    quiet : bool
        Say nothing on stderr.

    Returns
    -------
    SPPDetector

    Raises
    ------
    InputError
        For a dataset without images, a class without a positive, or weights that do not fit.
    """
    # Before anything is fetched or computed: the commonest mistake, a class name that the labels do not have.
    check_classes(list(dataset), dataset.class_names)
    run = _Run(
        dataset=dataset,
        features=WindowFeatures(
            Backbone(backbone, weights=weights, layer=layer, seed=(options or TrainOptions()).seed).to(device),
            features or FeatureOptions(),
        ),
        detection=detection or DetectOptions(),
        svm=svm or SVMOptions(),
        boxes=boxes or BoxOptions(),
        options=options or TrainOptions(),
        proposer=proposer or _proposer(detection or DetectOptions()),
        weights=str(weights),
        work=Path(work) if work is not None else Path(f"{out}.work"),
        quiet=quiet,
    )
    bundle = run.bundle()
    bundle.save(out)
    return SPPDetector(bundle, device)


def _proposer(options: DetectOptions) -> Proposer:
    return make_proposer(options.proposals, options.max_windows, seed=0)


@dataclass(frozen=True, eq=False)
class _Run:
    """One training run: its options and its stages, in the order in which they stand."""

    dataset: Dataset
    features: WindowFeatures
    detection: DetectOptions
    svm: SVMOptions
    boxes: BoxOptions
    options: TrainOptions
    proposer: Proposer
    weights: str
    work: Path
    quiet: bool

    def bundle(self) -> Bundle:
        """Run every stage that has not been done."""
        samples = list(self.dataset)
        images = self._images(samples)
        key = self._key(images)
        split = _Split.make(len(samples), self.options.held_out, self.options.seed)
        scale = self.options.norm / max(mean_norm(images, self.options.seed), 1e-12)
        miner = Miner(images, len(self.dataset.class_names), scale, self.svm, self.options.seed, self._log)
        partly = Checkpoint(self.work / "stages", "svm-fit", key)
        wholly = Checkpoint(self.work / "stages", "svm", key)
        scores = self.work / "stages" / f"held-out-{key}.json"
        # The second pass begins only when the scores of the held-out images are on disk: a miner that
        # has learnt from those images is never the one that is scored on them.
        if not (self._resume(miner, wholly) and scores.is_file()):
            self._resume(miner, partly)
            self._mine(miner, split.fit, 0, partly)
        regressors = self._regressors(images, split, scale, key)
        card = self._card(images)
        if split.held_out:
            if not scores.is_file():
                write_json(scores, self._score(images, split.held_out, self._assemble(miner, regressors[0], card)))
            card["held_out"] = json.loads(scores.read_text())
            self._mine(miner, split.held_out, len(split.fit), wholly)
        return self._show_what_is_likely(self._assemble(miner, regressors[1], card))

    @staticmethod
    def _show_what_is_likely(bundle: Bundle) -> Bundle:
        """The model with the threshold that was best on held-out images, if there were any and it found something."""
        threshold = bundle.card.get("held_out", {}).get("threshold")
        if threshold is None:
            return bundle
        return replace(bundle, detection=replace(bundle.detection, show_above=threshold))

    def _resume(self, miner: Miner, checkpoint: Checkpoint) -> bool:
        """Put the miner into the state that the checkpoint holds, if it holds one."""
        state = checkpoint.load()
        if state is not None:
            self._log(f"going on after {int(state['visited'])} images of the mining")
            miner.restore(state)
        return state is not None

    def _log(self, message: str) -> None:
        log(message, self.quiet)

    def _images(self, samples: Sequence[Sample]) -> TrainingImages:
        """Proposals and feature maps of all images, computed where they are not cached."""
        stored = ProposalCache(self.work / "proposals", self.proposer)
        maps = MapCache(self.work / "maps", self.features)
        keys = [file_key(sample.path) for sample in track(samples, "reading", quiet=self.quiet)]
        sizes = [image_size(sample.path) for sample in samples]
        proposals = [stored.get(sample.path) for sample in track(samples, "proposals", quiet=self.quiet)]
        for sample, key in track(list(zip(samples, keys, strict=True)), "feature maps", quiet=self.quiet):
            if maps.missing(key):
                maps.fill(key, sample.image)
        return TrainingImages(samples, keys, sizes, proposals, maps)

    def _key(self, images: TrainingImages) -> str:
        """What the trained parts depend on: images, labels, features, options."""
        labels = [
            [sample.boxes.tolist(), sample.labels.tolist(), sample.difficult.tolist()] for sample in images.samples
        ]
        options = [
            part.to_dict() for part in (self.features.options, self.detection, self.svm, self.boxes, self.options)
        ]
        proposals = [content_key(boxes.tobytes()) for boxes in images.proposals]
        return content_key(
            STAGES,
            images.image_keys,
            labels,
            list(self.dataset.class_names),
            proposals,
            images.cache.backbone_key,
            options,
        )

    def _mine(self, miner: Miner, order: Sequence[int], before: int, checkpoint: Checkpoint) -> None:
        """Add the images in ``order`` to the training; ``before`` of all images come earlier."""
        done = max(0, miner.visited - before)
        end = before + len(order)
        if miner.visited >= end:
            return
        if done == 0:
            miner.start(order)
            miner.fit()

        def keep(visited: int) -> None:
            if visited % CHECKPOINT_EVERY == 0 and visited < end:
                checkpoint.save(miner.state())

        miner.mine(track(order[done:], "hard negatives", quiet=self.quiet), keep)
        checkpoint.save(miner.state())

    def _regressors(self, images: TrainingImages, split: _Split, scale: float, key: str) -> list[list[Array]]:
        """Box regressors of all classes (weights and intercepts), first without, then with the held-out images."""
        classes = range(len(self.dataset.class_names))
        fitted: dict[bool, list[list[Array]]] = {False: [], True: []}
        for label in track(classes, "box regressors", quiet=self.quiet):
            checkpoint = Checkpoint(self.work / "stages", f"box{label}", key)
            arrays = checkpoint.load()
            if arrays is None:
                arrays = self._regressor(images, split, scale, label)
                checkpoint.save(arrays)
            for everything in (False, True):
                fitted[everything].append([arrays[f"weights{everything}"], arrays[f"intercept{everything}"]])
        return [[np.stack(part) for part in zip(*fitted[everything], strict=True)] for everything in (False, True)]

    def _regressor(self, images: TrainingImages, split: _Split, scale: float, label: int) -> dict[str, Array]:
        rows, deltas, owner = regression_windows(
            images, label, self.boxes.min_iou, self.boxes.max_windows, self.options.seed
        )
        gram = gram_matrix(rows)
        seen = ~np.isin(owner, split.held_out)
        arrays = {}
        for everything in (False, True):
            # A class that only held-out images show is regressed from them alone.
            used = np.ones(len(rows), bool) if everything or not seen.any() else seen
            machine = BoxRegressor(self.boxes, scale).fit(rows[used], deltas[used], gram[np.ix_(used, used)])
            arrays[f"weights{everything}"], arrays[f"intercept{everything}"] = machine.weights_, machine.intercept_
        return arrays

    def _assemble(self, miner: Miner, regressors: list[Array], card: dict[str, Any]) -> Bundle:
        weights, intercepts = miner.hyperplanes()
        box_weights, box_intercepts = regressors
        return Bundle(
            backbone=self.features.backbone.name,
            layer=self.features.backbone.layer,
            class_names=tuple(self.dataset.class_names),
            features=self.features.options,
            detection=self.detection,
            convolutions=self.features.backbone.state(),
            svm_weights=torch.from_numpy(weights),
            svm_intercepts=torch.from_numpy(intercepts),
            box_weights=torch.from_numpy(box_weights),
            box_intercepts=torch.from_numpy(box_intercepts),
            card=card,
        )

    def _score(self, images: TrainingImages, indices: Sequence[int], bundle: Bundle) -> dict[str, Any]:
        """VOC07 AP of each class on some images, and the threshold of the best F1."""
        detector = SPPDetector(bundle, str(self.features.device))
        found = [
            detector.detect_on(images.maps(i), images.proposals[i], threshold=-np.inf)
            for i in track(indices, "held-out images", quiet=self.quiet)
        ]
        result = evaluate_voc(found, [images.samples[i] for i in indices], bundle.class_names)
        return {
            "images": len(indices),
            "metric": "voc07",
            **result.to_dict("voc07"),
            "threshold": result.best_threshold(),
        }

    def _card(self, images: TrainingImages) -> dict[str, Any]:
        """Where the model comes from; no times, so that a run that was stopped and resumed makes the same file."""
        counts = np.bincount(
            np.concatenate([images.positives(i)[1] for i in range(len(images))]),
            minlength=len(self.dataset.class_names),
        )
        return {
            "version": __version__,
            "images": len(images),
            "objects": dict(zip(self.dataset.class_names, counts.tolist(), strict=True)),
            "weights": self.weights,
            "svm": self.svm.to_dict(),
            "boxes": self.boxes.to_dict(),
            "training": self.options.to_dict(),
        }


def check_classes(samples: Sequence[Sample], class_names: Sequence[str]) -> None:
    """Refuse, before any work is done, data from which some class cannot be learnt.

    Raises
    ------
    InputError
        Without images, without classes, or for classes without an object that is not difficult; it names them.
    """
    if not samples:
        raise InputError("the training set has no images")
    if not class_names:
        raise InputError("the training set has no labelled object")
    seen = {int(label) for sample in samples for label in sample.labels[~sample.difficult]}
    absent = [name for label, name in enumerate(class_names) if label not in seen]
    if absent:
        raise InputError(
            f"no object to learn from for {', '.join(absent)} in {len(samples)} images "
            "(objects marked difficult do not count); leave such classes out with --classes"
        )
