"""``most_influential_set`` of a fitted influence function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from influencekit.data._examples import each
from influencekit.models._outputs import for_task
from influencekit.models.losses._binary import BinaryLoss
from influencekit.removal._coefficients import coefficient_rows
from influencekit.removal._effects import read_queries
from influencekit.removal._goal import (
    Goal,
    Value,
    coefficient_value,
    flip_value,
    output_value,
    property_value,
)
from influencekit.removal._influential_set import InfluentialSet, influential_set
from influencekit.removal._linear_fit import LinearFit, check_linear, row_inputs
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._torch import with_gradients

__all__ = ["FindsRows"]

_ARGUMENT = "most_influential_set"


class FindsRows:
    """``most_influential_set`` of a fitted influence function."""

    fitted_: Sequence[Any]
    output: Any
    random_state: Any
    _rows: Sequence[np.ndarray]

    @with_gradients
    def most_influential_set(
        self,
        X: Any,
        y: Any = None,
        *,
        k: int | None = None,
        until: float | str | None = None,
        opponents: bool = False,
        property: Callable | None = None,
        max_rows: int | None = None,
        n_random: int = 99,
    ) -> InfluentialSet:
        """Search for the rows without which a linear model says something else.

        Give ``until`` for a smallest set, or ``k`` for the set of that size that matters most.

        Parameters
        ----------
        X : array-like, DataFrame, or sparse matrix of one test example
            With ``output="coef"`` the name or position of a coefficient; with ``property`` all
            examples that it is computed on.
        y : array-like, default=None
            Targets of X. None explains the model's own prediction.
        k : int, default=None
            Size of the set without which the explained number falls furthest.
        until : float or "flip", default=None
            A number that the explained one is to cross, or "flip": until the model predicts
            another class, or the coefficient has another sign.
        opponents : bool, default=False
            With ``k``: the set without which the number rises furthest.
        property : callable, default=None
            ``property(outputs, targets) -> scalar Tensor`` of all rows of X together, such as
            :class:`~influencekit.groups.DemographicParityDifference`.
        max_rows : int, default=None
            Largest set that is tried; None is a quarter of the rows.
        n_random : int, default=99
            Random sets of the same size, for ``p_value``.

        Returns
        -------
        InfluentialSet
            Its attributes are ``rows``, ``before``, ``predicted``, ``refitted``, ``reached``,
            ``p_value`` and ``n_refits``.

        Notes
        -----
        Rows are taken one by one. After each, the objective without all of them is solved, and
        every remaining row is tried by one Newton step from there: what one row hides in the
        scores of another is seen. Sets of up to 30 rows are then improved by exchanges, and rows
        that are not needed are put back. It is a search: a smaller set may exist. A row alone in
        its level or class is never taken.

        The set was chosen for its effect, so ``p_value`` is small as a rule. It says how rare an
        effect of that size is among sets that were not chosen. Random sets are removed by one
        Newton step each.

        Damping plays no part. Class weights and the penalty stay as they are for all rows. Cost
        ``O(n p² + p³)`` for each row of the set, and as much for each exchange that is tried.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from influencekit import InfluenceFunction
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:500], y[:500])
        >>> influence = InfluenceFunction().fit(model, X[:500], y[:500])
        >>> found = influence.most_influential_set(X[541:542], until="flip")
        >>> found.reached, len(found.rows), found.before > 0 > found.refitted
        (True, 4, True)
        """
        check_is_fitted(self, "fitted_")
        fitted = _one_linear(self)
        _check_asked(k, until, property)
        value, flipped = _value(self, fitted, X, y, until, property)
        fit, rows = fitted.linear, self._rows[0]
        goal = _goal(fit, value, flipped, until, opponents)
        most = max(1, len(rows) // 4) if max_rows is None else max_rows
        for name, given in {"k": k, "max_rows": most, "n_random": n_random}.items():
            _check_size(name, given, 0 if name == "n_random" else 1, len(rows) - 1)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        found = influential_set(fitted.undamped, goal, k=k, most=most, n_random=n_random, rng=rng)
        return replace(found, rows=rows[found.rows])


def _one_linear(attributor: Any) -> Any:
    """What was learned from the one linear model."""
    if len(attributor.fitted_) > 1:
        raise ValueError(
            f"{_ARGUMENT}: the attributor was fitted to {len(attributor.fitted_)} models; "
            f"accepted is one. Fit it to each of them by itself."
        )
    check_linear(attributor.fitted_[0].task, _ARGUMENT)
    return attributor.fitted_[0]


def _check_asked(k: Any, until: Any, property: Any) -> None:
    if (k is None) == (until is None):
        raise ValueError(
            f"k, until: got k={k!r} and until={until!r}; accepted is one of the two: until=0.5 or "
            f"until='flip' for a smallest set, k=5 for the set of five rows that matters most."
        )
    if isinstance(until, bool) or (isinstance(until, str) and until != "flip"):
        raise ValueError(
            f"until: got {until!r}; accepted are a number and 'flip'."
            f"{did_you_mean(str(until), ['flip'])}"
        )
    if property is None:
        return
    if not callable(property):
        raise ValueError(
            f"property: got {property!r:.80}; accepted is a function (outputs, targets) -> scalar "
            f"Tensor of all rows of X."
        )
    if until == "flip":
        raise ValueError(
            "until: got 'flip' with a property; accepted is a number that the property is to cross."
        )


def _check_size(name: str, given: Any, least: int, most: int) -> None:
    if given is None and name == "k":
        return
    whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
    top = most if name != "n_random" else None
    if not whole or given < least or (top is not None and given > top):
        raise ValueError(
            f"{name}: got {given!r}; accepted are integers from {least}"
            + ("." if top is None else f" to {top}: a row has to be left.")
        )


def _value(
    attributor: Any, fitted: Any, X: Any, y: Any, until: Any, property: Any
) -> tuple[Value, Callable | None]:
    """The explained number as a function of coefficients, and what tells that a class changed."""
    fit = fitted.linear
    if isinstance(attributor.output, str) and attributor.output == "coef" and property is None:
        picked = coefficient_rows(fit, fitted.task, X)
        if len(picked) != 1:
            raise ValueError(
                f"X: got {len(picked)} coefficients; accepted is the name or position of one, of a "
                f"model with one output."
            )
        return coefficient_value(fit, int(picked[0])), None
    queries = each(attributor._queries(X, y))[0]
    rows = fit.features(row_inputs(queries))
    if property is not None:
        return property_value(rows, queries.targets, for_task(property, fitted.task)), None
    if len(rows) != 1:
        raise ValueError(
            f"X: got {len(rows)} examples; accepted is one, such as X[:1], or a property of them "
            f"all: property=lambda outputs, targets: outputs.mean()."
        )
    if until == "flip":
        _check_flips(fit)
        return flip_value(fit, rows)
    read = read_queries(fitted.undamped, queries, attributor.output)
    return output_value(rows, read.targets, read.function), None


def _check_flips(fit: LinearFit) -> None:
    """Refuse to flip what is not a class."""
    several = isinstance(fit.task.loss, BinaryLoss) and fit.task.loss.multilabel
    if fit.task.problem_type == "classification" and not several:
        return
    kind = "classifier of several labels" if several else fit.task.problem_type + " model"
    raise ValueError(
        f"until: got 'flip' for {fit.task.name}, a {kind}; accepted is a number that the explained "
        f"output is to cross, or 'flip' for a classifier or, with output='coef', a coefficient."
    )


def _goal(
    fit: LinearFit, value: Value, flipped: Callable | None, until: Any, opponents: bool
) -> Goal:
    before = float(value(fit.theta[None])[0])
    level = 0.0 if until == "flip" else until
    if level is None:
        return Goal(value, before, None, -1.0 if opponents else 1.0)
    if flipped is None and (before == level or not np.isfinite(level)):
        raise ValueError(
            f"until: got {until!r}, and the model gives {before!r}; accepted is a finite number "
            f"that it does not give already."
        )
    falls = flipped is not None or before > level
    return Goal(value, before, float(level), 1.0 if falls else -1.0, flipped)
