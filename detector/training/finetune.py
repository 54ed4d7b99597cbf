"""Fine-tuning of the fc layers on windows of all images; the convolutions stay as they are (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.arrays import Array
from ...data.boxes import flip, iou
from ...data.errors import InputError
from ...eval.timing import StageTimer
from ..descent.epochs import Epoch, EpochRunner
from ..head.head import Head
from ..options import FineTuneOptions
from .sampling import TrainingImages

#: Held-out windows: up to this many positives of an image.
_HELD_OUT_POSITIVES = 8

#: Images over which the mean row is taken.
_MEAN_IMAGES = 200

#: Rows scored at a time where nothing is learnt.
_ROWS = 1024


class FineTuner(EpochRunner):
    """Learns a head's fc6, fc7 and fc8 by stochastic gradient descent.

    Every epoch draws new windows of every image, pools them once from the cached maps
    (of the image or of its mirror image) and mixes them: a batch has windows of many images.
    The head of the epoch with the least loss on held-out images is the result.

    fc6 learns from pooled rows less their mean, which is put into its bias at the end. Maxima of rectified maps have
    a large mean in common, and gradient descent crawls where all inputs point the same way: MobileNetV2's loss on
    held-out windows was 0.453 after two epochs, without this 0.470 after ten.

    Parameters
    ----------
    images : TrainingImages
        Its features must be pooled ones; maps of the mirror images must be cached too when ``options.mirror``.
    fit, held_out : sequence of int
        Which of them are learnt from, and which the epochs are compared on.
    head : Head
        Where to start; learnt in place. In the end it is that of the best epoch, without held-out images of the last.
    options : FineTuneOptions
    seed : int
    report : callable
        Receives a line of text after each epoch.

    Attributes
    ----------
    history : list of .epochs.Epoch
        Losses are cross-entropies in nats, with dropout for what is learnt from; the held-out score is the accuracy.
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
        super().__init__(head.to(images.features.device), report)
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
        """Learn (see :meth:`.epochs.EpochRunner.run`).

        Raises
        ------
        InputError
            When no window of the images overlaps an object by enough to be a positive, or learning diverges.
        """
        if not self.history:
            self.mean = self._mean_row()
            if self.network.pretrained:
                # What it was trained for stays what it computes.
                self._move_bias(1)
            self.best = self._copy()
        super().run(after_epoch)
        self._move_bias(-1)

    def _mean_row(self) -> Tensor:
        """The mean (pooled_width,) of the windows that an epoch draws, over some images."""
        fit = self.fit
        rng = np.random.default_rng([self.seed, len(fit)])
        total = torch.zeros(self.images.features.pooled_width, dtype=torch.float64)
        count = 0
        for index in rng.permutation(np.asarray(fit))[:_MEAN_IMAGES]:
            rows, _ = self._draw(int(index), rng, self.options.positives_of_each(len(fit)), False)
            total += rows.double().sum(dim=0)
            count += len(rows)
        return (total / max(count, 1)).float().to(self.device)

    def _move_bias(self, sign: int) -> None:
        """Put the mean row's part of fc6's outputs into its bias (+1), or take it out (-1)."""
        fc6 = self.network.fc6
        assert isinstance(fc6, nn.Linear)
        with torch.no_grad():
            fc6.bias.add_(sign * self.network.scale * (fc6.weight.double() @ self.mean.double()).float())

    def _finished(self) -> bool:
        """All epochs done, or no better held-out loss for too long (the reference looked at its test set here)."""
        done = len(self.history)
        losses = [epoch.held_out_loss for epoch in self.history if epoch.held_out_loss is not None]
        waited = done - 1 - int(np.argmin(losses)) if losses else 0
        return done >= self.options.epochs or waited >= self.options.patience

    def _epoch(self) -> None:
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
        """Where the time of the epoch's steps went; the first row of a batch waits for its images to be pooled."""
        seconds = {name: sum(times.seconds) for name, times in self.timer.times().items()}
        whole = sum(seconds.values())
        parts = ", ".join(f"{name} {100 * part / whole:.0f} %" for name, part in seconds.items())
        return f"{len(self.timer.times()['update'].seconds)} steps in {whole:.0f} s: {parts}"

    def _step(self, rows: Tensor, labels: Tensor) -> Tensor:
        with self.timer.stage("products"):
            with self._precision():
                logits = self.network(rows)
            loss = functional.cross_entropy(logits.float(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with self.timer.stage("update"):
            self.optimizer.step()
        return loss.detach()

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
        """Rows and labels of the same windows at every epoch, of the images as they are."""
        drawn = [
            self._draw(index, np.random.default_rng([self.seed, index]), _HELD_OUT_POSITIVES, False)
            for index in self.held_out
        ]
        labels = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *(label for _, label in drawn)]))
        return (torch.cat([rows for rows, _ in drawn]), labels) if len(labels) else None

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Mini-batches, their share of positives fixed, from as many images at a time as memory holds."""
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
            rows = torch.cat([part for part, _ in drawn])
            labels = np.concatenate([part for _, part in drawn])
            for chosen in self._mix(labels, rng):
                wanted = torch.from_numpy(labels[chosen]).to(self.device)
                mixed = rows.index_select(0, torch.from_numpy(chosen))
                yield mixed.to(self.device).float() - self.mean, wanted

    def _mix(self, labels: Array, rng: np.random.Generator) -> Iterator[Array]:
        """Numbers of the rows of each batch: every positive once, and as many negatives as belong to them."""
        positives = rng.permutation(np.flatnonzero(labels != self.background))
        negatives = rng.permutation(np.flatnonzero(labels == self.background))
        few = self.options.positives_in_batch
        many = self.options.batch - few
        for number in range(len(positives) // few):
            # The negatives are a few short where images have not enough of them; then some come twice.
            places = np.arange(number * many, (number + 1) * many) % max(1, len(negatives))
            yield np.concatenate([positives[number * few : (number + 1) * few], negatives[places[: len(negatives)]]])

    def _draw(self, index: int, rng: np.random.Generator, most: int, mirrored: bool) -> tuple[Tensor, Array]:
        """Half-precision rows (N, pooled_width) on the CPU and labels (N,) of some windows of an image."""
        options, features = self.options, self.images.features
        windows, labels = labelled_windows(self.images, index, options, self.background)
        positives = rng.permutation(np.flatnonzero((labels >= 0) & (labels < self.background)))[:most]
        wanted = options.negatives_per_positive * max(1, len(positives))
        negatives = rng.permutation(np.flatnonzero(labels == self.background))[:wanted]
        chosen = np.concatenate([positives, negatives])
        boxes = windows[chosen]
        if mirrored:
            boxes = flip(boxes, self.images.sizes[index][1])
        # The cache holds half precision, whose maxima are the maxima in half precision.
        maps = self.images.maps(index, mirrored, torch.float16)
        scales = rng.integers(features.options.window_scales, size=len(boxes))
        cells = features.locate(maps, boxes, scales)
        rows = features.pool(maps, cells).cpu()
        # Indexing half precision with brackets takes a hundred times longer.
        return rows.index_select(0, torch.from_numpy(cells.inverse)), labels[chosen]

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _result(self) -> dict[str, Tensor] | None:
        return self.best

    def _more(self) -> dict[str, Tensor]:
        return {f"best.{name}": value for name, value in self.best.items()} | {"mean": self.mean}

    def _restore_more(self, arrays: Mapping[str, Array]) -> None:
        self.best = self._part(arrays, "best")
        self.mean = torch.tensor(arrays["mean"], device=self.device)


def labelled_windows(
    images: TrainingImages, index: int, options: FineTuneOptions, background: int
) -> tuple[Array, Array]:
    """The windows of an image, and what fine-tuning takes each for (paper, section 4.2).

    Returns
    -------
    windows : float32 array (N, 4)
        Objects and proposals.
    labels : int64 array (N,)
        The class of the object that the window overlaps most, if by ``positive_iou`` or more; ``background`` if its
        best overlap is less but at least ``negative_iou``; -1 for windows that teach nothing: those too far from
        every object, and those on a difficult one.
    """
    sample = images.samples[index]
    windows = images.windows(index)
    labels = np.full(len(windows), -1, np.int64)
    if len(sample.boxes) == 0:
        return windows, labels
    overlaps = iou(windows, sample.boxes)
    best, nearest = overlaps.max(axis=1), overlaps.argmax(axis=1)
    labels[(best >= options.negative_iou) & (best < options.positive_iou)] = background
    positive = (best >= options.positive_iou) & ~sample.difficult[nearest]
    labels[positive] = sample.labels[nearest[positive]]
    return windows, labels
