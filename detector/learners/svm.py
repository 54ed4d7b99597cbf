"""Linear SVMs of many classes over one store of pooled windows.

The problem is liblinear's ``-s 3``: hinge loss, L2 regularisation (the bias is a
constant feature and regularised too), solved in the dual by coordinate descent
with shrinking (Hsieh et al., ICML 2008). scikit-learn's solver (:mod:`.liblinear`) is
not the default for two reasons. It copies the rows of each class to float64, eight
times the memory of half-precision features. And it cannot start from the last
solution when hard negatives arrive. For 300 positives and 2,000 negatives of 12,800
features, then four times 500 more negatives, it took 13.5 s in all, this solver 0.8 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...data.arrays import Array
from ...data.compiled import compiled
from ..options import SVMOptions
from .estimator import Estimator
from .liblinear import liblinear


def _half_intrinsic(typing_context: Any, bits: Any) -> Any:
    """Convert half precision, given as uint16, to float32: numba has no half-precision arithmetic."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


_half: Any = intrinsic(_half_intrinsic)


@compiled(nogil=True, fastmath=True)
def _dot(row: Array, weights: Array) -> Any:
    total = np.float32(0)
    for j in range(weights.size):
        total += _half(row[j]) * weights[j]
    return total


@compiled(nogil=True, fastmath=True)
def _add(row: Array, factor: Any, weights: Array) -> None:
    for j in range(weights.size):
        weights[j] += factor * _half(row[j])


@compiled(nogil=True, fastmath=True)
def _store(values: Array, numbers: Array, rows: Array, squares: Array) -> None:
    """Copy half-precision rows to the places ``numbers``, with their squared lengths."""
    for i in range(numbers.size):
        total = np.float32(0)
        for j in range(values.shape[1]):
            rows[numbers[i], j] = values[i, j]
            value = _half(values[i, j])
            total += value * value
        squares[numbers[i]] = total


@compiled(nogil=True)
def _margins(rows: Array, members: Array, scale: Any, weights: Array, bias_term: Any) -> Array:
    """Scores of the rows with the numbers ``members``."""
    scores = np.empty(members.size, np.float32)
    for i in range(members.size):
        scores[i] = scale * _dot(rows[members[i]], weights) + bias_term
    return scores


@compiled(nogil=True)
def _solve(
    rows: Array,
    members: Array,
    signs: Array,
    squares: Array,
    scale: Any,
    bias: Any,
    limits: Array,
    alpha: Array,
    weights: Array,
    tolerance: Any,
    max_epochs: Any,
    seed: Any,
) -> Any:
    """Run dual coordinate descent from ``alpha``; change ``alpha`` and ``weights`` (bias last), return the epochs."""
    np.random.seed(seed)  # noqa: NPY002 - compiled, this is numba's own generator, one for each thread
    count = members.size
    features = weights[:-1]
    order = np.arange(count)
    active = count
    upper, lower = np.inf, -np.inf
    for epoch in range(max_epochs):
        largest, smallest = -np.inf, np.inf
        np.random.shuffle(order[:active])  # noqa: NPY002
        s = 0
        while s < active:
            i = order[s]
            row = rows[members[i]]
            gradient = signs[i] * (scale * _dot(row, features) + bias * weights[-1]) - 1
            projected = gradient
            shrink = False
            if alpha[i] == 0:
                shrink = gradient > upper
                projected = min(gradient, 0)
            elif alpha[i] == limits[i]:
                shrink = gradient < lower
                projected = max(gradient, 0)
            if shrink:
                active -= 1
                order[s], order[active] = order[active], order[s]
                continue
            largest = max(largest, projected)
            smallest = min(smallest, projected)
            if abs(projected) > 1e-12:
                before = alpha[i]
                alpha[i] = min(
                    max(before - gradient / (scale * scale * squares[members[i]] + bias * bias), 0), limits[i]
                )
                step = (alpha[i] - before) * signs[i]
                _add(row, np.float32(step * scale), features)
                weights[-1] += np.float32(step * bias)
            s += 1
        if largest - smallest <= tolerance:
            if active == count:
                return epoch + 1
            # The active rows converged: check all the rows that shrinking set aside once more.
            active = count
            upper, lower = np.inf, -np.inf
            continue
        upper = largest if largest > 0 else np.inf
        lower = smallest if smallest < 0 else -np.inf
    return max_epochs


