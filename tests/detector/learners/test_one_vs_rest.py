"""One-versus-rest SVMs: liblinear's solutions with both solvers; the choice of C; Caltech101's splits."""

import numpy as np
import pytest
from reference import linear as slow
from sklearn.svm import LinearSVC
from sppnet.detector.learners import gram as gram_module
from sppnet.detector.learners import one_vs_rest as module
from sppnet.detector.learners.gram import gram_matrix
from sppnet.detector.learners.one_vs_rest import OneVsRest, choose, random_splits

EXACT = {"tolerance": 1e-5, "max_epochs": 100_000}


def problem(seed, count=120, width=300, classes=4, dtype=np.float32):
    """Unit rows of non-negative numbers, as features are, some of whose labels are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows = np.abs(rng.normal(size=(count, width)))
    rows[np.arange(count), labels] += 3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels[:5] = (labels[:5] + 1) % classes
    return rows.astype(np.float16).astype(dtype), np.eye(classes, dtype=np.int8)[labels]


def objectives(svm, rows, targets):
    pairs = zip(svm.coef_, svm.intercept_, targets.T, strict=True)
    options = svm.C, svm.positive_weight, svm.bias
    return [slow.primal(rows, target, weights, float(bias), *options) for weights, bias, target in pairs]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"C": 0.1}, {}),
        ({"C": 30.0}, {}),
        ({"C": 1.0, "positive_weight": 3.0, "bias": 0.5}, {}),
        ({"C": 10.0}, {"count": 150, "width": 12}),  # more rows than a row has numbers, and no plane between them
    ],
)
def test_every_class_has_liblinears_solution(options, shape):
    rows, targets = problem(0, **shape)
    svm = OneVsRest(**options, **EXACT).fit(rows, targets)
    assert svm.converged_.all()
    ours = objectives(svm, rows, targets)
    for index, target in enumerate(targets.T):
        theirs = LinearSVC(
            loss="hinge",
            C=svm.C,
            class_weight={1: svm.positive_weight, 0: 1},
            intercept_scaling=svm.bias,
            tol=1e-8,
            max_iter=2_000_000,
        ).fit(rows.astype(np.float64), target)
        best = slow.primal(rows, target, theirs.coef_[0], theirs.intercept_[0], svm.C, svm.positive_weight, svm.bias)
        # A gradient off by the tolerance is a hinge loss off by as much, for each row.
        assert ours[index] == pytest.approx(best, rel=1e-5, abs=svm.C * len(rows) * svm.tolerance)
        np.testing.assert_allclose(svm.coef_[index], theirs.coef_[0], atol=1e-3 * np.abs(theirs.coef_).max())
        assert svm.intercept_[index] == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_rows_left_out_of_a_class_have_no_part_in_it():
    rows, targets = problem(1, count=14, width=6, classes=2)
    targets[[0, 3, 8], 0] = -1
    svm = OneVsRest(C=2.0, positive_weight=1.5, **EXACT).fit(rows, targets)
    for weights, intercept, target in zip(svm.coef_, svm.intercept_, targets.T, strict=True):
        expected, expected_intercept = slow.descend(rows, target, 2.0, 1.5, 1.0)
        np.testing.assert_allclose(weights, expected, atol=1e-4)
        assert intercept == pytest.approx(expected_intercept, abs=1e-4)
    kept = targets[:, 0] >= 0
    alone = OneVsRest(C=2.0, positive_weight=1.5, **EXACT).fit(rows[kept], targets[kept, :1])
    np.testing.assert_allclose(svm.coef_[0], alone.coef_[0], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_too_many_rows_for_their_products_are_solved_too(dtype, monkeypatch):
    rows, targets = problem(2, dtype=dtype)
    targets[::7, 1] = -1
    by_products = OneVsRest(C=5.0, **EXACT).fit(rows, targets)
    monkeypatch.setattr(module, "MAX_GRAM_ROWS", len(rows) - 1)
    monkeypatch.setattr(module, "gram_matrix", None)
    by_rows = OneVsRest(C=5.0, **EXACT).fit(rows, targets)
    assert by_rows.converged_.all()
    np.testing.assert_allclose(by_rows.coef_, by_products.coef_, atol=1e-3)
    np.testing.assert_allclose(by_rows.intercept_, by_products.intercept_, atol=1e-3)
    assert by_rows.coef_.dtype == by_rows.intercept_.dtype == by_products.intercept_.dtype == np.float32


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_products_are_those_of_the_whole_rows(count, monkeypatch):
    monkeypatch.setattr(gram_module, "COLUMNS", 5)
    monkeypatch.setattr(gram_module, "ROWS", 7)
    rows = np.random.default_rng(count).normal(size=(count, 13)).astype(np.float16)
    whole = rows.astype(np.float64) @ rows.astype(np.float64).T
    products = gram_matrix(rows)
    assert products.dtype == np.float32
    np.testing.assert_allclose(products, whole, atol=1e-5)


def test_given_products_and_threads_do_not_change_the_solution():
    rows, targets = problem(3)
    alone = OneVsRest(threads=1).fit(rows, targets)
    products = np.pad(gram_matrix(rows), 2)[2:-2, 2:-2]  # a part of a larger matrix
    given = OneVsRest(threads=3).fit(rows, targets, products)
    np.testing.assert_array_equal(given.coef_, alone.coef_)
    np.testing.assert_array_equal(given.intercept_, alone.intercept_)


def test_scores_are_those_of_the_planes(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 50)
    rows, targets = problem(4, dtype=np.float16)
    svm = OneVsRest(C=3.0).fit(rows, targets)
    scores = svm.decision_function(rows)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, rows.astype(np.float64) @ svm.coef_.T + svm.intercept_, atol=1e-5)
    assert svm.decision_function(rows[:0]).shape == (0, 4)


def test_planted_classes_are_found():
    rows, targets = problem(5, count=400, width=60)
    svm = OneVsRest(C=1.0).fit(rows[:300], targets[:300])
    assert (svm.decision_function(rows[300:]).argmax(axis=1) == targets[300:].argmax(axis=1)).all()


def test_classes_without_positives_or_negatives_and_no_rows_at_all():
    rows, targets = problem(6, count=30)
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 1, -1
    svm = OneVsRest(C=1.0).fit(rows, targets)
    scores = svm.decision_function(rows)
    assert (scores[:, 0] < 0).all()
    assert (scores[:, 1] > 0).all()
    np.testing.assert_array_equal(scores[:, 2], 0)
    empty = OneVsRest().fit(rows[:0], targets[:0])
    assert empty.converged_.all()
    np.testing.assert_array_equal(empty.decision_function(rows), np.zeros((30, 4)))


def test_equal_rows_of_different_classes_and_zero_rows_do_not_stop_it():
    rows = np.zeros((6, 3), np.float32)
    rows[:4, 0] = 1
    targets = np.array([[1], [0], [1], [0], [1], [0]], np.int8)
    svm = OneVsRest(C=100.0).fit(rows, targets)
    assert svm.converged_.all()
    # No plane parts them: every score is as wrong for one as it is right for the other.
    assert objectives(svm, rows, targets)[0] == pytest.approx(600, rel=1e-3)


def test_a_problem_that_was_stopped_says_so():
    rows, targets = problem(7, count=200, width=10)
    assert not OneVsRest(C=1000.0, tolerance=1e-9, max_epochs=1).fit(rows, targets).converged_.all()


def test_what_does_not_fit_is_refused():
    rows, targets = problem(8, count=10, width=5)
    with pytest.raises(ValueError, match=r"rows must be float16 or float32 of shape \(N, width\), not float64"):
        OneVsRest().fit(rows.astype(np.float64), targets)
    with pytest.raises(ValueError, match=r"targets must be 1, 0 or -1 of shape \(10, classes\), not \[0 1\] of"):
        OneVsRest().fit(rows, targets[:9])
    with pytest.raises(ValueError, match=r"targets must be 1, 0 or -1 of shape \(10, classes\), not \[0 2\]"):
        OneVsRest().fit(rows, 2 * targets)
    with pytest.raises(ValueError, match=r"gram must have shape \(10, 10\), not \(9, 9\)"):
        OneVsRest().fit(rows, targets, gram_matrix(rows[:9]))
    with pytest.raises(ValueError, match=r"must be positive, not 0, 1\.0 and 1\.0"):
        OneVsRest(C=0).fit(rows, targets)
    with pytest.raises(ValueError, match="call fit before decision_function"):
        OneVsRest().decision_function(rows)
    with pytest.raises(ValueError, match=r"rows must be float16 or float32 of shape \(N, 5\), not float32 \(10, 4\)"):
        OneVsRest().fit(rows, targets).decision_function(rows[:, :4])


@pytest.mark.parametrize("most", [5, 100])
def test_rows_that_are_no_numbers_are_refused(most, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRAM_ROWS", most)
    rows, targets = problem(9, count=10, width=5)
    rows[3, 2] = np.nan
    with pytest.raises(ValueError, match="rows must be finite numbers, not those of row 3"):
        OneVsRest().fit(rows, targets)


@pytest.mark.parametrize("most", [5, 1000])
def test_the_candidates_are_scored_on_the_held_out_rows(most, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRAM_ROWS", most)
    rows, targets = problem(10)
    asked = []

    def score(scores, held_targets):
        asked.append(scores)
        np.testing.assert_array_equal(held_targets, targets[90:])
        return -float(np.abs(scores).sum())

    costs = (10.0, 0.01, 1.0)
    found = choose(rows[:90], targets[:90], rows[90:], targets[90:], costs, score)
    assert tuple(found) == costs
    for C, scores in zip(costs, asked, strict=True):
        expected = OneVsRest(C=C).fit(rows[:90], targets[:90]).decision_function(rows[90:])
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        assert found[C] == -float(np.abs(scores).sum())


def test_splits_have_as_many_of_each_class_and_none_twice():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [100, 35, 10, 1]))
    splits = random_splits(labels, 30, 50, splits=4, seed=1)
    assert len(splits) == 4
    for train, test in splits:
        # Of ten photographs one is left to test on; a single one is learnt from.
        np.testing.assert_array_equal(np.bincount(labels[train], minlength=4), [30, 30, 9, 1])
        np.testing.assert_array_equal(np.bincount(labels[test], minlength=4), [50, 5, 1, 0])
        assert len(np.unique(np.concatenate([train, test]))) == len(train) + len(test)
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
    assert len({tuple(train) for train, _ in splits}) == 4
    for again, split in zip(random_splits(labels, 30, 50, splits=4, seed=1), splits, strict=True):
        np.testing.assert_array_equal(again[0], split[0])
        np.testing.assert_array_equal(again[1], split[1])
    assert not np.array_equal(random_splits(labels, 30, 50, 1, seed=2)[0][0], splits[0][0])


def test_splits_of_nothing_and_wrong_counts():
    (train, test), *_ = random_splits(np.zeros(0, np.int64), splits=2)
    assert len(train) == len(test) == 0
    assert train.dtype == test.dtype == np.int64
    with pytest.raises(ValueError, match="1 or more images in each part, not 0 and 50"):
        random_splits(np.zeros(3, np.int64), 0)
