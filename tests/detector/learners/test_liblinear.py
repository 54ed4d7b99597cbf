"""The solver "liblinear" finds the same planes as our own, for all uses of SVMs, and reports unsupported calls."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import linear as slow
from sppnet.data.errors import InputError
from sppnet.detector.learners.liblinear import liblinear
from sppnet.detector.learners.one_vs_rest import OneVsRest
from sppnet.detector.learners.svm import LinearSVM, RowStore, fit_all
from sppnet.detector.options import SVMOptions

EXACT = SVMOptions(tolerance=1e-5, max_epochs=50_000, solver="liblinear")


def half(rows):
    """Numbers that half precision holds exactly, so that both solvers have the same problem."""
    return np.asarray(rows, np.float16).astype(np.float32)


def planted(seed, count=200, width=50):
    rng = np.random.default_rng(seed)
    rows, signs = np.abs(rng.normal(size=(count, width))), np.where(rng.random(count) < 0.2, 1, -1)
    rows[signs > 0, :3] += 1
    return half(rows), signs


def nasty(kind):
    rows, signs = planted(1, 40, 6)
    if kind == "equal rows of both signs":
        rows[20:] = rows[:20]
        signs = np.repeat([1, -1], 20)
    elif kind == "zero rows":
        rows[::3] = 0
    elif kind == "nothing but zeros":
        rows[:] = 0
    elif kind == "one row of each sign":
        rows, signs = rows[:2], np.array([1, -1])
    elif kind == "one positive among many":
        signs[:] = -1
        signs[7] = 1
    elif kind == "more numbers than rows":
        rows, signs = planted(2, 8, 300)
    elif kind == "one number a row":
        rows = rows[:, :1]
    elif kind == "negatives first and numbers of either sign":
        rows, signs = half(np.random.default_rng(3).normal(size=(60, 5))), np.repeat([-1, 1], 30)
    return rows, signs


NASTY = (
    "equal rows of both signs",
    "zero rows",
    "nothing but zeros",
    "one row of each sign",
    "one positive among many",
    "more numbers than rows",
    "one number a row",
    "negatives first and numbers of either sign",
)


def machine_for(rows, signs, options, scale=1.0):
    machine = LinearSVM(RowStore(rows.shape[1], len(rows)), options, scale, seed=3)
    numbers = machine.store.add(rows)
    machine.add(numbers[signs > 0], 1)
    machine.add(numbers[signs < 0], -1)
    return machine


def assert_same_plane(rows, signs, options, scale=1.0):
    theirs = machine_for(rows, signs, options, scale).fit()
    ours = machine_for(rows, signs, replace(options, solver="coordinate descent"), scale).fit()
    assert max(theirs.epochs_, ours.epochs_) < options.max_epochs
    (weights, intercept), (expected, expected_intercept) = theirs.hyperplane(), ours.hyperplane()
    assert weights.dtype == expected.dtype == np.float32
    size = max(float(np.abs(expected).max()), abs(expected_intercept), 1e-6)
    np.testing.assert_allclose(weights, expected, atol=1e-3 * size)
    assert intercept == pytest.approx(expected_intercept, abs=1e-3 * size)
    np.testing.assert_allclose(theirs.scores(), ours.scores(), atol=1e-3 * max(np.abs(ours.scores()).max(), 1))


@pytest.mark.parametrize("positive_weight", [1.0, 2.0, 7.5])
@pytest.mark.parametrize("bias", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("C", [0.001, 0.1, 1.0])
def test_planes_are_those_of_our_own_solver(C, bias, positive_weight):
    rows, signs = planted(0)
    assert_same_plane(rows, signs, replace(EXACT, C=C, bias=bias, positive_weight=positive_weight), scale=0.4)


def test_a_problem_that_single_precision_drifts_away_from_is_solved():
    """Our solver on inner products, with gradients in double precision, agrees."""
    rows, signs = planted(0)
    options = replace(EXACT, C=3.0, positive_weight=2.0, bias=10.0)
    weights, intercept, epochs = liblinear(rows, signs, 1.0, options, 0)
    assert epochs < options.max_epochs
    own = OneVsRest(C=3.0, positive_weight=2.0, bias=10.0, tolerance=1e-5, max_epochs=100_000)
    own.fit(rows, (signs > 0)[:, None].astype(np.int8))
    np.testing.assert_allclose(weights, own.coef_[0], atol=1e-3 * np.abs(weights).max())
    assert intercept == pytest.approx(float(own.intercept_[0]), abs=1e-3 * float(np.abs(weights).max()))


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("options", [{"C": 0.001, "bias": 10.0}, {"C": 2.0, "bias": 1.0, "positive_weight": 3.0}])
def test_planes_of_nasty_problems_are_those_of_our_own_solver(kind, options):
    rows, signs = nasty(kind)
    assert_same_plane(rows, signs, replace(EXACT, **options))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_planes_are_those_of_the_slow_twin(data):
    count, width = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 3))
    number = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0])
    row = st.lists(number, min_size=width, max_size=width)
    rows = np.array(data.draw(st.lists(row, min_size=count, max_size=count)))
    # liblinear stops once the projected gradients are equal, as those of equal or alike rows may be by chance.
    rows = half(rows + np.random.default_rng(0).normal(0, 0.1, rows.shape))
    targets = [1, 0, *data.draw(st.lists(st.sampled_from([0, 1]), min_size=count - 2, max_size=count - 2))]
    C, weight, bias = data.draw(st.sampled_from([(0.1, 1.0, 1.0), (1.0, 2.0, 1.0), (0.01, 2.0, 10.0)]))
    options = replace(EXACT, C=C, positive_weight=weight, bias=bias, tolerance=1e-7)
    weights, intercept, _ = liblinear(rows, np.where(targets, 1, -1), 1.0, options, 0)
    planes = (weights, intercept), slow.descend(rows, targets, C, weight, bias)
    # Rows near zero have many planes that are nearly as good.
    values = [slow.primal(rows, targets, *plane, C, weight, bias) for plane in planes]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_rows_that_arrive_and_leave_do_not_matter_to_a_start_from_nothing():
    rows, signs = planted(4)
    machine = machine_for(rows[:150], signs[:150], EXACT)
    machine.store = RowStore(rows.shape[1], len(rows))
    machine.members = machine.store.add(np.concatenate([rows[:150][signs[:150] > 0], rows[:150][signs[:150] < 0]]))
    low = (machine.fit().scores() < -1.02) & (machine.signs < 0)
    assert machine.evict(-1.02) == low.sum() > 0
    machine.shed(30)
    assert (machine.signs < 0).sum() == 30
    kept = machine.store.rows[machine.members].view(np.float16).astype(np.float32)
    more = signs[150:] < 0
    machine.add(machine.store.add(rows[150:][more]), -1)
    assert machine.fresh == 150 + more.sum() - 150
    machine.fit()
    assert machine.fresh == 0
    known = np.concatenate([kept, rows[150:][more]])
    known_signs = machine.signs.astype(int)
    at_once = machine_for(known, known_signs, replace(EXACT, solver="coordinate descent")).fit()
    np.testing.assert_allclose(machine.weights_, at_once.weights_, atol=1e-3 * np.abs(at_once.weights_).max())


def test_a_class_that_has_rows_of_one_sign_only_is_left_to_our_own_solver():
    rows, _ = planted(5, 30, 8)
    alone = machine_for(rows, np.ones(30), EXACT).fit()
    ours = machine_for(rows, np.ones(30), replace(EXACT, solver="coordinate descent")).fit()
    np.testing.assert_array_equal(alone.weights_, ours.weights_)
    # Solved with both signs in between, it starts from nothing all the same.
    machine = machine_for(rows, np.where(np.arange(30) < 20, 1, -1), EXACT).fit()
    machine.members, machine.signs, machine.alpha = machine.members[:20], machine.signs[:20], machine.alpha[:20]
    expected = machine_for(rows[:20], np.ones(20), EXACT).fit()
    np.testing.assert_allclose(machine.fit().weights_, expected.weights_, atol=1e-6)
    np.testing.assert_array_equal(machine_for(rows[:0], np.ones(0), EXACT).fit().weights_, 0)


def test_our_own_solver_may_follow():
    rows, signs = planted(10)
    ours = replace(EXACT, solver="coordinate descent")
    machine = machine_for(rows, signs, EXACT).fit().set_params(options=ours).fit()
    np.testing.assert_array_equal(machine.weights_, machine_for(rows, signs, ours).fit().weights_)


def test_machines_that_are_fitted_together_do_not_disturb_each_other():
    rows, signs = planted(6, 300, 20)
    options = replace(EXACT, tolerance=0.1, C=1.0)
    machines = [machine_for(rows, np.roll(signs, 5 * shift), options) for shift in range(6)]
    fit_all(machines, 6)
    for shift, machine in enumerate(machines):
        alone = machine_for(rows, np.roll(signs, 5 * shift), options).fit()
        np.testing.assert_array_equal(machine.weights_, alone.weights_)


def test_a_problem_that_was_stopped_says_so_without_a_warning(recwarn):
    rows, signs = planted(7)
    machine = machine_for(rows, signs, replace(EXACT, C=1000.0, max_epochs=2)).fit()
    assert machine.epochs_ == 2
    assert (
        not OneVsRest(C=1000.0, tolerance=1e-9, max_epochs=2, solver="liblinear")
        .fit(rows, (signs > 0)[:, None].astype(np.int8))
        .converged_.any()
    )
    assert len(recwarn) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_against_the_rest_gives_the_same_planes_by_either_solver(dtype):
    rng = np.random.default_rng(8)
    rows, targets = half(rng.normal(size=(60, 9))).astype(dtype), rng.integers(-1, 2, (60, 6)).astype(np.int8)
    targets[:, 1], targets[:, 3], targets[:, 5] = 1, 0, -1  # some without positives, negatives or both
    options = {"C": 0.7, "positive_weight": 2.0, "bias": 10.0, "tolerance": 1e-5, "max_epochs": 50_000}
    ours = OneVsRest(**options).fit(rows, targets)
    theirs = OneVsRest(**options, solver="liblinear").fit(rows, targets)
    assert theirs.converged_.all()
    assert theirs.coef_.dtype == theirs.intercept_.dtype == np.float32
    np.testing.assert_allclose(theirs.coef_, ours.coef_, atol=1e-3)
    np.testing.assert_allclose(theirs.intercept_, ours.intercept_, atol=1e-3)
    assert theirs.solver == "liblinear"


def test_too_little_memory_is_an_error_that_says_what_to_do():
    rows, signs = planted(9)
    options = replace(EXACT, max_gigabytes=2.3e-4)  # of 2.4e-4: 200 rows of 50 features of 24 bytes
    with pytest.raises(
        InputError,
        match=r"'liblinear' needs 0\.00024 GB for 200 rows of 50 features in double precision, and max_gigabytes is "
        r"0\.00023: raise it, or use the solver 'coordinate descent', which reads rows in half precision and starts "
        r"from its last solution",
    ):
        machine_for(rows, signs, options).fit()
    machine_for(rows, signs, replace(options, max_gigabytes=2.4e-4)).fit()
    with pytest.raises(InputError, match="raise it"):
        OneVsRest(solver="liblinear", max_gigabytes=2.3e-4).fit(rows, (signs > 0)[:, None].astype(np.int8))


def test_what_it_cannot_do_is_refused():
    rows, targets = half(np.eye(3)), np.eye(3, dtype=np.int8)
    with pytest.raises(ValueError, match="leave gram out"):
        OneVsRest(solver="liblinear").fit(rows, targets, rows @ rows.T)
    with pytest.raises(ValueError, match="must be finite numbers, not those of row 1"):
        OneVsRest(solver="liblinear").fit(np.diag([1, np.inf, 1]).astype(np.float32), targets)
    for call in (lambda: SVMOptions(solver="libsvm"), lambda: OneVsRest(solver="libsvm").fit(rows, targets)):
        with pytest.raises(InputError, match="must be one of coordinate descent, liblinear, not 'libsvm'"):
            call()