class RowStore:
    """Pooled windows in half precision, shared by the problems of all classes.

    The memory is reserved at once, but the pages are touched only as rows arrive.

    Parameters
    ----------
    width : int
        Features per row.
    capacity : int
        Most rows.
    """

    def __init__(self, width: int, capacity: int):
        self.rows = np.empty((capacity, width), np.uint16)
        self.squares = np.zeros(capacity, np.float32)
        self._free = np.arange(capacity)[::-1].copy()
        self._left = capacity

    @property
    def room(self) -> int:
        """Number of rows that still fit."""
        return self._left

    def add(self, rows: Array) -> Array:
        """Store rows (N, width), float32 or float16; returns their numbers, int64 (N,).

        Raises
        ------
        MemoryError
            When fewer than N rows fit; nothing is stored then.
        """
        numbers = self.reserve(len(rows))
        self.replace(numbers, rows)
        return numbers

    def reserve(self, count: int) -> Array:
        """Numbers, int64 (count,), of rows that :meth:`replace` is to fill; their memory is not touched.

        Raises
        ------
        MemoryError
            When fewer than ``count`` rows fit; nothing is reserved then.
        """
        if count > self._left:
            raise MemoryError(f"{count} rows do not fit: room for {self._left}")
        numbers = self._free[self._left - count : self._left][::-1].copy()
        self._left -= count
        return numbers

    def replace(self, numbers: Array, rows: Array) -> None:
        """Overwrite the rows ``numbers`` with ``rows`` (N, width), float32 or float16."""
        # torch converts to half precision several times faster than numpy. It warns of arrays that cannot be written,
        # such as those from other processes.
        half = torch.from_numpy(np.require(rows, requirements="W")).half()
        _store(half.numpy().view(np.uint16), numbers, self.rows, self.squares)

    def keep(self, used: Array) -> None:
        """Free every row whose number is not in ``used``."""
        free = np.ones(len(self.rows), bool)
        free[used] = False
        numbers = np.flatnonzero(free)[::-1]
        self._left = numbers.size
        self._free[: self._left] = numbers


