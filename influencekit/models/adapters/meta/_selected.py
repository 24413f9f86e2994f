"""RFE and RFECV, which select columns and fit a model on them, as Tasks."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from sklearn.feature_selection import RFE
from sklearn.utils.validation import check_is_fitted

from influencekit.models._task import Task, as_task
from influencekit.models.adapters._wrappers import Steps
from influencekit.models.adapters.meta._known import check_known

__all__ = ["selected_task"]


@as_task.register(RFE)
def selected_task(model: RFE, loss: Any = None) -> Task:
    """Task of a fitted RFE or RFECV: its model, on the columns that were kept.

    Parameters
    ----------
    model : RFE or RFECV
    loss : callable, default=None
        Passed to the model inside.

    Returns
    -------
    Task
    """
    check_known(model, [model.estimator])
    check_is_fitted(model)
    task = as_task(model.estimator_, loss)
    inner = [] if task.transform is None else [task.transform]
    return dataclasses.replace(
        task,
        transform=Steps([copy.deepcopy(model), *inner]),
        name=f"{type(model).__name__}({task.name})",
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
    )
