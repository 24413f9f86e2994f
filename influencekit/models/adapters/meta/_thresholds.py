"""FixedThresholdClassifier and TunedThresholdClassifierCV as Tasks."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters.meta._known import check_known
from influencekit.models.losses._binary import BinaryLoss

__all__ = ["threshold_task"]


@as_task.register(FixedThresholdClassifier)
@as_task.register(TunedThresholdClassifierCV)
def threshold_task(model: Any, loss: Any = None) -> Task:
    """Task of a binary classifier with a threshold of its own: that of the classifier inside.

    Predicted labels use the threshold, which is held fixed; losses, margins and probabilities do
    not depend on it.

    Parameters
    ----------
    model : FixedThresholdClassifier or TunedThresholdClassifierCV
    loss : None

    Returns
    -------
    Task
    """
    refuse_loss(model, loss)
    check_known(model, [model.estimator])
    check_is_fitted(model)
    if not getattr(model, "refit", True) and model.cv != "prefit":
        raise UnsupportedModelError(
            "model: TunedThresholdClassifierCV(refit=False) keeps a model fitted on one part of "
            "the rows. Fit it with refit=True."
        )
    task = as_task(model.estimator_)
    if not isinstance(task.loss, BinaryLoss):
        raise UnsupportedModelError(
            f"model: {type(model).__name__} of {task.name} is not known. Give the classifier "
            f"inside: model.estimator_."
        )
    output_loss = copy.copy(task.loss)
    output_loss.cut = _cut(model)
    return dataclasses.replace(
        task, loss=output_loss, estimator=model, name=f"{type(model).__name__}({task.name})"
    )


def _cut(model: Any) -> float:
    """The score of the second class above which it is predicted."""
    inner = model.estimator_
    decides = model.response_method == "decision_function" or not hasattr(inner, "predict_proba")
    threshold = getattr(model, "best_threshold_", None)
    if threshold is None:
        threshold = model.threshold
    if isinstance(threshold, str):  # "auto"
        threshold = 0.0 if decides else 0.5
    # log(p / (1 - p))
    score = threshold if decides else _logit(float(threshold))
    first = getattr(model, "pos_label", None)
    if first is not None and first == inner.classes_[0]:
        return -score  # the first class from the threshold on
    return float(np.nextafter(score, -np.inf))  # the second class from the threshold on


def _logit(p: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(p) - np.log1p(-p)) if p < 1 else np.inf
