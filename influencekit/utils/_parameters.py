"""Names of an estimator's parameters, with the one that a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

from sklearn.base import BaseEstimator

from influencekit.utils._suggest import did_you_mean

__all__ = ["SuggestingEstimator"]


class SuggestingEstimator(BaseEstimator):
    """Errors of the constructor and of ``set_params`` suggest the parameter that was meant.

    A class takes it in place of scikit-learn's ``BaseEstimator``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _suggesting(vars(cls)["__init__"]))  # noqa: B010

    def set_params(self, **params):
        """Set parameters, those of a held estimator by ``<name>__<its parameter>``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        names = sorted(self.get_params(deep=False))
        for key in params:
            name = key.partition("__")[0]
            if name not in names:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}. "
                    f"Valid parameters are: {names}.{did_you_mean(name, names)}"
                )
        return super().set_params(**params)


def _suggesting(init: Callable) -> Callable:
    """The same constructor; its error at an unknown keyword suggests a known one."""
    names = list(signature(init).parameters)[1:]

    @wraps(init)
    def __init__(self, *args, **params):
        try:
            init(self, *args, **params)
        except TypeError as error:
            said = str(error)
            unknown = [name for name in params if f"keyword argument {name!r}" in said]
            hint = did_you_mean(unknown[0], names) if unknown else ""
            if not hint or "Did you mean" in said:  # Python 3.13 says it by itself
                raise
            raise TypeError(f"{said}.{hint}") from None

    return __init__