class LinearSVM(Estimator):
    """The problem of one class on the rows of a :class:`RowStore`, solved again as rows are added and dropped.

    Parameters
    ----------
    store : RowStore
    options : SVMOptions
    scale : float
        Factor on the features.
    seed : int
        Seed of the step order.

    Attributes
    ----------
    weights_ : float32 array (width + 1,)
        Weights of the scaled features; the last one is that of the constant feature.
    """

    def __init__(self, store: RowStore, options: SVMOptions, scale: float, seed: int = 0):
        self.store, self.options, self.scale, self.seed = store, options, scale, seed
        self.members = np.zeros(0, np.int64)
        self.signs = np.zeros(0, np.float32)
        self.alpha = np.zeros(0, np.float64)
        self.weights_ = np.zeros(store.rows.shape[1] + 1, np.float32)
        self.fresh = 0

    def add(self, numbers: Array, sign: int) -> None:
        """Add the rows ``numbers`` as positives (+1) or negatives (-1); ``fresh`` counts them until the next fit."""
        self.members = np.concatenate([self.members, numbers])
        self.signs = np.concatenate([self.signs, np.full(len(numbers), sign, np.float32)])
        self.alpha = np.concatenate([self.alpha, np.zeros(len(numbers))])
        self.fresh += len(numbers)

    def fit(self) -> LinearSVM:
        """Solve from the last solution, or from scratch with liblinear; returns itself.

        Raises
        ------
        InputError
            When liblinear needs too much memory.
        """
        options = self.options
        if options.solver == "liblinear":
            self.alpha[:] = 0  # liblinear returns no dual solution
            if (self.signs > 0).any() and (self.signs < 0).any():
                return self._fit_liblinear()
        if not self.alpha.any():
            # Weights of liblinear are no start for our solver, which also handles a class with only one sign.
            self.weights_[:] = 0
        self.epochs_ = _solve(
            self.store.rows,
            self.members,
            self.signs,
            self.store.squares,
            np.float32(self.scale),
            np.float32(options.bias),
            self._limits,
            self.alpha,
            self.weights_,
            options.tolerance,
            options.max_epochs,
            self.seed,
        )
        self.fresh = 0
        return self

    def _fit_liblinear(self) -> LinearSVM:
        rows = self.store.rows[self.members].view(np.float16)
        weights, intercept, self.epochs_ = liblinear(rows, self.signs, float(self.scale), self.options, self.seed)
        self.weights_[:-1], self.weights_[-1] = weights, intercept / self.options.bias
        self.fresh = 0
        return self

    def scores(self) -> Array:
        """Scores of the problem's own rows, float32, in the order of ``members``."""
        bias_term = np.float32(self.options.bias) * self.weights_[-1]
        return _margins(self.store.rows, self.members, np.float32(self.scale), self.weights_[:-1], bias_term)

    def evict(self, below: float) -> int:
        """Drop the negatives that score under ``below`` and are no support vectors; returns how many.

        With liblinear no row counts as a support vector: its next solution starts from scratch.
        """
        gone = (self.signs < 0) & (self.alpha == 0) & (self.scores() < below)
        self._select(~gone)
        return int(gone.sum())

    def shed(self, keep: int) -> None:
        """Drop the lowest-scoring negatives until ``keep`` are left."""
        scores = np.where(self.signs > 0, np.inf, self.scores())
        kept = np.argsort(-scores, kind="stable")[: int((self.signs > 0).sum()) + keep]
        self._restrict(np.isin(np.arange(len(scores)), kept))

    def among(self, rows: Array, options: SVMOptions | None = None) -> LinearSVM:
        """The same problem with some of the store's rows only, given by a mask over them; not solved yet.

        It starts from this solution, also if C and ``positive_weight`` come from other ``options``.
        """
        other = LinearSVM(self.store, options or self.options, self.scale, self.seed)
        other.members, other.signs, other.alpha = self.members, self.signs, self.alpha.copy()
        other.weights_ = self.weights_.copy()
        other._restrict(rows[self.members])
        return other

    @property
    def _limits(self) -> Array:
        """Weight of the hinge loss of each member."""
        return np.where(self.signs > 0, self.options.C * self.options.positive_weight, self.options.C)

    def _restrict(self, mask: Array) -> None:
        """Keep some members, and no ``alpha`` above its limit; the weights stay the sum over the members."""
        lower = np.where(mask, np.minimum(self.alpha, self._limits), 0)
        for i in np.flatnonzero(lower < self.alpha):
            step = (lower[i] - self.alpha[i]) * self.signs[i]
            _add(self.store.rows[self.members[i]], np.float32(step * np.float32(self.scale)), self.weights_[:-1])
            self.weights_[-1] += np.float32(step * self.options.bias)
        self.alpha = lower
        self._select(mask)

    def _select(self, mask: Array) -> None:
        self.members, self.signs, self.alpha = self.members[mask], self.signs[mask], self.alpha[mask]

    def hyperplane(self) -> tuple[Array, float]:
        """Weights (width,) and intercept that score unscaled features."""
        return self.weights_[:-1] * np.float32(self.scale), float(self.weights_[-1]) * self.options.bias

    def decision_function(self, rows: Array) -> Array:
        """Scores, float32 (N,), of unscaled float32 features (N, width); more than 0 means positive."""
        weights, intercept = self.hyperplane()
        return rows @ weights + np.float32(intercept)

    def predict(self, rows: Array) -> Array:
        """Signs, +1 or -1, of the scores of unscaled float32 features (N, width)."""
        return np.where(self.decision_function(rows) > 0, 1, -1)


def fit_all(machines: Sequence[LinearSVM], threads: int) -> None:
    """Fit several SVMs, ``threads`` at a time; the result does not depend on ``threads``.

    liblinear always runs in one thread: several copies of the rows would need too much memory, and all its problems
    share one random generator.
    """
    if any(machine.options.solver == "liblinear" for machine in machines):
        threads = 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(LinearSVM.fit, machines))
