"""The problem of :mod:`.svm` by liblinear, through scikit-learn: the reference's own solver, where memory allows it.

It keeps weights in double precision, which hard problems need: at C = 3 and a bias of 10 (200 rows of 50 numbers)
liblinear is done after 10,000 epochs, while the single-precision weights of our solver have drifted to an objective 2 %
higher after 50,000. At the C of detectors and within 300 epochs the two do not differ so.
"""

from __future__ import annotations

import warnings

import numpy as np

from ...data.arrays import Array
from ...data.errors import InputError
from ..options import SVMOptions

#: What liblinear needs for a number of a row: the row in double precision, and its own copy of that.
BYTES = 16


def liblinear(rows: Array, signs: Array, scale: float, options: SVMOptions, seed: int) -> tuple[Array, float, int]:
    """Solve one class's problem from nothing.

    Parameters
    ----------
    rows : float array (N, width)
    signs : array (N,)
        +1 for positives, -1 for negatives; some of each.
    scale : float
        Factor on the rows.
    options : SVMOptions
    seed : int
        Of the order of steps. It is the whole process's, so problems in several threads would disturb each other.

    Returns
    -------
    weights : float64 array (width,)
        Of the scaled rows.
    intercept : float
    epochs : int
        ``options.max_epochs`` where they did not suffice.

    Raises
    ------
    InputError
        When ``options.max_gigabytes`` is too little for it.
    """
    gigabytes = BYTES * rows.size / 1e9
    if gigabytes > options.max_gigabytes:
        raise InputError(
            f"the solver 'liblinear' needs {gigabytes:.3g} GB for {len(rows)} rows of {rows.shape[1]} numbers in "
            f"double precision, and max_gigabytes is {options.max_gigabytes:g}: raise it, or take the solver "
            "'coordinate descent', which reads rows in half precision and goes on from its last solution"
        )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        loss="hinge",
        dual=True,
        C=options.C,
        class_weight={1: options.positive_weight, -1: 1.0},
        intercept_scaling=options.bias,
        tol=options.tolerance,
        max_iter=options.max_epochs,
        random_state=seed,
    )
    scaled = rows.astype(np.float64)
    scaled *= scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs tell
        machine.fit(scaled, np.where(signs > 0, 1, -1))
    return machine.coef_[0], float(machine.intercept_[0]), int(machine.n_iter_)
