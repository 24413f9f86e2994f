"""Names and positions of a linear model's coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.models._task import Task
from influencekit.removal._linear_fit import LinearFit
from influencekit.utils._suggest import did_you_mean

__all__ = ["INTERCEPT", "coefficient_names", "coefficient_rows"]

#: Name of the intercept, as in statsmodels' formulas.
INTERCEPT = "Intercept"


def coefficient_names(fit: LinearFit, task: Task) -> list[str]:
    """Names of the features that the linear model was given, then "Intercept".

    Parameters
    ----------
    fit : LinearFit
    task : Task

    Returns
    -------
    list of str
        ``x0``, ``x1``, ... for features without names.
    """
    p = len(fit.means)
    names = getattr(task.estimator, "feature_names_in_", None)
    if names is None or len(names) != p:
        names = step_names(task, p)
    return [*map(str, names), *([INTERCEPT] if fit.intercept else [])]


def step_names(task: Task, p: int) -> list[str]:
    """Names that a Pipeline's steps give to the last one's features, if they do."""
    steps = getattr(task.transform, "get_feature_names_out", None)
    try:
        names = None if steps is None else list(steps())
    except (AttributeError, ValueError, NotImplementedError):  # a step without names
        names = None
    return [f"x{i}" for i in range(p)] if names is None or len(names) != p else names


def coefficient_rows(fit: LinearFit, task: Task, given: Any) -> np.ndarray:
    """Rows of ``(k·d, n)`` that names or positions mean, for each of k outputs in turn.

    Parameters
    ----------
    fit : LinearFit
    task : Task
    given : str, int, or list of them

    Returns
    -------
    ndarray of int
        With several outputs, each name has one row for each of them.

    Raises
    ------
    ValueError
    """
    names = coefficient_names(fit, task)
    k, d = fit.theta.shape
    found = []
    for one in [given] if isinstance(given, (str, int, np.integer)) else list(given):
        if isinstance(one, (int, np.integer)) and not isinstance(one, bool) and -d <= one < d:
            found.append(int(one) % d)
        elif isinstance(one, str) and one in names:
            found.append(names.index(one))
        else:
            raise ValueError(
                f"X: got the coefficient {one!r}; with output='coef', accepted are names among "
                f"{names[:20]} or positions from 0 to {d - 1}.{did_you_mean(str(one), names)}"
            )
    return (np.array(found, dtype=int)[:, None] + d * np.arange(k)).reshape(-1)
