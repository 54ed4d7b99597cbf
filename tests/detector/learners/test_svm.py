"""Our linear SVM solves liblinear's problem; warm starts, eviction and shared rows do not change it."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC
from sppnet.detector.learners.svm import LinearSVM, RowStore, fit_all
from sppnet.detector.options import SVMOptions

EXACT = SVMOptions(tolerance=1e-5, max_epochs=100_000)


def problem(seed, count=300, width=400, positive=0.1):
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.normal(size=(count, width))).astype(np.float16).astype(np.float32)
    signs = np.where(rng.random(count) < positive, 1, -1)
    rows[signs > 0, : width // 20] += 1
    rows = rows.astype(np.float16).astype(np.float32)
    return rows, signs, 20 / np.linalg.norm(rows, axis=1).mean()


def machine_for(rows, signs, scale, options=EXACT, store=None):
    store = store or RowStore(rows.shape[1], len(rows))
    machine = LinearSVM(store, options, scale)
    numbers = store.add(rows)
    machine.add(numbers[signs > 0], 1)
    machine.add(numbers[signs < 0], -1)
    return machine


def objective(rows, signs, scale, weights, intercept, options):
    """liblinear's primal: half the squared norm (bias included) and the weighted hinge losses."""
    scores = rows * scale @ (weights / scale) + intercept
    cost = options.C * np.where(signs > 0, options.positive_weight, 1)
    bias_weight = intercept / options.bias
    return (
        0.5 * (weights / scale @ (weights / scale) + bias_weight**2) + (cost * np.maximum(0, 1 - signs * scores)).sum()
    )


@pytest.mark.parametrize("seed", range(4))
def test_solution_equals_liblinears(seed):
    rows, signs, scale = problem(seed)
    weights, intercept = machine_for(rows, signs, scale).fit().hyperplane()
    liblinear = LinearSVC(
        loss="hinge",
        C=EXACT.C,
        class_weight={1: EXACT.positive_weight, -1: 1},
        intercept_scaling=EXACT.bias,
        tol=1e-7,
        max_iter=1_000_000,
    ).fit(rows * scale, signs)
    np.testing.assert_allclose(weights / scale, liblinear.coef_[0], atol=2e-4 * np.abs(liblinear.coef_).max())
    assert intercept == pytest.approx(liblinear.intercept_[0], abs=2e-4)
    ours = objective(rows, signs, scale, weights, intercept, EXACT)
    theirs = objective(rows, signs, scale, liblinear.coef_[0] * scale, liblinear.intercept_[0], EXACT)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_rows_that_arrive_later_lead_to_the_same_solution():
    rows, signs, scale = problem(5)
    at_once = machine_for(rows, signs, scale).fit()
    store = RowStore(rows.shape[1], len(rows))
    in_parts = LinearSVM(store, EXACT, scale)
    for part in np.array_split(np.arange(len(rows)), 4):
        numbers = store.add(rows[part])
        in_parts.add(numbers[signs[part] > 0], 1)
        in_parts.add(numbers[signs[part] < 0], -1)
        assert in_parts.fresh == len(part)
        in_parts.fit()
        assert in_parts.fresh == 0
    np.testing.assert_allclose(in_parts.weights_, at_once.weights_, atol=2e-4 * np.abs(at_once.weights_).max())


def test_evicted_negatives_do_not_carry_the_solution():
    rows, signs, scale = problem(6)
    machine = machine_for(rows, signs, scale).fit()
    before = machine.weights_.copy()
    low = (machine.scores() < -1.05) & (machine.signs < 0)
    assert machine.evict(-1.05) == low.sum() > 0
    assert (machine.signs > 0).sum() == (signs > 0).sum()
    machine.alpha[:] = 0
    machine.weights_[:] = 0
    machine.fit()
    np.testing.assert_allclose(machine.weights_, before, atol=2e-4 * np.abs(before).max())


def test_shedding_keeps_the_hardest_and_the_weights_consistent():
    rows, signs, scale = problem(7)
    machine = machine_for(rows, signs, scale).fit()
    scores = machine.scores()
    hardest = np.sort(scores[machine.signs < 0])[-50:]
    machine.shed(50)
    assert (machine.signs < 0).sum() == 50
    kept_rows = machine.store.rows[machine.members].view(np.float16).astype(np.float64)
    combined = (machine.alpha * machine.signs) @ (kept_rows * scale)
    np.testing.assert_allclose(machine.weights_[:-1], combined, atol=1e-5)
    machine_scores = dict(zip(machine_for(rows, signs, scale).members, scores, strict=True))
    kept_scores = np.sort([machine_scores[m] for m in machine.members[machine.signs < 0]])
    np.testing.assert_array_equal(kept_scores, hardest)


def test_classes_share_rows_and_threads_do_not_matter():
    rows, signs, scale = problem(8)
    store = RowStore(rows.shape[1], len(rows))
    numbers = store.add(rows)
    solutions = []
    for threads in (1, 3):
        machines = []
        for label in range(3):
            machine = LinearSVM(store, EXACT, scale, seed=label)
            mine = np.roll(signs, 7 * label)
            machine.add(numbers[mine > 0], 1)
            machine.add(numbers[mine < 0], -1)
            machines.append(machine)
        fit_all(machines, threads)
        solutions.append(np.stack([machine.weights_ for machine in machines]))
    np.testing.assert_array_equal(*solutions)


def test_scores_are_those_of_the_hyperplane():
    rows, signs, scale = problem(9)
    machine = machine_for(rows, signs, scale).fit()
    weights, intercept = machine.hyperplane()
    order = np.concatenate([np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)])
    np.testing.assert_allclose(machine.scores(), rows[order] @ weights + intercept, atol=1e-4)


def test_row_store_reuses_what_is_given_back_and_refuses_more():
    store = RowStore(8, 4)
    first = store.add(np.full((3, 8), 1, np.float32))
    store.keep(first[1:2])
    assert store.room == 3
    second = store.add(np.full((3, 8), 2, np.float32))
    assert set(second) | {first[1]} == {0, 1, 2, 3}
    assert first[1] not in second
    np.testing.assert_array_equal(store.rows[first[1]].view(np.float16), np.ones(8))
    np.testing.assert_array_equal(store.squares[second], [32, 32, 32])
    with pytest.raises(MemoryError, match="1 rows do not fit: room for 0"):
        store.add(np.zeros((1, 8), np.float32))


def test_rows_are_stored_as_halves_with_their_squares():
    rows = (
        np.random.default_rng(0).normal(size=(70, 33)).astype(np.float32)
        * np.logspace(-6, 3, 70, dtype=np.float32)[:, None]
    )
    store = RowStore(33, 100)
    numbers = store.reserve(70)
    store.replace(numbers[::-1], rows)
    half = rows[::-1].astype(np.float16)
    np.testing.assert_array_equal(store.rows[numbers].view(np.float16), half)
    np.testing.assert_allclose(store.squares[numbers], (half.astype(np.float64) ** 2).sum(axis=1), rtol=1e-5)
    assert store.room == 30
    with pytest.raises(MemoryError, match="31 rows do not fit: room for 30"):
        store.reserve(31)


def test_class_without_negatives_or_rows_is_solved_too():
    store = RowStore(5, 10)
    empty = LinearSVM(store, EXACT, 1.0).fit()
    np.testing.assert_array_equal(empty.weights_, 0)
    only_positives = LinearSVM(store, EXACT, 1.0)
    only_positives.add(store.add(np.ones((2, 5), np.float32)), 1)
    assert (only_positives.fit().scores() > 0).all()
