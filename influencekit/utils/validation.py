"""The only file that uses private parts of scikit-learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from inspect import signature
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config, _SetOutputMixin

from influencekit.utils._arguments import warn_unused
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._unused import unused_parameters

__all__ = [
    "FOLDS",
    "HasMethods",
    "HistLeaves",
    "InstanceWith",
    "Interval",
    "OutputContainerMixin",
    "StrOptions",
    "SuggestingEstimator",
    "hist_base",
    "hist_rows",
    "hist_seed",
    "hist_trees",
    "present",
    "validate_parameters",
    "warn_if_set",
]


T = TypeVar("T")


class InstanceWith(HasMethods):
    """Constraint: an object with some methods, and no class.

    Parameters
    ----------
    methods : list of str

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> accepted = InstanceWith(["fit"])
    >>> accepted.is_satisfied_by(KMeans()), accepted.is_satisfied_by(KMeans)
    (True, False)
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether a value is accepted."""
        return not isinstance(val, (type, str)) and super().is_satisfied_by(val)

    def __str__(self) -> str:
        return super().__str__().replace("an object", "an instance (no class)")


class _Pairs(InstanceWith):
    """Constraint: an iterable of folds."""

    def __str__(self) -> str:
        return "an iterable of pairs of positions"


#: What ``cv`` accepts: a number of folds, a splitter, or pairs of positions.
FOLDS = [
    Interval(Integral, 2, None, closed="left"),
    InstanceWith(["split", "get_n_splits"]),
    _Pairs(["__iter__"]),
    None,
]


class OutputContainerMixin(_SetOutputMixin):
    """``set_output(transform="pandas")`` for classes with transform and feature names."""

    def _with_index(self, scores: Any, index: Any) -> Any:
        """Scores as a DataFrame with the given index, if pandas output is set.

        scikit-learn labels the rows with the index of X; this is for other labels.
        """
        if _get_output_config("transform", self)["dense"] != "pandas":
            return scores
        import pandas as pd

        return pd.DataFrame(scores, index=index)


class SuggestingEstimator(BaseEstimator):
    """Errors of the constructor and of ``set_params`` suggest the closest parameter.

    A class inherits from it in place of scikit-learn's ``BaseEstimator``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _suggesting(vars(cls)["__init__"]))  # noqa: B010

    def set_params(self, **params: Any) -> Self:
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
    def __init__(self: Any, *args: Any, **params: Any) -> None:
        try:
            init(self, *args, **params)
        except TypeError as error:
            said = str(error)
            unknown = [name for name in params if f"keyword argument {name!r}" in said]
            hint = did_you_mean(unknown[0], names) if unknown else ""
            if not hint or "Did you mean" in said:  # Python 3.13 suggests by itself
                raise
            raise TypeError(f"{said}.{hint}") from None

    return __init__


def present(value: T | None, what: str) -> T:
    """Return the value, which is not None here.

    Parameters
    ----------
    value : object or None
    what : str
        Its name in the message.

    Returns
    -------
    object
        ``value``.

    Raises
    ------
    RuntimeError
        If it is None after all: missing arguments should have been refused earlier.
    """
    if value is None:
        raise RuntimeError(
            f"{what}: got None, although earlier checks should have ensured a value. This is a "
            f"bug in influencekit, not an error in your call; please report it."
        )
    return value


def validate_parameters(estimator: Any) -> None:
    """Check an estimator's constructor parameters against its ``_parameter_constraints``.

    Parameters
    ----------
    estimator : BaseEstimator

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        A ValueError that names the parameter, what was got, what is accepted, and a suggestion for
        a misspelled word.

    Warns
    -----
    InfluenceKitWarning
        If a parameter is set that nothing uses with the others.
    """
    caller = type(estimator).__name__
    for name, value in estimator.get_params(deep=False).items():
        accepted = estimator._parameter_constraints.get(name, "no_validation")
        try:
            _refuse_flag(name, value, accepted, caller)
            validate_parameter_constraints({name: accepted}, {name: value}, caller_name=caller)
        except InvalidParameterError as error:
            choices = [one.options for one in accepted if isinstance(one, StrOptions)]
            hint = did_you_mean(value, sorted(set().union(*choices)))
            if not hint:
                raise
            raise InvalidParameterError(f"{error}{hint}") from None

    for name, why in unused_parameters(estimator).items():
        warn_if_set(estimator, name, why)


