"""Whether a class derived from one of scikit-learn's predicts something else than that one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator
from skorch import NeuralNet

from influencekit.exceptions import UnsupportedModelError

F = TypeVar("F", bound=Callable)

__all__ = ["check_predictions", "own_methods", "refuse_other_predictions"]

#: Methods by which models are asked.
_METHODS = ("decision_function", "predict", "predict_proba", "predict_log_proba")
#: Libraries whose estimators adapters know.
_KNOWN = ("sklearn", "xgboost", "lightgbm")
#: Libraries whose classes predict as those of scikit-learn that they derive from.
_ALIKE = ("imblearn", "skopt")
#: Rows on which methods are compared, for each row of coefficients.
_ROWS = 64


def own_methods(model: Any, registered: Any = ()) -> tuple[type, list[str]]:
    """Prediction methods that a model does not have from scikit-learn's class.

    Parameters
    ----------
    model : object
    registered : container of types, default=()
        Classes with an adapter of their own.

    Returns
    -------
    base : type
        The nearest class that is scikit-learn's or registered.
    names : list of str
        Those that the model's class, or the object itself, defines itself.
    """
    above: list[type] = []
    if not isinstance(model, BaseEstimator) or isinstance(model, NeuralNet):
        return type(model), []
    for base in type(model).__mro__:
        if base in registered or base.__module__.partition(".")[0] in _KNOWN:
            break
        above.append(base)
    if type(model).__module__.partition(".")[0] in _ALIKE:
        return base, []
    defined = set(vars(model)).union(*map(vars, above))
    return base, [name for name in _METHODS if name in defined and hasattr(base, name)]


def refuse_other_predictions(as_task: F) -> F:
    """Refuse a subclass of a known estimator whose predictions are not those of that estimator.

    Parameters
    ----------
    as_task : generic function

    Returns
    -------
    callable
    """

    @wraps(as_task)
    def checked(model: Any, *args: Any, **options: Any) -> Any:
        task = as_task(model, *args, **options)
        check_predictions(model, cast(Any, as_task).registry)
        return task

    return cast(F, checked)


def check_predictions(model: Any, registered: Any = ()) -> None:
    """Refuse a model that predicts something else than the class that it derives from.

    Parameters
    ----------
    model : fitted estimator
    registered : container of types, default=()
        Classes with an adapter of their own.

    Raises
    ------
    UnsupportedModelError
    """
    base, names = own_methods(model, registered)
    differing = [name for name in names if not _agree(model, base, name)]
    if differing:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} has its own {' and '.join(differing)}, which may "
            f"differ from that of {base.__name__}, and scores would explain {base.__name__}. "
            f"Accepted is a model that predicts as {base.__name__} does, or a class with an "
            f"adapter of its own: @as_task.register. Tools that retrain, such as "
            f"retrain_on_subsets, take {type(model).__name__} and ask it as it is."
        )


def _agree(model: Any, base: type, name: str) -> bool:
    """Whether a method and that of the base class give the same on made-up rows."""
    rows = _rows_of(model)
    if rows is None:
        return False
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            own = np.asarray(getattr(model, name)(rows))
            known = np.asarray(getattr(base, name)(model, rows))
        except Exception:
            return False
    if own.shape != known.shape or own.dtype.kind not in "fiu" or known.dtype.kind not in "fiu":
        return np.array_equal(own, known)
    size = np.nanmax(np.abs(known[np.isfinite(known)]), initial=0.0)
    return np.allclose(own, known, rtol=1e-6, atol=1e-9 * size, equal_nan=True)


def _rows_of(model: Any) -> Any:
    """Rows whose outputs have both signs and many sizes, under the names that the model learned.

    None for models that hold others, whose inputs may be anything.
    """
    p = getattr(model, "n_features_in_", None)
    held = [name for name in ("coef_", "coefs_", "dual_coef_") if hasattr(model, name)]
    if p is None or not held:
        return None
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(_ROWS, p)) * np.geomspace(1e-2, 1e3, _ROWS)[:, None]
    if held[0] == "coef_":
        coef = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
        far = 3 + 2 * np.abs(model.intercept_).max(initial=0.0)
        found = [rows]
        for w in np.atleast_2d(coef):
            along = w / np.square(w).sum() if w.any() else w
            noise = rng.normal(size=(_ROWS, p)) / np.where(w == 0, 1.0, np.abs(w))
            for size in (3.0, far):
                found.append(np.linspace(-size, size, _ROWS)[:, None] * along)
                found.append(found[-1] + 0.1 * size * noise / p)
        rows = np.concatenate(found)
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return rows
    import pandas as pd

    return pd.DataFrame(rows, columns=names)
