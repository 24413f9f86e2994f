"""What an influence function of a linear model says about the model without some rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.attributors.influence._fitted_removal import FittedRemoval
from influencekit.data._examples import each
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.models._task import Task
from influencekit.models.losses._binary import MarginLoss
from influencekit.models.losses._elementwise import SquaredError
from influencekit.removal._coefficients import coefficient_rows
from influencekit.removal._linear_fit import check_linear
from influencekit.removal._without import Removal, model_without, removed_rows
from influencekit.utils._arguments import check_number
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._torch import with_gradients

__all__ = ["RemovesRows", "check_own_hessian", "coefficient_scores", "exact_removal"]


def exact_removal(attributor: Any, fitted: FittedInfluence) -> FittedRemoval:
    """The same fitted model with the removals that an attributor's parameters ask for.

    Raises
    ------
    ValueError
        If another parameter contradicts them.
    UnsupportedModelError
        If the model is not linear.
    """
    order = attributor.removal_order
    argument = "output='coef'" if order == "first" else f"removal_order={order!r}"
    check_own_hessian(attributor, argument, fitted.task)
    return FittedRemoval(fitted, order)


def check_own_hessian(attributor: Any, argument: str, task: Task) -> None:
    """Refuse settings under which scores are not by the Hessian of a linear model."""
    accepted = {"curvature": ("auto", "ggn"), "at": ("model",), "projection_dim": (None,)}
    for name, values in accepted.items():
        given = getattr(attributor, name)
        if given not in values:
            raise ValueError(
                f"{argument}: removes rows of a linear model by its own Hessian, but {name} is "
                f"{given!r}; accepted is {name}={values[-1]!r}."
            )
    check_linear(task, argument)


def coefficient_scores(attributor: Any, names: Any) -> np.ndarray:
    """Scores (n_coefficients, n_train) of coefficients given by names or positions."""
    check_is_fitted(attributor, "fitted_")
    total: Any = 0.0
    for fitted, rows in zip(attributor.fitted_, attributor._rows, strict=True):
        picked = coefficient_rows(fitted.linear, fitted.task, names)
        _warn_of_free_coefficients(fitted, picked)
        total = total + attributor._spread(fitted.coefficient_scores()[picked], rows)
    return attributor._combine(total, len(attributor.fitted_))


def _warn_of_free_coefficients(fitted: Any, picked: np.ndarray) -> None:
    """Say that the data do not determine coefficients, unless least squares takes the smallest."""
    if isinstance(fitted.linear.task.loss, (SquaredError, MarginLoss)):
        return
    n_free = int(fitted.white.undetermined()[picked].sum())
    if n_free:
        warn_user(
            f"{n_free} of these {len(picked)} coefficients of {fitted.task.name} are not "
            f"determined by the data: a column without a penalty is a sum of others, or constant. "
            f"Scores are those of the smallest coefficients, which a solver may not have taken; "
            f"predictions do not depend on it. Leave such columns out, or fit with a penalty.",
            InfluenceKitWarning,
        )


class RemovesRows:
    """``predict_without`` of a fitted influence function."""

    fitted_: Sequence[Any]
    n_train_: int
    task_: Task
    _rows: Sequence[np.ndarray]

    @with_gradients
    def predict_without(
        self,
        rows: Any,
        X: Any,
        y: Any = None,
        *,
        refit: bool | str = "auto",
        tolerance: float = 0.05,
        properties: Mapping[str, Callable] | None = None,
    ) -> Removal:
        """What a linear model would predict had it been trained without some rows.

        Parameters
        ----------
        rows : int, array-like of int, or of bool of shape (n_train,)
            Training rows to remove together.
        X : array-like, DataFrame, or sparse matrix of n_test examples
        y : array-like of shape (n_test,), default=None
            Targets of X, for ``properties``.
        refit : bool or "auto", default="auto"
            False is one Newton step from the fitted model, True solves the objective without the
            rows. "auto" solves it where the bound of the step exceeds ``tolerance``.
        tolerance : float, default=0.05
            Largest accepted bound, as a share of the largest change of an output.
        properties : dict of str to callable, default=None
            ``property(outputs, targets) -> scalar Tensor`` of all rows of X together.

        Returns
        -------
        Removal
            Its attributes are ``outputs``, ``bound``, ``coef``, ``intercept``, ``refitted`` and
            ``properties``.

        Notes
        -----
        Damping plays no part. Class weights and the penalty stay as they are for all rows.
        """
        check_is_fitted(self, "fitted_")
        picked = removed_rows(rows, self.n_train_)
        return _without(self, picked, X, y, refit, tolerance, properties)


def _check_properties(properties: Any) -> None:
    """Refuse anything but functions by name."""
    named = properties is None or isinstance(properties, Mapping)
    bad = [one for one in (properties or {}).values() if not callable(one)] if named else []
    if not named or bad:
        raise TypeError(
            f"properties: got {bad[0] if bad else properties!r:.80}; accepted is a dict from names "
            "to functions, property(outputs, targets) -> scalar Tensor."
        )


def _without(
    attributor: Any, rows: np.ndarray, X: Any, y: Any, refit: Any, tolerance: float, properties: Any
) -> Removal:
    if refit not in (True, False, "auto"):
        raise ValueError(
            f"refit: got {refit!r}; accepted are True, False and 'auto'."
            f"{did_you_mean(str(refit), ['auto'])}"
        )
    check_number("tolerance", tolerance, -1e-300, math.inf, "a number from 0 on")
    _check_properties(properties)
    if len(attributor.fitted_) > 1:
        raise ValueError(
            f"predict_without: the attributor was fitted to {len(attributor.fitted_)} models; "
            f"accepted is one. Fit it to each of them by itself."
        )
    learned = np.searchsorted(attributor._rows[0], rows[np.isin(rows, attributor._rows[0])])
    queries = each(attributor._queries(X, y))[0]
    return model_without(
        attributor.fitted_[0].undamped,
        learned,
        queries,
        refit=refit,
        tolerance=tolerance,
        properties=properties,
    )