def _refuse_flag(name: str, value: Any, accepted: Any, caller: str) -> None:
    """Refuse True and False for a number: Python counts them as 1 and 0."""
    if not isinstance(value, (bool, np.bool_)) or accepted == "no_validation":
        return
    made = [make_constraint(one) for one in accepted]
    others = [one for one in made if not isinstance(one, Interval)]
    if len(others) < len(made) and not any(one.is_satisfied_by(value) for one in others):
        words = " or ".join(map(str, made))
        raise InvalidParameterError(
            f"The {name!r} parameter of {caller} must be {words}. Got {value!r} instead."
        )


def warn_if_set(estimator: Any, name: str, why: str, fine: Any = None) -> None:
    """Warn of a parameter that nothing uses, unless it has its default value.

    Parameters
    ----------
    estimator : BaseEstimator
    name : str
    why : str
        After "is not used".
    fine : object, default=None
        Another value that needs no warning.
    """
    value, usual = getattr(estimator, name), signature(type(estimator)).parameters[name].default
    if not _same(value, usual) and not _same(value, fine):
        warn_unused(name, value, why)


def _same(value: Any, default: Any) -> bool:
    try:
        return value is default or bool(value == default)
    except (TypeError, ValueError):  # arrays
        return False


def hist_trees(model: Any) -> list[list[np.ndarray]]:
    """Nodes of the trees of a fitted HistGradientBoosting model.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor

    Returns
    -------
    list of list of structured ndarray
        One for each stage and output.
    """
    return [[tree.nodes for tree in stage] for stage in model._predictors]  # noqa: SLF001  scikit-learn has no other name


def hist_base(model: Any) -> np.ndarray:
    """Scores (n_outputs,) of a fitted HistGradientBoosting model before its first tree.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor

    Returns
    -------
    ndarray of shape (n_outputs,)
    """
    return np.ravel(model._baseline_prediction).astype(np.float64)  # noqa: SLF001  scikit-learn has no other name


def hist_rows(model: Any) -> int:
    """Number of rows that a fitted HistGradientBoosting model was trained on.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor

    Returns
    -------
    int
    """
    return int(hist_trees(model)[0][0]["count"][0])


def hist_seed(model: Any) -> int:
    """Seed for the rows that a fitted HistGradientBoosting model held out for validation.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor

    Returns
    -------
    int
    """
    return int(model._random_seed)  # noqa: SLF001  scikit-learn has no other name


class HistLeaves:
    """Leaf positions of rows in the trees of a HistGradientBoosting model.

    The model's own prediction is used, with trees whose leaf values are the leaf positions: missing
    values and categories are treated as when the model predicts.

    Parameters
    ----------
    model : fitted HistGradientBoostingClassifier or HistGradientBoostingRegressor
    """

    def __init__(self, model: Any):
        self.model = copy.copy(model)
        self.trees = [_numbered(tree) for stage in model._predictors for tree in stage]  # noqa: SLF001  scikit-learn has no other name

    def __call__(self, X: Any) -> np.ndarray:
        """Leaf positions (n, n_trees), int32."""
        X = np.ascontiguousarray(self.model._preprocess_X(X, reset=False))  # noqa: SLF001  scikit-learn has no other name
        known = self.model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001  scikit-learn has no other name
        found = np.empty((len(X), len(self.trees)), dtype=np.int32)
        for column, tree in enumerate(self.trees):
            found[:, column] = tree.predict(X, *known, n_threads=1)
        return found


def _numbered(tree: Any) -> Any:
    """A tree whose leaf values are the leaf positions."""
    twin = copy.copy(tree)
    twin.nodes = tree.nodes.copy()
    leaf = twin.nodes["is_leaf"] == 1
    twin.nodes["value"][leaf] = np.arange(leaf.sum())
    return twin
