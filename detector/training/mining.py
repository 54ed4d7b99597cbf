"""Hard-negative mining in one pass over the images, for the SVMs of all classes (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.cores import cpu_count
from ...data.nms import nms
from ..learners.svm import LinearSVM, RowStore, fit_all
from ..options import SVMOptions
from ..windows.features import Cells
from .sampling import TrainingImages, extra_positives


class Miner:
    """One SVM per class, and their training windows.

    All classes that use a window share its row. The origin of each row is recorded, so
    a checkpoint does not need the rows: they are pooled again when it is loaded.

    Parameters
    ----------
    images : TrainingImages
    classes : int
    scale : float
        Factor on the features.
    options : SVMOptions
    seed : int
    report : callable
        Called with a line of text at each solution.
    """

    def __init__(
        self,
        images: TrainingImages,
        classes: int,
        scale: float,
        options: SVMOptions,
        seed: int,
        report: Callable[[str], None],
    ):
        self.images, self.options, self.seed, self.report = images, options, seed, report
        width = images.features.width
        capacity = max(1000, int(options.max_gigabytes * 1e9 / (2 * width)))
        self.store = RowStore(width, capacity)
        self.origin = np.zeros((capacity, 2 + images.features.cell_columns), np.int32)
        self.machines = [LinearSVM(self.store, options, scale, seed + label) for label in range(classes)]
        self.visited = 0
        objects = np.bincount(
            np.concatenate([np.zeros(0, np.int64), *(images.positives(i)[1] for i in range(len(images)))]),
            minlength=classes,
        )
        self.extra_positives = extra_positives(objects, options.extra_positives, capacity // 2)

    def hyperplanes(self) -> tuple[Array, Array]:
        """Weights float32 (classes, width) and intercepts (classes,) for unscaled features."""
        return _planes(self.machines)

    def without(self, indices: Iterable[int], options: SVMOptions | None = None) -> tuple[Array, Array]:
        """:meth:`hyperplanes` of the same problems, without the windows of some photographs and their mirror images.

        Of ``options``, C and ``positive_weight`` take the place of the miner's.
        """
        others = ~self.images.show(self.origin[:, 0], indices)
        machines = [machine.among(others, options) for machine in self.machines]
        fit_all(machines, cpu_count())
        return _planes(machines)

    def start(self, indices: Iterable[int]) -> None:
        """Add the objects of some images as positives, and some random negatives of each image."""
        random_windows = -(-self.options.start_negatives // max(1, len(self.images)))
        for index, maps in self.images.read_ahead(indices):
            rng = np.random.default_rng([self.seed, index])
            boxes, labels = self._positives(index)
            others = self.images.proposals[index]
            others = others[rng.permutation(len(others))[:random_windows]]
            groups = [(boxes[labels == label], label, 1) for label in range(len(self.machines))]
            for label in range(len(self.machines)):
                far = self.images.overlap(index, others, label) < self.options.negative_iou
                groups.append((others[far], label, -1))
            cells = self.images.features.locate(maps, np.concatenate([windows for windows, _, _ in groups]))
            parts = np.split(cells.inverse, np.cumsum([len(windows) for windows, _, _ in groups])[:-1])
            wanted = [(part, label, sign) for part, (_, label, sign) in zip(parts, groups, strict=True)]
            self._add(index, maps, cells, wanted)

    def _positives(self, index: int) -> tuple[Array, Array]:
        """Positives of an image, boxes (N, 4) and labels (N,): its objects and the proposals that fit them well."""
        objects = self.images.positives(index)
        near = self.images.near_positives(index, self.extra_positives, self.options.positive_iou)
        return np.concatenate([objects[0], near[0]]), np.concatenate([objects[1], near[1]])

    def mine(self, indices: Iterable[int], after_image: Callable[[int], None] = lambda visited: None) -> None:
        """Collect the hard negatives of some images; solve again when there are many new ones, and at the end.

        ``after_image`` is called with the total number of images visited.
        """
        for index, maps in self.images.read_ahead(indices):
            self._visit(index, maps)
            self.visited += 1
            due = [m for m in self.machines if m.fresh > self.options.retrain_after]
            if due:
                self.fit(due)
            after_image(self.visited)
        self.fit()

    def fit(self, machines: list[LinearSVM] | None = None) -> None:
        """Solve for some classes (default: all); drop negatives that became easy and rows that no class uses."""
        machines = self.machines if machines is None else machines
        fit_all(machines, cpu_count())
        for machine in machines:
            machine.evict(self.options.easy_below)
        self._release()
        positives, negatives = (
            sum(int(np.count_nonzero(machine.signs == sign)) for machine in self.machines) for sign in (1, -1)
        )
        self.report(f"after {self.visited} images SVMs learn from {positives} positive, {negatives} negative windows")

    def _release(self) -> None:
        self.store.keep(np.unique(np.concatenate([machine.members for machine in self.machines])))

    def _visit(self, index: int, maps: Any) -> None:
        """Collect the hard negatives of one image for every class."""
        images, options = self.images, self.options
        labels = range(len(self.machines))
        windows = images.windows(index)
        far = np.stack([images.overlap(index, windows, label) < options.negative_iou for label in labels], axis=1)
        # Windows that are negatives of no class are not computed.
        windows, far = windows[far.any(axis=1)], far[far.any(axis=1)]
        cells = images.features.locate(maps, windows)
        rows, of_cells = self._scored(maps, cells)
        scores = of_cells[cells.inverse]
        wanted = []
        for label in labels:
            hard = np.flatnonzero((scores[:, label] > options.hard_above) & far[:, label])
            kept = hard[nms(windows[hard], scores[hard, label], options.duplicate_iou)]
            wanted.append((cells.inverse[kept], label, -1))
        self._add(index, maps, cells, wanted, rows)

    def _scored(self, maps: Any, cells: Cells) -> tuple[Tensor | None, Array]:
        """Scores (U, classes) of distinct windows, and their rows if they are short enough to keep."""
        features = self.images.features
        weights, intercepts = (torch.from_numpy(part).to(features.device) for part in self.hyperplanes())
        if not self._short_rows:
            return None, features.scores(maps, cells, weights, intercepts).cpu().numpy()
        rows = features.rows(maps, cells)
        return rows, torch.addmm(intercepts, rows, weights.T).cpu().numpy()

    def _add(
        self,
        index: int,
        maps: Any,
        cells: Cells,
        wanted: list[tuple[Array, int, int]],
        rows: Tensor | None = None,
    ) -> None:
        """Add some of the distinct windows of an image, as (numbers, label, sign), to the SVMs of their classes.

        Each window is pooled once, or not at all if ``rows`` (U, width) are given.
        """
        used = np.unique(np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _, _ in wanted)]))
        if len(used) == 0:
            return
        if len(used) > self.store.room:
            self._make_room(len(used))
        values = self.images.features.rows(maps, cells[used]) if rows is None else rows[torch.from_numpy(used)]
        stored = self.store.add(values.cpu().numpy())
        self.origin[stored, 0] = index
        self.origin[stored, 1] = cells.scale[used]
        self.origin[stored, 2:] = cells.cells[used]
        for numbers, label, sign in wanted:
            self.machines[label].add(stored[np.searchsorted(used, np.unique(numbers))], sign)

    def _make_room(self, needed: int) -> None:
        """Drop easy negatives; if that is not enough, drop the easiest of the hard ones."""
        self.fit()
        keep = len(self.store.rows)
        while self.store.room < needed and keep > 0:
            keep = keep // 2
            for machine in self.machines:
                machine.shed(keep)
            self.report(f"memory for pooled windows is full: keeping the hardest {keep} negatives of a class")
            self._release()

    @property
    def _short_rows(self) -> bool:
        """Whether rows are fc outputs. These are kept: their last bits depend on how many are computed at a time."""
        return self.images.features.options.kind != "pool5"

    def state(self) -> dict[str, Array]:
        """Everything except the pooled rows, which :meth:`restore` pools again."""
        # Free unused rows, which the file does not keep: memory must fill up in the same way in a resumed run.
        self._release()
        used = np.unique(np.concatenate([machine.members for machine in self.machines]))
        arrays = {"origin": self.origin[used], "visited": np.array(self.visited)}
        if self._short_rows:
            arrays["rows"] = self.store.rows[used]
        for label, machine in enumerate(self.machines):
            arrays[f"members{label}"] = np.searchsorted(used, machine.members)
            arrays[f"signs{label}"] = machine.signs
            arrays[f"alpha{label}"] = machine.alpha
            arrays[f"weights{label}"] = machine.weights_
            arrays[f"fresh{label}"] = np.array(machine.fresh)
        return arrays

    def restore(self, arrays: dict[str, Array]) -> None:
        """Restore a :meth:`state` of the same images and options in a new miner."""
        origin = arrays["origin"]
        self.visited = int(arrays["visited"])
        if self._short_rows:
            numbers = self.store.add(arrays["rows"].view(np.float16))
        else:
            numbers = self.store.reserve(len(origin))
            self._pool_again(numbers, origin)
        self.origin[numbers] = origin
        for label, machine in enumerate(self.machines):
            machine.members = numbers[arrays[f"members{label}"]]
            machine.signs = arrays[f"signs{label}"]
            machine.alpha = arrays[f"alpha{label}"]
            machine.weights_ = arrays[f"weights{label}"]
            machine.fresh = int(arrays[f"fresh{label}"])

    def _pool_again(self, numbers: Array, origin: Array) -> None:
        """Pool the rows ``numbers`` again from the windows they came from."""
        for index, maps in self.images.read_ahead(np.unique(origin[:, 0]).tolist()):
            here = np.flatnonzero(origin[:, 0] == index)
            here = here[np.argsort(origin[here, 1], kind="stable")]
            cells = Cells(origin[here, 1].astype(np.int64), origin[here, 2:].copy(), np.arange(len(here)))
            pooled = self.images.features.pool(maps, cells)
            self.store.replace(numbers[here], pooled.cpu().numpy())


def _planes(machines: Sequence[LinearSVM]) -> tuple[Array, Array]:
    planes = [machine.hyperplane() for machine in machines]
    return np.stack([weights for weights, _ in planes]), np.array([b for _, b in planes], np.float32)
