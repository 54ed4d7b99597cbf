"""Hard-negative mining in one pass over the images, for the SVMs of all classes (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...data.cores import cpu_count
from ..learners.svm import LinearSVM, RowStore, fit_all
from ..options import SVMOptions
from ..windows.features import Cells
from .collecting import Collected, Collector, keeps_rows
from .images import TrainingImages
from .sampling import extra_positives


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
        self.visited, self.complete = 0, False
        objects = np.bincount(
            np.concatenate([np.zeros(0, np.int64), *(images.positives(i)[1] for i in range(len(images)))]),
            minlength=classes,
        )
        extra = extra_positives(objects, options.extra_positives, capacity // 2)
        self.collector = Collector(classes, options, seed, extra, -(-options.start_negatives // max(1, len(images))))

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
        for index, maps in self.images.read_ahead(indices):
            self.add(index, self.collector.first(self.images, index, index, maps))

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
        self.add(index, self.collector.hard(self.images, index, maps, self.hyperplanes()))

    def add(self, index: int, found: Collected) -> None:
        """Add what was collected in an image to the SVMs of its classes."""
        if len(found) == 0:
            return
        if len(found) > self.store.room:
            self._make_room(len(found))
        stored = self.store.add(found.rows)
        self.origin[stored, 0] = index
        self.origin[stored, 1] = found.scale
        self.origin[stored, 2:] = found.cells
        for numbers, label, sign in found.examples:
            self.machines[label].add(stored[numbers], sign)

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

    def state(self) -> dict[str, Array]:
        """Everything except the pooled rows, which :meth:`restore` pools again."""
        # Free unused rows, which the file does not keep: memory must fill up in the same way in a resumed run.
        self._release()
        used = np.unique(np.concatenate([machine.members for machine in self.machines]))
        arrays = {name: np.array(value) for name, value in (("visited", self.visited), ("complete", self.complete))}
        arrays["origin"] = self.origin[used]
        if keeps_rows(self.images):
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
        self.visited, self.complete = int(arrays["visited"]), bool(arrays.get("complete", False))
        if keeps_rows(self.images):
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
