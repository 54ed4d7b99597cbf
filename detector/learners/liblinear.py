"""Solve the problem of :mod:`.svm` with liblinear, through scikit-learn: the reference's solver, if memory allows.

liblinear keeps weights in double precision, which hard problems need. At C = 3 and a bias of 10 (200 rows of 50
features) it converges within 10,000 epochs. The single-precision weights of our solver drift: after 50,000 epochs the
objective is 2 % higher. At the C of detectors and within 300 epochs there is no such difference.
"""

from __future__ import annotations

import warnings

import numpy as np

from ...data.arrays import Array
from ...data.errors import InputError
from ..options import SVMOptions

#: Bytes that liblinear needs per feature of a row: 8 in our double-precision copy, and an index beside the value in its
#: own. (40 million features took 0.32 GB and 0.64 GB.)
BYTES = 24


def liblinear(rows: Array, signs: Array, scale: float, options: SVMOptions, seed: int) -> tuple[Array, float, int]:
    """Solve the problem of one class from scratch.

    Parameters
    ----------
    rows : float array (N, width)
    signs : array (N,)
        +1 for positives, -1 for negatives; some of each.
    scale : float
        Factor on the rows.
    options : SVMOptions
    seed : int
        Seed of the step order. The generator is global to the process, so do not solve in several threads.

    Returns
    -------
    weights : float64 array (width,)
        Weights for the scaled rows.
    intercept : float
    epochs : int
        ``options.max_epochs`` if the solver did not converge.

    Raises
    ------
    InputError
        When it needs more than ``options.max_gigabytes``.
    """
    gigabytes = BYTES * rows.size / 1e9
    if gigabytes > options.max_gigabytes:
        raise InputError(
            f"the solver 'liblinear' needs {gigabytes:.3g} GB for {len(rows)} rows of {rows.shape[1]} features in "
            f"double precision, and max_gigabytes is {options.max_gigabytes:g}: raise it, or use the solver "
            "'coordinate descent', which reads rows in half precision and starts from its last solution"
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
        warnings.simplefilter("ignore", ConvergenceWarning)  # the returned epochs show it
        machine.fit(scaled, np.where(signs > 0, 1, -1))
    return machine.coef_[0], float(machine.intercept_[0]), int(machine.n_iter_)
