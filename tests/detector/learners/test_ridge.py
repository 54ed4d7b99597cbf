"""Box regressors equal the textbook's primal ridge regression and learn a planted shift."""

import numpy as np
import pytest
from sppnet.detector.learners.gram import gram_matrix
from sppnet.detector.learners.ridge import BoxRegressor
from sppnet.detector.options import BoxOptions


def data(seed, count=60, width=25):
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.normal(size=(count, width))).astype(np.float16)
    deltas = (rows.astype(np.float64) @ rng.normal(size=(width, 4)) * 0.05 + [0.1, -0.2, 0.3, 0]).astype(np.float32)
    return rows, deltas


def primal_ridge(rows, deltas, scale, ridge):
    """(X'X + ridge I) W = X'T with a constant feature, whitened targets, one equation system (R-CNN, appendix C)."""
    x = np.hstack([rows.astype(np.float64) * scale, np.ones((len(rows), 1))])
    mean = deltas.mean(axis=0, dtype=np.float64)
    centred = deltas - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(deltas) + 1e-3 * np.eye(4))
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    solution = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ centred @ np.linalg.inv(root)) @ root
    return solution[:-1] * scale, solution[-1] + mean


@pytest.mark.parametrize("ridge", [0.1, 10.0, 4000.0])
@pytest.mark.parametrize("count", [3, 60, 200])
def test_dual_solution_equals_the_primal(ridge, count):
    rows, deltas = data(count, count=count)
    machine = BoxRegressor(BoxOptions(ridge=ridge), scale=1.7).fit(rows, deltas)
    weights, intercept = primal_ridge(rows, deltas, 1.7, ridge)
    np.testing.assert_allclose(machine.weights_, weights, atol=2e-4 * max(np.abs(weights).max(), 1e-3))
    np.testing.assert_allclose(machine.intercept_, intercept, atol=2e-4)


def test_planted_relation_is_recovered():
    rows, deltas = data(1, count=400)
    machine = BoxRegressor(BoxOptions(ridge=1e-3), scale=1.0).fit(rows, deltas)
    fresh, wanted = data(1, count=400)
    np.testing.assert_allclose(machine.predict(fresh.astype(np.float32)), wanted, atol=2e-3)


def test_gram_matrix_in_blocks_equals_the_product():
    rows = np.random.default_rng(2).normal(size=(20, 9000)).astype(np.float16)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(gram_matrix(rows), wide @ wide.T, rtol=1e-5, atol=1e-2)


def test_known_gram_gives_the_same_fit():
    rows, deltas = data(3)
    plain = BoxRegressor(BoxOptions(), 1.0).fit(rows, deltas)
    given = BoxRegressor(BoxOptions(), 1.0).fit(rows, deltas, gram_matrix(rows))
    np.testing.assert_array_equal(plain.weights_, given.weights_)


def test_one_window_and_none():
    rows, deltas = data(4, count=1)
    machine = BoxRegressor(BoxOptions(), 1.0).fit(rows, deltas)
    np.testing.assert_allclose(machine.predict(rows.astype(np.float32)), deltas, atol=1e-3)
    with pytest.raises(ValueError, match="at least one window"):
        machine.fit(rows[:0], deltas[:0])
