"""What the checks of attributors share: a small problem, fits, and assertions."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from influencekit.exceptions import UnsupportedModelError

__all__ = [
    "fit",
    "fitted_on_problem",
    "problem",
    "quietly",
    "raises",
    "reads_trees",
    "require",
    "same",
]


def quietly(function: Callable) -> Callable:
    """Turn a function into a check: warnings are silenced, and the attributor is copied."""

    @wraps(function)
    def quiet(attributor: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(clone(attributor))

    return quiet


def problem(attributor: Any = None) -> tuple:
    """Small classification problem: fitted model, training X and y, test X and y.

    The model is a logistic regression, or boosted trees or a forest for an attributor that reads
    only those.
    """
    X, y = _data()
    model = _model(_kind(attributor))
    return copy.deepcopy((model, X[:60], y[:60], X[60:72], y[60:72]))


def reads_trees(attributor: Any) -> bool:
    """Whether an attributor accepts only models without gradients, such as trees."""
    return _kind(attributor) != "linear"


def _kind(attributor: Any) -> str:
    """The first kind of model that an attributor reads."""
    if not hasattr(attributor, "_task_of"):
        return "linear"
    for kind in _MODELS:
        try:
            attributor._task_of(_model(kind))
        except UnsupportedModelError:
            continue
        return kind
    return "linear"


@cache
def _data() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return X[order], y[order]


_MODELS = {
    "linear": LogisticRegression(C=1.0, max_iter=1000),
    "boosted": GradientBoostingClassifier(n_estimators=6, max_depth=2, random_state=0),
    "forest": RandomForestClassifier(n_estimators=30, max_depth=2, random_state=0),
}


@cache
def _model(kind: str) -> Any:
    X, y = _data()
    return clone(_MODELS[kind]).fit(X[:60], y[:60])


def fit(attributor: Any, model: Any, X: Any, y: Any) -> Any:
    """Fit; searches that need queries get them."""
    options = {}
    if "X_query" in inspect.signature(attributor.fit).parameters:
        _, _, _, X_test, y_test = problem()
        options = {"X_query": X_test.astype(X.dtype), "y_query": y_test}
    return attributor.fit(model, X, y, **options)


def fitted_on_problem(attributor: Any) -> tuple:
    """Fitted attributor, test X and y."""
    model, X, y, X_test, y_test = problem(attributor)
    return fit(attributor, model, X, y), X_test, y_test


def require(condition: bool, message: str) -> None:
    """Raise AssertionError unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def same(a: Any, b: Any, what: str) -> None:
    """Raise AssertionError unless two arrays of scores agree."""
    require(np.shape(a) == np.shape(b), f"{what}: shapes {np.shape(a)} and {np.shape(b)} differ.")
    if not np.allclose(a, b, rtol=1e-6, atol=1e-9):
        gap = np.abs(np.asarray(a) - np.asarray(b)).max()
        raise AssertionError(f"{what}: scores differ by up to {gap:.3g}.")


def raises(function: Callable, kinds: Any, words: tuple[str, ...], what: str) -> None:
    """Raise AssertionError unless the function raises one of the types with these words."""
    try:
        function()
    except kinds as error:
        missing = [word for word in words if word not in str(error)]
        require(not missing, f"{what}: the error message lacks {missing}: {error}")
        return
    except Exception as error:
        raise AssertionError(f"{what}: got {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what}: no error was raised.")
