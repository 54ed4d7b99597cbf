"""scikit-learn's manners without scikit-learn, which takes long to import."""

from __future__ import annotations

from inspect import signature
from typing import Any, TypeVar

Self = TypeVar("Self", bound="Estimator")


class Estimator:
    """Parameters are the arguments of ``__init__``, which stores them under their names and does no more with them.

    ``fit`` returns the estimator itself; what it learns has names that end in ``_``. ``sklearn.base.clone`` takes such
    an estimator.

    Examples
    --------
    >>> from sppnet.detector.learners.one_vs_rest import OneVsRest
    >>> svm = OneVsRest(C=10.0)
    >>> svm.set_params(bias=2.0).get_params()["bias"]
    2.0
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by their names.

        Parameters
        ----------
        deep : bool
            Makes no difference: no parameter has parameters of its own.
        """
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self: Self, **params: Any) -> Self:
        """Change some parameters, for the next ``fit``.

        Returns
        -------
        The estimator itself.

        Raises
        ------
        ValueError
            When there is no parameter of that name; nothing is changed then.
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
