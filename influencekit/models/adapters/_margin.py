"""Linear classifiers without probabilities as Tasks: RidgeClassifier and LinearSVC."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters._linear import check_sign_free, class_weights, linear_task
from influencekit.models.losses._binary import MarginLoss
from influencekit.models.losses._score_losses import squared_error, squared_hinge

__all__ = ["linear_svc_task", "ridge_classifier_task"]


@as_task.register(RidgeClassifier)
@as_task.register(RidgeClassifierCV)
def ridge_classifier_task(model: RidgeClassifier | RidgeClassifierCV, loss: Any = None) -> Task:
    """Task of a fitted RidgeClassifier: ``Σ_i w_i |s_i - o_i|² + α |w|²`` with signs s.

    Parameters
    ----------
    model : RidgeClassifier or RidgeClassifierCV
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".
    """
    refuse_loss(model, loss)
    check_sign_free(model)
    check_is_fitted(model)
    alpha = model.alpha_ if isinstance(model, RidgeClassifierCV) else model.alpha
    strength = torch.as_tensor(2.0 * np.asarray(alpha, dtype=np.float64).reshape(-1, 1))
    options = {"classes": model.classes_, "class_weight": class_weights(model)}
    return linear_task(model, MarginLoss(squared_error), {"linear.weight": strength}, **options)


@as_task.register(LinearSVC)
def linear_svc_task(model: LinearSVC, loss: Any = None) -> Task:
    """Task of a fitted LinearSVC: ``C Σ_i w_i max(0, 1 - s_i o_i)² + ½ (|w|² + (b / scaling)²)``.

    Parameters
    ----------
    model : LinearSVC
        With the squared hinge and an L2 penalty.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum", also on the intercept.

    Raises
    ------
    UnsupportedModelError
        For the hinge, an L1 penalty, Crammer and Singer's objective, or balanced class weights with
        several classes.
    """
    refuse_loss(model, loss)
    _check_smooth(model)
    check_is_fitted(model)
    output_loss, class_weight = _margins(model)
    strength = torch.tensor(1.0 / model.C, dtype=torch.float64)
    penalty = {"linear.weight": strength}
    if model.fit_intercept:
        penalty["linear.bias"] = strength / float(model.intercept_scaling) ** 2
    options = {"classes": model.classes_, "class_weight": class_weight}
    return linear_task(model, output_loss, penalty, **options)


def _check_smooth(model: LinearSVC) -> None:
    if model.loss != "squared_hinge":
        raise UnsupportedModelError(
            f"model: LinearSVC(loss={model.loss!r}) is not differentiable where its loss has a "
            "kink, and is linear elsewhere, so influence functions do not apply. Accepted is "
            "loss='squared_hinge'."
        )
    if model.penalty != "l2" or model.multi_class != "ovr":
        raise UnsupportedModelError(
            f"model: LinearSVC(penalty={model.penalty!r}, multi_class={model.multi_class!r}) has "
            "an objective that is not differentiable. Accepted are penalty='l2' and "
            "multi_class='ovr'."
        )


def _margins(model: LinearSVC) -> tuple[MarginLoss, Any]:
    """Loss and class weight; liblinear weights a class only in its own problem."""
    weight = class_weights(model)
    if len(model.classes_) == 2:
        return MarginLoss(squared_hinge), weight
    if isinstance(weight, str):
        raise UnsupportedModelError(
            "model: LinearSVC with class_weight='balanced' and several classes weights each of its "
            "problems by label counts that it does not store. Give class_weight as a dict."
        )
    return MarginLoss(squared_hinge, positive_weight=weight), None
