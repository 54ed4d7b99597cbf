"""Fine-tuning of the fc layers on windows of all images; the convolutions do not change (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.arrays import Array
from ...data.boxes import flip
from ...data.errors import InputError
from ...eval.timing import StageTimer
from ..descent.epochs import Epoch, EpochRunner
from ..device import to_device
from ..head.compression import learns_in_bfloat16
from ..head.head import Head
from ..options import FineTuneOptions
from .images import TrainingImages, read_for
from .sampling import labelled_windows

#: Most positive windows of a held-out image.
_HELD_OUT_POSITIVES = 8

#: Images used for the mean row.
_MEAN_IMAGES = 200

#: Rows scored at a time outside training.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Drawn:
    """Windows of an image to learn from.

    Attributes
    ----------
    index : int
        The image.
    mirrored : bool
        Whether they are seen on its mirror image.
    boxes : float32 array (N, 4)
    scales : int64 array (N,)
        Index of each window's scale.
    labels : int64 array (N,)
    """

    index: int
    mirrored: bool
    boxes: Array
    scales: Array
    labels: Array


class FineTuner(EpochRunner):
    """Train fc6, fc7 and fc8 of a head by stochastic gradient descent.

    Every epoch draws new windows of every image, pools them once from the cached maps
    (of the image or of its mirror image) and mixes them: a batch has windows of many images.
    The result is the head of the epoch with the lowest held-out loss.

    fc6 is trained on pooled rows minus their mean; at the end its bias accounts for the mean. Maxima of rectified maps
    share a large mean, and gradient descent is slow when all inputs point the same way. With MobileNetV2 the loss on
    held-out windows was 0.453 after two epochs; without this it was 0.470 after ten.

    Parameters
    ----------
    images : TrainingImages
        Its features must be pooled ones. With ``options.mirror`` maps of the mirror images must be cached too.
    fit, held_out : sequence of int
        Indices of the training images and of the held-out images.
    head : Head
        Initial head; trained in place. At the end it is that of the best epoch, or of the last one without held-out
        images.
    options : FineTuneOptions
    seed : int
    report : callable
        Called with a line of text after each epoch.

    Attributes
    ----------
    history : list of .epochs.Epoch
        Losses are cross-entropies in nats, on the training set with dropout. The held-out score is the accuracy.
    """

    network: Head

    def __init__(
        self,
        images: TrainingImages,
        fit: Sequence[int],
        held_out: Sequence[int],
        head: Head,
        options: FineTuneOptions,
        seed: int,
        report: Callable[[str], None],
    ):
        device = images.features.device
        super().__init__(head.to(device), report, learns_in_bfloat16(device))
        self.images, self.fit, self.held_out, self.options, self.seed = images, fit, held_out, options, seed
        self.background = head.width("fc8") - 1
        weights = [p for name, p in head.named_parameters() if name.endswith("weight")]
        biases = [p for name, p in head.named_parameters() if name.endswith("bias")]
        # As in Caffe: biases learn at twice the rate and do not decay.
        self.optimizer = torch.optim.SGD(
            [{"params": weights, "weight_decay": options.weight_decay}, {"params": biases, "weight_decay": 0.0}],
            lr=options.rate_at(0, head.pretrained),
            momentum=options.momentum,
            fused=True,
        )
        self.timer = StageTimer(self.device.type)
        self.best: dict[str, Tensor] = {}
        self.mean = torch.zeros(images.features.pooled_width, device=self.device)

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> None:
        """Train (see :meth:`.epochs.EpochRunner.run`).

        Raises
        ------
        InputError
            When no window overlaps an object enough to be a positive, or training diverges.
        """
        if not self.history:
            self.mean = self._mean_row()
            if self.network.pretrained:
                # Undo the shift, so that the head computes the same function as in training.
                self._move_bias(1)
            self.best = self._copy()
        super().run(after_epoch)
        self._move_bias(-1)

    def _mean_row(self) -> Tensor:
        """Mean (pooled_width,) of the rows that an epoch draws from some images."""
        fit = self.fit
        rng = np.random.default_rng([self.seed, len(fit)])
        total = torch.zeros(self.images.features.pooled_width, dtype=torch.float64)
        count = 0
        most = self.options.positives_of_each(len(fit))
        chosen = rng.permutation(np.asarray(fit))[:_MEAN_IMAGES]
        for rows in self._rows([self._draw(int(index), rng, most, False) for index in chosen]):
            total += rows.double().sum(dim=0)
            count += len(rows)
        return (total / max(count, 1)).float().to(self.device)

    def _move_bias(self, sign: int) -> None:
        """Add fc6's output for the mean row to its bias (+1), or subtract it (-1)."""
        fc6 = self.network.fc6
        assert isinstance(fc6, nn.Linear)
        with torch.no_grad():
            fc6.bias.add_(sign * self.network.scale * (fc6.weight.double() @ self.mean.double()).float())

    def _finished(self) -> bool:
        """Whether all epochs are done, or the held-out loss has not improved for too long.

        The reference code used the test set here.
        """
        done = len(self.history)
        losses = [epoch.held_out_loss for epoch in self.history if epoch.held_out_loss is not None]
        waited = done - 1 - int(np.argmin(losses)) if losses else 0
        return done >= self.options.epochs or waited >= self.options.patience

    def _smallest_batch(self) -> int:
        return self.options.positives_in_batch

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it scores nothing, and leaves nothing to others."""
        state = {**super().__getstate__(), "best": {}, "images": self.images.visited_by(None)}
        state.pop("_validation", None)
        return state

    def _learn(self) -> tuple[float, list[Tensor]]:
        done = len(self.history)
        rate = self.options.rate_at(done, self.network.pretrained)
        self.optimizer.param_groups[0]["lr"], self.optimizer.param_groups[1]["lr"] = rate, 2 * rate
        rng = np.random.default_rng([self.seed, done])
        losses = []
        with self._learning(rng):
            batches = self._batches(rng)
            while True:
                with self.timer.stage("pooling"):
                    batch = next(batches, None)
                if batch is None:
                    break
                losses.append(self._step(*batch))
        return rate, losses

    def _judge(self, rate: float, losses: list[Tensor]) -> None:
        done = len(self.history)
        if not losses:
            raise InputError(
                f"fine-tuning found fewer than {self.options.positives_in_batch} windows that overlap an object by "
                f"{self.options.positive_iou} in {len(self.fit)} images: label more images, or train on pool5 features"
            )
        loss, accuracy = (None, None) if self._validation is None else self._validate(*self._validation)
        mean = float(torch.stack(losses).mean())
        if not np.isfinite(mean):
            raise InputError(f"fine-tuning diverged in epoch {done + 1}: a rate of {rate:g} is too high")
        self.history.append(Epoch(done + 1, None, rate, mean, loss, accuracy))
        line = f"fine-tuning, epoch {done + 1} of {self.options.epochs}: rate {rate:.1e}, loss {mean:.3f}"
        if loss is not None:
            line += f", held-out loss {loss:.3f}, accuracy {accuracy:.3f}"
            earlier = [epoch.held_out_loss for epoch in self.history[:-1] if epoch.held_out_loss is not None]
        if loss is None or loss < min(earlier, default=np.inf):
            self.best = self._copy()
        self.report(line)
        self.report(self._profile())
        self.timer.reset()

    def _profile(self) -> str:
        """Shares of the epoch's time; getting a batch includes the wait until its images are pooled."""
        seconds = {name: sum(times.seconds) for name, times in self.timer.times().items()}
        whole = sum(seconds.values())
        parts = ", ".join(f"{name} {100 * part / whole:.0f} %" for name, part in seconds.items())
        return f"{len(self.timer.times()['update'].seconds)} steps in {whole:.0f} s: {parts}"

    def _step(self, rows: Tensor, labels: Tensor, windows: int) -> Tensor:
        with self.timer.stage("products"):
            with self._precision(), self._as_one(windows):
                logits = self.learner(rows)
            loss = functional.cross_entropy(logits.float(), labels)
            loss = self._backward(loss, len(labels) / windows)
        with self.timer.stage("update"):
            self.optimizer.step()
        return loss

    def _validate(self, rows: Tensor, labels: Tensor) -> tuple[float, float]:
        """Mean cross-entropy and accuracy."""
        self.network.eval()
        loss = correct = 0.0
        with torch.inference_mode(), self._precision():
            for start in range(0, len(rows), _ROWS):
                part = slice(start, start + _ROWS)
                logits = self.network(rows[part].to(self.device).float() - self.mean).float()
                wanted = labels[part].to(self.device)
                loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
                correct += float((logits.argmax(dim=1) == wanted).sum())
        return loss / len(rows), correct / len(rows)

    @cached_property
    def _validation(self) -> tuple[Tensor, Tensor] | None:
        """Rows and labels of the held-out windows: the same at every epoch, not mirrored."""
        drawn = [
            self._draw(index, np.random.default_rng([self.seed, index]), _HELD_OUT_POSITIVES, False)
            for index in self.held_out
        ]
        labels = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *(one.labels for one in drawn)]))
        return (torch.cat(list(self._rows(drawn))), labels) if len(labels) else None

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield mini-batches with a fixed share of positives, from as many images at a time as fit in memory.

        Of each batch there are the rows and labels that this process computes, and the number of all windows.
        """
        options, fit = self.options, self.fit
        row_bytes = 2 * self.images.features.pooled_width
        most = options.positives_of_each(len(fit))
        windows = most * (1 + options.negatives_per_positive)
        together = max(1, int(options.max_gigabytes * 1e9 / (row_bytes * windows)))
        order = rng.permutation(np.asarray(fit))
        for start in range(0, len(order), together):
            drawn = [
                self._draw(int(index), rng, most, options.mirror and rng.random() < 0.5)
                for index in order[start : start + together]
            ]
            labels = np.concatenate([one.labels for one in drawn])
            batches = list(self._mix(labels, rng))
            if not batches:
                continue
            pooled = np.unique(np.concatenate([*map(self._own, batches)]))
            rows = torch.cat(list(self._rows(_parts(drawn, pooled))))
            for chosen in batches:
                own = self._own(chosen)
                wanted = to_device(torch.from_numpy(labels[own]), self.device)
                mixed = rows.index_select(0, torch.from_numpy(np.searchsorted(pooled, own)))
                yield to_device(mixed, self.device).float() - self.mean, wanted, len(chosen)

    def _mix(self, labels: Array, rng: np.random.Generator) -> Iterator[Array]:
        """Yield the row numbers of each batch: every positive once, with the number of negatives that belong to it."""
        positives = rng.permutation(np.flatnonzero(labels != self.background))
        negatives = rng.permutation(np.flatnonzero(labels == self.background))
        few = self.options.positives_in_batch
        many = self.options.batch - few
        for number in range(len(positives) // few):
            # Some images have too few negatives; then a few negatives appear twice.
            places = np.arange(number * many, (number + 1) * many) % max(1, len(negatives))
            yield np.concatenate([positives[number * few : (number + 1) * few], negatives[places[: len(negatives)]]])

    def _draw(self, index: int, rng: np.random.Generator, most: int, mirrored: bool) -> Drawn:
        """Draw windows of an image."""
        options = self.options
        windows, labels = labelled_windows(self.images, index, options, self.background)
        positives = rng.permutation(np.flatnonzero((labels >= 0) & (labels < self.background)))[:most]
        wanted = options.negatives_per_positive * max(1, len(positives))
        negatives = rng.permutation(np.flatnonzero(labels == self.background))[:wanted]
        chosen = np.concatenate([positives, negatives])
        boxes = windows[chosen]
        if mirrored:
            boxes = flip(boxes, self.images.sizes[index][1])
        scales = rng.integers(self.images.features.options.window_scales, size=len(boxes))
        return Drawn(index, mirrored, boxes, scales, labels[chosen])

    def _rows(self, drawn: Sequence[Drawn]) -> Iterator[Tensor]:
        """Half-precision rows (N, pooled_width) of the windows of each image, on the CPU."""
        features = self.images.features

        def read(one: Drawn) -> tuple[Drawn, Any]:
            # The cache holds half precision, so max pooling in half precision loses nothing.
            return one, self.images.maps(one.index, one.mirrored, torch.float16)

        for one, maps in read_for(self.device, read, drawn):
            cells = features.locate(maps, one.boxes, one.scales)
            pooled = features.pool(maps, cells).cpu()
            # Indexing half precision with brackets is a hundred times slower.
            yield pooled.index_select(0, torch.from_numpy(cells.inverse))

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _result(self) -> dict[str, Tensor] | None:
        return self.best

    def _more(self) -> dict[str, Tensor]:
        return {f"best.{name}": value for name, value in self.best.items()} | {"mean": self.mean}

    def _restore_more(self, arrays: Mapping[str, Array]) -> None:
        self.best = self._part(arrays, "best")
        self.mean = torch.tensor(arrays["mean"], device=self.device)


def _parts(drawn: Sequence[Drawn], places: Array) -> list[Drawn]:
    """The windows at these places, ascending, of all windows in a row; images with none of them are left out."""
    ends = np.cumsum([len(one.labels) for one in drawn])
    parts = []
    for one, end, kept in zip(drawn, ends, np.split(places, np.searchsorted(places, ends[:-1])), strict=True):
        if len(kept):
            chosen = kept - (end - len(one.labels))
            parts.append(replace(one, boxes=one.boxes[chosen], scales=one.scales[chosen], labels=one.labels[chosen]))
    return parts
