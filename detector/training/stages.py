"""Stages of a training run; each can resume from its own checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.progress import log, track
from ...data.store import Checkpoint, content_key, write_text
from ...eval.figures import save_figure
from ..descent.curves import history_table, loss_chart
from ..head.head import Head
from ..learners.gram import gram_matrix
from ..learners.ridge import BoxRegressor
from ..options import BoxOptions, FineTuneOptions, SVMOptions, TrainOptions
from ..windows.features import Features, Planes
from .finetune import FineTuner
from .mining import Miner, hyperplanes
from .sampling import TrainingImages, mean_norm, regression_windows

#: Part of every stage's key; increase it when the content or meaning of a checkpoint changes.
STAGES = 2

#: Part of the key of fine-tuning; increase it when its checkpoint changes.
FINE_TUNING = 2

#: Images between two checkpoints of hard-negative mining.
CHECKPOINT_EVERY = 200

#: Weights (classes, width, 4) and intercepts (classes, 4) of box regressors.
Regressors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Split:
    """Order of the images: shuffled, the held-out ones last."""

    learnt: tuple[int, ...]
    held_out: tuple[int, ...]

    @classmethod
    def make(cls, count: int, part: float, seed: int) -> Split:
        """Split ``count`` images; a share ``part`` is held out, but never all."""
        order = np.random.default_rng([seed, count]).permutation(count).tolist()
        held_out = min(count - 1, round(count * part)) if count > 1 else 0
        return cls(tuple(order[: count - held_out]), tuple(order[count - held_out :]))


class Stages:
    """Training stages on one set of images; the result of each is stored on disk under its own key.

    Parameters
    ----------
    images : TrainingImages
        With pooled features.
    class_names : sequence of str
    options : TrainOptions
    folder : path
        Folder of the checkpoints.
    quiet : bool
        No progress bars, and only warnings to the logger ``sppnet``.

    Attributes
    ----------
    split : Split
        Which images are held out.
    scale : float
        Factor on pooled features that gives them the mean norm of ``options``.
    """

    def __init__(
        self, images: TrainingImages, class_names: Sequence[str], options: TrainOptions, folder: Path, quiet: bool
    ):
        self.images, self.class_names, self.options = images, tuple(class_names), options
        self.folder, self.quiet = folder, quiet
        self.split = Split.make(len(images), options.held_out, options.seed)
        self.scale = self._scale(images)
        samples = images.samples
        self._key = content_key(
            STAGES,
            images.image_keys,
            [[sample.boxes.tolist(), sample.labels.tolist(), sample.difficult.tolist()] for sample in samples],
            self.class_names,
            [content_key(boxes.tobytes()) for boxes in images.proposals],
            images.cache.backbone_key,
            images.features.options.to_dict(),
            options.to_dict(),
        )

    def key(self, *parts: Any) -> str:
        """Key of the images, their labels and features, and of ``parts``, JSON-like."""
        return content_key(self._key, *parts)

    def _scale(self, images: TrainingImages) -> float:
        return self.options.norm / max(mean_norm(images, self.options.seed), 1e-12)

    def _log(self, message: str) -> None:
        log(message, self.quiet)

    def fine_tuned(self, start: Head, options: FineTuneOptions) -> Head:
        """Fine-tune the head ``start``; loss curves are written to the folder as SVG and CSV."""
        if options.epochs == 0:
            return start.eval()
        key = self.key("fine-tuning", FINE_TUNING, head_key(start), options.to_dict())
        split, seed = self.split, self.options.seed
        tuner = FineTuner(self.images, split.learnt, split.held_out, start, options, seed, self._log)
        curves = self.folder / f"fine-tuning-{key}.svg"

        def draw() -> None:
            chart = loss_chart(tuner.history, "Fine-tuning", "cross-entropy", training="training, with dropout")
            save_figure(curves, chart)
            write_text(curves.with_suffix(".csv"), history_table(tuner.history))

        tuner.run_resumably(self.folder, "fine-tuning", key, draw, self.quiet)
        self._log(f"loss curves: {curves} and .csv")
        return tuner.network

    def svms(self, features: Features[Any], options: SVMOptions, everything: bool) -> Planes:
        """Train SVMs with hard-negative mining on all images (``everything``) or without the held-out ones."""
        key = self.key("svm", features.options.to_dict(), head_key(features.head), options.to_dict())
        wholly = Checkpoint(self.folder, "svm", key)
        partly = Checkpoint(self.folder, "svm-fit", key)
        images = self.images.seen_through(features)
        scale = self._scale(images)
        fit, held_out = self.split.learnt, self.split.held_out
        checkpoint, wanted = (wholly, len(fit) + len(held_out)) if everything else (partly, len(fit))
        state = checkpoint.load()
        if state is None or int(state["visited"]) < wanted:
            if everything:
                # Training on all images continues from here; the result without the held-out images is kept too.
                self.svms(features, options, everything=False)
            miner = Miner(images, len(self.class_names), scale, options, self.options.seed, self._log)
            state = state or (partly.load() if everything else None)
            if state is not None:
                miner.restore(state)
                self._log(f"resuming hard-negative mining after {miner.visited} images")
            self._mine(miner, held_out if everything else fit, len(fit) if everything else 0, checkpoint)
            state = miner.state()
        weights, intercepts = hyperplanes(state, len(self.class_names), scale, options.bias)
        return Planes(torch.from_numpy(weights), torch.from_numpy(intercepts))

    def _mine(self, miner: Miner, order: Sequence[int], before: int, checkpoint: Checkpoint) -> None:
        """Mine the images in ``order``; ``before`` images were mined earlier."""
        done = max(0, miner.visited - before)
        end = before + len(order)
        if done == 0:
            miner.start(order)
            miner.fit()

        def keep(visited: int) -> None:
            if visited % CHECKPOINT_EVERY == 0 and visited < end:
                checkpoint.save(miner.state())

        miner.mine(track(order[done:], "hard negatives", quiet=self.quiet), keep)
        checkpoint.save(miner.state())

    def regressors(self, options: BoxOptions) -> tuple[Regressors, Regressors]:
        """Train box regressors of all classes; return those without, then those with the held-out images."""
        key = self.key("boxes", options.to_dict())
        fitted: dict[bool, list[tuple[Array, Array]]] = {False: [], True: []}
        for label in track(range(len(self.class_names)), "box regressors", quiet=self.quiet):
            checkpoint = Checkpoint(self.folder, f"box{label}", key)
            arrays = checkpoint.load()
            if arrays is None:
                arrays = self._regressor(label, options)
                checkpoint.save(arrays)
            for everything in (False, True):
                fitted[everything].append((arrays[f"weights{everything}"], arrays[f"intercept{everything}"]))
        without, all_of_them = (
            tuple(torch.from_numpy(np.stack(part)) for part in zip(*fitted[everything], strict=True))
            for everything in (False, True)
        )
        return (without[0], without[1]), (all_of_them[0], all_of_them[1])

    def _regressor(self, label: int, options: BoxOptions) -> dict[str, Array]:
        rows, deltas, owner = regression_windows(
            self.images, label, options.min_iou, options.max_windows, self.options.seed
        )
        gram = gram_matrix(rows)
        seen = ~np.isin(owner, self.split.held_out)
        arrays = {}
        for everything in (False, True):
            # A class that only held-out images show is trained on them alone.
            used = np.ones(len(rows), bool) if everything or not seen.any() else seen
            machine = BoxRegressor(options, self.scale).fit(rows[used], deltas[used], gram[np.ix_(used, used)])
            arrays[f"weights{everything}"], arrays[f"intercept{everything}"] = machine.weights_, machine.intercept_
        return arrays


def head_key(head: Head | None) -> str:
    """Key of a head's weights."""
    if head is None:
        return ""
    state = head.state()
    # Convert to float32: numpy has no bfloat16.
    return content_key(*(part for name in sorted(state) for part in (name, state[name].float().numpy().tobytes())))
