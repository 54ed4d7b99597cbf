"""One linear SVM per class on representations of whole images (paper, sections 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import torch

from ...data.arrays import Array
from ...data.cores import cpu_count
from ..options import Solver, SVMOptions
from .estimator import Estimator
from .gram import COLUMNS, ROWS, gram_matrix, solve
from .liblinear import liblinear
from .svm import LinearSVM, RowStore, fit_all

#: Most rows whose inner products are kept (1 GiB at most); with more, the problems are solved on the rows.
MAX_GRAM_ROWS = 16_384


class OneVsRest(Estimator):
    """One linear SVM per class against all others: hinge loss, L2 regularisation.

    Parameters
    ----------
    C : float
        Weight of the hinge loss.
    positive_weight : float
        Factor on C for positives.
    bias : float
        Value of the constant feature, more than 0; it is regularised like the others.
    tolerance : float
        A problem is solved when the projected gradient of each row is at most this. (With more than
        ``MAX_GRAM_ROWS`` rows, liblinear's criterion: the spread of the projected gradients.)
    max_epochs : int
        Most steps of a problem, in passes over the rows.
    threads : int, optional
        Problems solved at a time; by default the number of cores.
    seed : int
        Seed of the step order of liblinear, and of our solver with more than ``MAX_GRAM_ROWS`` rows; otherwise
        nothing is random.
    solver : {"coordinate descent", "liblinear"}
        Our own solver on the inner products, which all classes share, or scikit-learn's liblinear, class by class on
        the rows in double precision. Both find the same planes within the tolerance. liblinear refuses a class
        without positives or without negatives; our solver handles it instead.
    max_gigabytes : float
        Most memory for liblinear's rows.

    Attributes
    ----------
    coef_ : float32 array (classes, width)
    intercept_ : float32 array (classes,)
    converged_ : bool array (classes,)
        Whether the problem reached the tolerance within ``max_epochs``.

    References
    ----------
    Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008.

    Examples
    --------
    >>> rows = np.eye(3, dtype=np.float32)
    >>> targets = np.eye(3, dtype=np.int8)
    >>> OneVsRest(C=10.0).fit(rows, targets).decision_function(rows).argmax(axis=1).tolist()
    [0, 1, 2]
    """

    coef_: Array
    intercept_: Array
    converged_: Array

    def __init__(
        self,
        C: float = 1.0,
        positive_weight: float = 1.0,
        bias: float = 1.0,
        tolerance: float = 0.01,
        max_epochs: int = 300,
        threads: int | None = None,
        seed: int = 0,
        solver: Solver = "coordinate descent",
        max_gigabytes: float = 2.0,
    ) -> None:
        self.C, self.positive_weight, self.bias = C, positive_weight, bias
        self.tolerance, self.max_epochs, self.threads, self.seed = tolerance, max_epochs, threads, seed
        self.solver, self.max_gigabytes = solver, max_gigabytes

    def fit(self, rows: Array, targets: Array, gram: Array | None = None) -> OneVsRest:
        """Solve the problems of all classes.

        Parameters
        ----------
        rows : float16 or float32 array (N, width)
            Features. With C and ``bias`` around 1 the norms of the rows should be around 1 too.
        targets : int array (N, classes)
            1 for a positive of the class, 0 for a negative, -1 for a row that the class ignores.
        gram : float32 array (N, N), optional
            :func:`gram_matrix` of the rows, if already known; not for liblinear.

        Returns
        -------
        OneVsRest
            Itself.

        Raises
        ------
        ValueError
            When shapes, types or values are wrong, or C, ``positive_weight`` or ``bias`` is not positive.
        InputError
            When the solver is unknown, or liblinear needs too much memory.
        """
        targets = np.asarray(targets)
        _check_rows(rows)
        if targets.ndim != 2 or len(targets) != len(rows) or not np.isin(targets, (-1, 0, 1)).all():
            raise ValueError(
                f"targets must be 1, 0 or -1 of shape ({len(rows)}, classes), not {np.unique(targets)} of shape "
                f"{targets.shape}"
            )
        if gram is not None and gram.shape != (len(rows), len(rows)):
            raise ValueError(f"gram must have shape ({len(rows)}, {len(rows)}), not {gram.shape}")
        if min(self.C, self.positive_weight, self.bias) <= 0:
            raise ValueError(
                f"C, positive_weight and bias must be positive, not {self.C}, {self.positive_weight} and {self.bias}"
            )
        options = SVMOptions(
            C=self.C,
            positive_weight=self.positive_weight,
            bias=self.bias,
            tolerance=self.tolerance,
            max_epochs=self.max_epochs,
            max_gigabytes=self.max_gigabytes,
            solver=self.solver,
        )
        if options.solver == "liblinear":
            if gram is not None:
                raise ValueError("liblinear does not use inner products: leave gram out")
            return self._fit_liblinear(rows, targets, options)
        if gram is None and len(rows) > MAX_GRAM_ROWS:
            return self._fit_rows(rows, targets, options)
        return self._fit_gram(rows, targets, gram_matrix(rows) if gram is None else np.ascontiguousarray(gram))

    def decision_function(self, rows: Array) -> Array:
        """Scores, float32 (N, classes), of float16 or float32 rows (N, width).

        Raises
        ------
        ValueError
            Before :meth:`fit`, or for rows of another width or type.
        """
        if not hasattr(self, "coef_"):
            raise ValueError("call fit before decision_function")
        _check_rows(rows, self.coef_.shape[1])
        weights = torch.from_numpy(self.coef_).T
        scores = torch.empty(len(rows), len(self.coef_))
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            scores[part] = torch.from_numpy(rows[part]).float() @ weights
        return scores.numpy() + self.intercept_

    def predict(self, rows: Array) -> Array:
        """Predicted targets, int8 (N, classes), of rows (N, width): 1 where the score is more than 0.

        Raises
        ------
        ValueError
            As :meth:`decision_function` does.
        """
        return (self.decision_function(rows) > 0).astype(np.int8)

    def _fit_gram(self, rows: Array, targets: Array, gram: Array) -> OneVsRest:
        _check_finite(gram.diagonal())
        signs = np.where(targets.T > 0, 1.0, -1.0)
        limits = np.where(targets.T > 0, self.C * self.positive_weight, self.C) * (targets.T >= 0)
        alpha = np.zeros(signs.shape)
        most = self.max_epochs * max(1, len(rows))

        def solve_class(index: int) -> bool:
            of_class = signs[index], limits[index], self.bias**2, alpha[index]
            return bool(solve(gram, *of_class, self.tolerance, most) < most)

        with ThreadPoolExecutor(self._workers) as pool:
            self.converged_ = np.array(list(pool.map(solve_class, range(len(signs)))), bool)
        dual = torch.from_numpy(alpha * signs).float()
        coef = torch.empty(len(dual), rows.shape[1])
        for column in range(0, rows.shape[1], COLUMNS):
            part = slice(column, column + COLUMNS)
            coef[:, part] = dual @ torch.from_numpy(rows[:, part]).float()
        self.coef_ = coef.numpy()
        self.intercept_ = (self.bias**2 * (alpha * signs).sum(axis=1)).astype(np.float32)
        return self

    def _fit_liblinear(self, rows: Array, targets: Array, options: SVMOptions) -> OneVsRest:
        _check_finite(np.abs(rows).max(axis=1, initial=0))
        classes = targets.shape[1]
        self.coef_, self.intercept_ = np.zeros((classes, rows.shape[1]), np.float32), np.zeros(classes, np.float32)
        self.converged_ = np.ones(classes, bool)
        both = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
        for index in np.flatnonzero(both):
            used = targets[:, index] >= 0
            signs = np.where(targets[used, index] > 0, 1, -1)
            self.coef_[index], self.intercept_[index], epochs = liblinear(rows[used], signs, 1.0, options, self.seed)
            self.converged_[index] = epochs < self.max_epochs
        if not both.all():
            ours = copy(self)
            ours.solver = "coordinate descent"
            ours.fit(rows, targets[:, ~both])
            self.coef_[~both], self.intercept_[~both] = ours.coef_, ours.intercept_
            self.converged_[~both] = ours.converged_
        return self

    def _fit_rows(self, rows: Array, targets: Array, options: SVMOptions) -> OneVsRest:
        store = RowStore(rows.shape[1], len(rows))
        numbers = store.add(rows)
        _check_finite(store.squares)
        machines = []
        for of_class in targets.T:
            machine = LinearSVM(store, options, scale=1.0, seed=self.seed)
            machine.add(numbers[of_class == 1], 1)
            machine.add(numbers[of_class == 0], -1)
            machines.append(machine)
        fit_all(machines, self._workers)
        planes = [machine.hyperplane() for machine in machines]
        self.coef_ = np.array([weights for weights, _ in planes], np.float32).reshape(len(planes), rows.shape[1])
        self.intercept_ = np.array([intercept for _, intercept in planes], np.float32)
        self.converged_ = np.array([machine.epochs_ < self.max_epochs for machine in machines], bool)
        return self

    @property
    def _workers(self) -> int:
        return self.threads or cpu_count()


def _check_rows(rows: Array, width: int | None = None) -> None:
    if rows.ndim != 2 or rows.dtype not in (np.float16, np.float32) or width not in (None, rows.shape[1]):
        wanted = "width" if width is None else width
        raise ValueError(f"rows must be float16 or float32 of shape (N, {wanted}), not {rows.dtype} {rows.shape}")


def _check_finite(squares: Array) -> None:
    if not np.isfinite(squares).all():
        raise ValueError(f"rows must be finite numbers, not those of row {int(np.argmin(np.isfinite(squares)))}")


def choose(
    rows: Array,
    targets: Array,
    held_rows: Array,
    held_targets: Array,
    costs: Sequence[float],
    score: Callable[[Array, Array], float],
    gram: Array | None = None,
) -> dict[float, float]:
    """Score SVMs on held-out rows for each candidate for C.

    Parameters
    ----------
    rows, targets
        Training set, as in :meth:`OneVsRest.fit`.
    held_rows, held_targets
        Held-out set.
    costs : sequence of float
        Candidates for C.
    score : function
        ``score(scores, targets)``, both (N, classes); higher is better.
    gram : float32 array (N, N), optional
        Inner products of ``rows``.

    Returns
    -------
    dict from float to float
        Score of each candidate, in the given order, so ``max(found, key=found.get)`` is the first of the best ones.
    """
    if gram is None and len(rows) <= MAX_GRAM_ROWS:
        gram = gram_matrix(rows)
    fitted = {C: OneVsRest(C=C).fit(rows, targets, gram) for C in costs}
    return {C: score(svm.decision_function(held_rows), held_targets) for C, svm in fitted.items()}


def random_splits(
    labels: Array, per_class_train: int = 30, per_class_test: int = 50, splits: int = 10, seed: int = 0
) -> list[tuple[Array, Array]]:
    """Random training and test sets by Caltech101's protocol (Fei-Fei et al., 2004; paper, section 3.3).

    scikit-learn's splitters draw a share of the whole set, not a fixed number of images per class.

    Parameters
    ----------
    labels : int array (N,)
        Class of each image.
    per_class_train, per_class_test : int
        Images drawn from each class. A class with too few keeps one for testing; a class with a single image keeps
        none.
    splits : int
    seed : int

    Returns
    -------
    list of (train, test)
        Ascending int64 indices; the two sets of a pair are disjoint.

    Raises
    ------
    ValueError
        When ``per_class_train`` or ``per_class_test`` is less than 1.
    """
    if min(per_class_train, per_class_test) < 1:
        raise ValueError(f"a class needs 1 or more images in each part, not {per_class_train} and {per_class_test}")
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        train, test = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            count = min(per_class_train, max(1, len(members) - 1))
            train.append(members[:count])
            test.append(members[count : count + per_class_test])
        found.append((np.sort(np.concatenate(train)), np.sort(np.concatenate(test))))
    return found
