"""scikit-learn's estimator interface without scikit-learn, which is slow to import."""

from __future__ import annotations

from inspect import signature
from typing import Any, TypeVar

Self = TypeVar("Self", bound="Estimator")


class Estimator:
    """Base class of the estimators. ``__init__`` only stores its arguments, the parameters, under their names.

    ``fit`` returns the estimator itself. Names of learned attributes end in ``_``. ``sklearn.base.clone`` accepts
    such an estimator.

    Examples
    --------
    >>> from sppnet.detector.learners.one_vs_rest import OneVsRest
    >>> svm = OneVsRest(C=10.0)
    >>> svm.set_params(bias=2.0).get_params()["bias"]
    2.0
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters as a dict from name to value.

        Parameters
        ----------
        deep : bool
            Has no effect: no parameter has parameters of its own.
        """
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self: Self, **params: Any) -> Self:
        """Change some parameters; the next ``fit`` uses them.

        Returns
        -------
        The estimator itself.

        Raises
        ------
        ValueError
            When a parameter is unknown; nothing is changed then.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_clone__(self: Self) -> Self:
        # A store of rows is shared, not copied: it may hold gigabytes.
        return type(self)(**self.get_params())
