"""TransformedTargetRegressor as a Task."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters.meta._known import check_known
from influencekit.models.losses._elementwise import ColumnLoss
from influencekit.models.losses._huber import HuberWithScale
from influencekit.models.losses.meta._transformed import TransformedTargets

__all__ = ["transformed_target_task"]


@as_task.register(TransformedTargetRegressor)
def transformed_target_task(model: TransformedTargetRegressor, loss: Any = None) -> Task:
    """Task of a fitted TransformedTargetRegressor: that of the regressor inside.

    Targets and predictions are in the units of y, the loss in those of the transformed y.  The
    fitted transformer is held fixed.

    Parameters
    ----------
    model : TransformedTargetRegressor
    loss : None

    Returns
    -------
    Task
    """
    refuse_loss(model, loss)
    check_known(model, [model.regressor])
    check_is_fitted(model)
    task = as_task(model.regressor_)
    if not isinstance(task.loss, ColumnLoss) or isinstance(task.loss, HuberWithScale):
        raise UnsupportedModelError(
            f"model: TransformedTargetRegressor of {task.name} is not known. Give the regressor "
            f"inside, and the targets that it learned: model.regressor_, and "
            f"model.transformer_.transform(y)."
        )
    transformer = copy.deepcopy(model.transformer_)
    inner = TransformedTargets(
        task.loss, _Columns(transformer.transform), _Columns(transformer.inverse_transform)
    )
    name = f"{type(model).__name__}({task.name})"
    return dataclasses.replace(task, loss=inner, estimator=model, name=name)


class _Columns:
    """A transformer's method on columns of numbers."""

    def __init__(self, method: Any):
        self.method = method

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found = np.asarray(self.method(values), dtype=np.float64)
        return found.reshape(values.shape)
