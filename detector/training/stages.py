"""Stages of a training run; each can resume from its own checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...data.arrays import Array
from ...data.cores import cpu_count
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
from .images import TrainingImages
from .mining import Miner
from .rounds import mine_in_rounds
from .sampling import mean_norm, regression_windows
from .split import Split

#: Part of every stage's key; increase it when the content or meaning of a checkpoint changes.
STAGES = 6

#: Part of the key of fine-tuning; increase it when its checkpoint changes.
FINE_TUNING = 4

#: Images between two checkpoints of hard-negative mining.
CHECKPOINT_EVERY = 200

#: Weights (classes, width, 4) and intercepts (classes, 4) of box regressors.
Regressors = tuple[Tensor, Tensor]

#: Groups of images, by their indices.
Groups = Sequence[Sequence[int]]


class Stages:
    """Training stages on one set of images; the result of each is stored on disk under its own key.

    Parameters
    ----------
    images : TrainingImages
        With pooled features.
    class_names : sequence of str
    options : TrainOptions
    split : Split
    folder : path
        Folder of the checkpoints.
    quiet : bool
        No progress bars, and only warnings to the logger ``sppnet``.

    Attributes
    ----------
    scale : float
        Factor on pooled features that gives them the mean norm of ``options``.
    """

    def __init__(
        self,
        images: TrainingImages,
        class_names: Sequence[str],
        options: TrainOptions,
        split: Split,
        folder: Path,
        quiet: bool,
    ):
        self.images, self.class_names, self.options = images, tuple(class_names), options
        self.split, self.folder, self.quiet = split, folder, quiet
        self.scale = self._scale(images)
        # What SVMs and regressors learn from. In the split and its parts a photograph includes its mirror image.
        self._learnt = images.with_mirrors() if options.mirror else images
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
            [split.order, split.parts],
        )

    def key(self, *parts: Any) -> str:
        """Key of the images, their labels and features, and of ``parts``, JSON-like."""
        return content_key(self._key, *parts)

    def _scale(self, images: TrainingImages) -> float:
        return self.options.norm / max(mean_norm(images, self.options.seed), 1e-12)

    def _log(self, message: str) -> None:
        log(message, self.quiet)

    def fine_tuned(
        self, start: Head, options: FineTuneOptions, learnt: Sequence[int], held_out: Sequence[int] = ()
    ) -> Head:
        """Fine-tune the head ``start`` on the images ``learnt``; loss curves are written to the folder as SVG and CSV.

        The head is that of the epoch with the lowest loss on the images ``held_out``, or of the last one without any.
        """
        if options.epochs == 0:
            return start.eval()
        key = self.key("fine-tuning", FINE_TUNING, head_key(start), options.to_dict(), learnt, held_out)
        tuner = FineTuner(self.images, learnt, held_out, start, options, self.options.seed, self._log)
        curves = self.folder / f"fine-tuning-{key}.svg"

        def draw() -> None:
            chart = loss_chart(tuner.history, "Fine-tuning", "cross-entropy", training="training, with dropout")
            save_figure(curves, chart)
            write_text(curves.with_suffix(".csv"), history_table(tuner.history))

        tuner.run_resumably(self.folder, "fine-tuning", key, draw, self.quiet)
        self._log(f"loss curves: {curves} and .csv")
        return tuner.network

    def miner(self, features: Features[Any], options: SVMOptions, unseen: Sequence[int] = ()) -> Miner:
        """A miner that has collected the windows of all images but ``unseen``; goes on with a run that was stopped.

        It has the C and ``positive_weight`` of :class:`.options.SVMOptions`, whatever ``options`` say: so all values
        can be tried on the same hard negatives. A larger C fits the windows closer and finds fewer of them hard.
        """
        options = replace(options, C=SVMOptions.C, positive_weight=SVMOptions.positive_weight)
        images, order = self._learnt.seen_through(features), self._order(unseen)
        scale = self._scale(self.images.seen_through(features))
        miner = Miner(images, len(self.class_names), scale, options, self.options.seed, self._log)
        checkpoint = Checkpoint(self.folder, "svm", self._svm_key(features, options, unseen))
        shapes: dict[str, tuple[int | None, ...]] = {"origin": (None, miner.origin.shape[1]), "visited": ()}
        for label, machine in enumerate(miner.machines):
            shapes |= {f"{name}{label}": (None,) for name in ("members", "signs", "alpha")}
            shapes |= {f"weights{label}": machine.weights_.shape, f"fresh{label}": ()}
        state = checkpoint.load(shapes)
        if state is not None:
            miner.restore(state)
        in_rounds = images.visit is not None
        if miner.visited < len(order) or (in_rounds and not miner.complete):
            if miner.visited:
                self._log(f"resuming hard-negative mining after {miner.visited} images")
            if in_rounds:
                mine_in_rounds(miner, order, lambda: checkpoint.save(miner.state()), self._log)
            else:
                self._mine(miner, order, checkpoint)
        return miner

    def svms(
        self, features: Features[Any], options: SVMOptions, left_out: Groups = (), unseen: Sequence[int] = ()
    ) -> list[Planes]:
        """Train SVMs with hard-negative mining on all images but ``unseen``, and solve them again without some images.

        Returns those of all images, then those without each of the groups of images ``left_out``. All have the same
        hard negatives, but for the windows of these images. So no window is pooled twice.
        """
        key = content_key(self._svm_key(features, options, unseen), left_out)
        checkpoint = Checkpoint(self.folder, "svm-parts", key)
        shapes: dict[str, tuple[int, ...]] = {}
        for number in range(1 + len(left_out)):
            shapes[f"weights{number}"] = (len(self.class_names), features.width)
            shapes[f"intercepts{number}"] = (len(self.class_names),)
        arrays = checkpoint.load(shapes)
        if arrays is None:
            miner = self.miner(features, options, unseen)
            groups = track([(), *left_out], "SVMs, without each part", quiet=self.quiet)
            planes = [miner.without(group, options) for group in groups]
            arrays = {f"weights{number}": weights for number, (weights, _) in enumerate(planes)}
            arrays |= {f"intercepts{number}": intercepts for number, (_, intercepts) in enumerate(planes)}
            checkpoint.save(arrays)
        return [
            Planes(torch.from_numpy(arrays[f"weights{number}"]), torch.from_numpy(arrays[f"intercepts{number}"]))
            for number in range(1 + len(left_out))
        ]

    def _order(self, unseen: Sequence[int]) -> tuple[int, ...]:
        """Images but ``unseen``, in the order in which hard negatives are collected; mirror images come last."""
        order = tuple(index for index in self.split.order if index not in set(unseen))
        return (*order, *(index + len(self.images) for index in order)) if self.options.mirror else order

    def _svm_key(self, features: Features[Any], options: SVMOptions, unseen: Sequence[int]) -> str:
        # Rounds find other hard negatives than one pass.
        how = [] if self._learnt.visit is None else ["in rounds"]
        return self.key("svm", *how, features.options.to_dict(), head_key(features.head), options.to_dict(), unseen)

    def _mine(self, miner: Miner, order: Sequence[int], checkpoint: Checkpoint) -> None:
        """Mine the images in ``order``, or those of them that are left."""
        done = miner.visited
        if done == 0:
            miner.start(order)
            miner.fit()

        def keep(visited: int) -> None:
            if visited % CHECKPOINT_EVERY == 0 and visited < len(order):
                checkpoint.save(miner.state())

        miner.mine(track(order[done:], "hard negatives", quiet=self.quiet), keep)
        checkpoint.save(miner.state())

    def regressors(self, options: BoxOptions, left_out: Groups = ()) -> list[Regressors]:
        """Train box regressors of all classes: on all images, then without each of the groups ``left_out``."""
        return self.regressors_of([(options, left_out)])[0]

    def regressors_of(self, wanted: Sequence[tuple[BoxOptions, Groups]]) -> list[list[Regressors]]:
        """:meth:`regressors` for several options and groups; windows that some of them share are pooled once."""
        keys = [self.key("boxes", options.to_dict(), left_out) for options, left_out in wanted]
        classes: list[list[tuple[Tensor, Tensor]]] = [[] for _ in wanted]
        for label in track(range(len(self.class_names)), "box regressors", quiet=self.quiet):
            learn = cache(lambda *windows, label=label: self._regression(label, *windows))
            for number, (options, left_out) in enumerate(wanted):
                checkpoint = Checkpoint(self.folder, f"box{label}", keys[number])
                count, width = 1 + len(left_out), self.images.features.pooled_width
                arrays = checkpoint.load({"weights": (count, width, 4), "intercepts": (count, 4)})
                if arrays is None:
                    windows = learn(options.min_iou, options.max_windows)
                    arrays = self._regressor(options, left_out, *windows)
                    checkpoint.save(arrays)
                classes[number].append((torch.from_numpy(arrays["weights"]), torch.from_numpy(arrays["intercepts"])))
        stacked = [[torch.stack(part, dim=1) for part in zip(*of_all, strict=True)] for of_all in classes]
        return [list(zip(weights, intercepts, strict=True)) for weights, intercepts in stacked]

    def _regression(self, label: int, min_iou: float, max_windows: int) -> tuple[Array, Array, Array, Array]:
        """:func:`.sampling.regression_windows` of one class, and the inner products of its rows."""
        rows, deltas, owner = regression_windows(self._learnt, label, min_iou, max_windows, self.options.seed)
        return rows, deltas, owner, gram_matrix(rows)

    def _regressor(
        self, options: BoxOptions, left_out: Groups, rows: Array, deltas: Array, owner: Array, gram: Array
    ) -> dict[str, Array]:
        """Weights (1 + groups, width, 4) and intercepts (1 + groups, 4) for one class."""

        def fit(group: Sequence[int]) -> BoxRegressor:
            used = ~self._learnt.show(owner, group)
            if not used.any():
                used[:] = True  # a class that only these images show is learnt from them
            return BoxRegressor(options, self.scale).fit(rows[used], deltas[used], gram[np.ix_(used, used)])

        # LAPACK's last bits depend on the number of its threads, so several machines learn at a time instead.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(cpu_count()) as pool:
            machines = list(pool.map(fit, ((), *left_out)))
        return {
            "weights": np.stack([machine.weights_ for machine in machines]),
            "intercepts": np.stack([machine.intercept_ for machine in machines]),
        }


def head_key(head: Head | None) -> str:
    """Key of a head's weights."""
    if head is None:
        return ""
    state = head.state()
    # Convert to float32: numpy has no bfloat16.
    return content_key(*(part for name in sorted(state) for part in (name, state[name].float().numpy().tobytes())))
