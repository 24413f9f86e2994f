"""Ridge and LinearRegression as Tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._module import linear_module
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.losses._elementwise import SquaredError

__all__ = ["linear_regression_task", "ridge_task"]


@as_task.register(Ridge)
@as_task.register(RidgeCV)
def ridge_task(model: Ridge | RidgeCV, loss: Any = None) -> Task:
    """Task of a fitted Ridge or RidgeCV: ``Σ_i |y_i - o_i|² + α |w|²``, intercept free.

    Parameters
    ----------
    model : Ridge or RidgeCV
        One or several targets; ``alpha`` may be one a target.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    _check_sign_free(model)
    alpha = np.asarray(model.alpha_ if isinstance(model, RidgeCV) else model.alpha)
    strength = torch.as_tensor(2.0 * alpha.astype(np.float64).reshape(-1, 1))
    return _squared_error_task(model, {"linear.weight": strength})


@as_task.register(LinearRegression)
def linear_regression_task(model: LinearRegression, loss: Any = None) -> Task:
    """Task of a fitted LinearRegression: ``Σ_i |y_i - o_i|²``.

    Parameters
    ----------
    model : LinearRegression
    loss : None

    Returns
    -------
    Task
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    _check_sign_free(model)
    return _squared_error_task(model, {})


def _squared_error_task(model: Any, penalty: dict[str, Tensor]) -> Task:
    return Task(
        module=linear_module(model.coef_, model.intercept_, model.fit_intercept),
        loss=SquaredError(),
        penalty=penalty,
        penalty_kind="sum",
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        convex=True,
    )


def _check_sign_free(model: Any) -> None:
    if getattr(model, "positive", False):
        raise UnsupportedModelError(
            f"model: {type(model).__name__}(positive=True) is solved under constraints; at a "
            "coefficient held at zero the gradient does not vanish, so influence functions do "
            "not apply. Fit it with positive=False."
        )
