"""The linear learners behave as scikit-learn's estimators do."""

import numpy as np
import pytest
from sppnet.detector.learners.one_vs_rest import OneVsRest
from sppnet.detector.learners.ridge import BoxRegressor
from sppnet.detector.learners.svm import LinearSVM, RowStore
from sppnet.detector.options import BoxOptions, SVMOptions

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 8)).astype(np.float32)
SIDE = ROWS[:, 0] > 0
TARGETS = np.stack([SIDE, ~SIDE, ROWS[:, 1] > 0], axis=1).astype(np.int8)


def machine():
    store = RowStore(8, 60)
    svm = LinearSVM(store, SVMOptions(C=10.0, tolerance=1e-4), 0.3, seed=7)
    numbers = store.add(ROWS)
    svm.add(numbers[SIDE], 1)
    svm.add(numbers[~SIDE], -1)
    return svm


def estimators():
    return [machine(), OneVsRest(C=3.0, threads=1), BoxRegressor(BoxOptions(ridge=2.0), 1.7)]


@pytest.mark.parametrize("estimator", estimators(), ids=lambda one: type(one).__name__)
def test_parameters_are_the_arguments_and_another_of_the_kind_is_made_of_them(estimator):
    params = estimator.get_params()
    again = type(estimator)(**params)
    assert all(again.get_params(deep=False)[name] is value for name, value in params.items())


@pytest.mark.parametrize("estimator", estimators(), ids=lambda one: type(one).__name__)
def test_scikit_learn_clones_them(estimator):
    clone = pytest.importorskip("sklearn.base").clone
    copy = clone(estimator)
    assert type(copy) is type(estimator)
    assert copy is not estimator
    assert copy.get_params() == estimator.get_params()


def test_a_clone_has_learnt_nothing():
    clone = pytest.importorskip("sklearn.base").clone
    fitted = OneVsRest().fit(ROWS, TARGETS)
    assert not hasattr(clone(fitted), "coef_")
    svm = machine().fit()
    assert clone(svm).store is svm.store
    assert not clone(svm).weights_.any()


def test_a_parameter_can_be_changed_and_an_unknown_one_is_refused():
    svm = OneVsRest()
    assert svm.set_params(C=2.5, bias=0.5) is svm
    assert (svm.C, svm.bias) == (2.5, 0.5)
    np.testing.assert_array_equal(svm.fit(ROWS, TARGETS).coef_, OneVsRest(C=2.5, bias=0.5).fit(ROWS, TARGETS).coef_)
    with pytest.raises(ValueError, match="OneVsRest has no parameter 'gamma'; it has C, positive_weight, bias"):
        svm.set_params(C=1.0, gamma=2)
    assert svm.C == 2.5


def test_predictions_are_the_signs_of_the_scores():
    classes = OneVsRest(C=100.0).fit(ROWS, TARGETS)
    np.testing.assert_array_equal(classes.predict(ROWS), classes.decision_function(ROWS) > 0)
    assert (classes.predict(ROWS) == TARGETS).mean() > 0.9
    svm = machine()
    assert svm.fit() is svm
    # The store has rows in half precision.
    np.testing.assert_allclose(svm.decision_function(ROWS)[SIDE], svm.scores()[: SIDE.sum()], atol=2e-2)
    np.testing.assert_array_equal(svm.predict(ROWS), np.sign(svm.decision_function(ROWS)))
    assert (svm.predict(ROWS) == np.where(SIDE, 1, -1)).mean() > 0.9


def test_prediction_needs_a_fit():
    for estimator in (OneVsRest(), BoxRegressor(BoxOptions(), 1.0)):
        with pytest.raises(ValueError, match="call fit before"):
            estimator.predict(ROWS)
