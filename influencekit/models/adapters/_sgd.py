"""SGDClassifier and SGDRegressor as Tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters._held_out_rows import RowFunction, SplitRows, check_seed
from influencekit.models.adapters._linear import linear_module
from influencekit.models.losses import _score_losses as losses
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy, MarginLoss
from influencekit.models.losses._elementwise import ElementwiseLoss, SquaredError

__all__ = ["sgd_classifier_task", "sgd_regressor_task"]


@as_task.register(SGDClassifier)
def sgd_classifier_task(model: SGDClassifier, loss: Any = None) -> Task:
    """Task of a fitted SGDClassifier: ``(1/n) Σ_i loss_i + ½ α |coef|²``, intercept free.

    Several classes are one-versus-rest. scikit-learn weights a class only in its own problem and
    divides by n, not by the sum of weights, so class weights are part of the loss here.

    Parameters
    ----------
    model : SGDClassifier
        With a differentiable loss and an L2 penalty or none.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "rows".

    Raises
    ------
    UnsupportedModelError
        For losses with a kink, an L1 part, or held-out rows drawn without a seed.
    """
    refuse_loss(model, loss)
    strength, output_loss = _strength(model), _classifier_loss(model)
    return _sgd_task(model, strength, output_loss, model.classes_, StratifiedShuffleSplit)


@as_task.register(SGDRegressor)
def sgd_regressor_task(model: SGDRegressor, loss: Any = None) -> Task:
    """Task of a fitted SGDRegressor: ``(1/n) Σ_i loss_i + ½ α |coef|²``, intercept free.

    Parameters
    ----------
    model : SGDRegressor
        With a differentiable loss and an L2 penalty or none.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "rows".

    Raises
    ------
    UnsupportedModelError
        For losses with a kink, an L1 part, or held-out rows drawn without a seed.
    """
    refuse_loss(model, loss)
    strength, output_loss = _strength(model), _regressor_loss(model)
    check_is_fitted(model)
    return _sgd_task(model, strength, output_loss, None, ShuffleSplit)


def _sgd_task(
    model: Any, strength: float, output_loss: OutputLoss, classes: Any, splitter: type
) -> Task:
    return Task(
        module=linear_module(model.coef_, model.intercept_, model.fit_intercept),
        loss=output_loss,
        classes=classes,
        penalty={"linear.weight": torch.tensor(strength, dtype=torch.float64)},
        penalty_kind="rows",
        training_rows=_training_rows(model, splitter),
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        convex=True,
    )


def _classifier_loss(model: SGDClassifier) -> OutputLoss:
    functions: dict[str, Callable[..., Tensor]] = {
        "modified_huber": losses.modified_huber,
        "squared_hinge": losses.squared_hinge,
        "squared_error": losses.half_squared_error,
        "huber": partial(losses.huber, epsilon=model.epsilon),
        "squared_epsilon_insensitive": partial(
            losses.squared_epsilon_insensitive, epsilon=model.epsilon
        ),
    }
    if model.loss not in {"log_loss", *functions}:
        raise _kink(model, ["log_loss", *functions])
    check_is_fitted(model)
    positive, negative = _class_weights(model)
    if model.loss == "log_loss":
        return BinaryCrossEntropy(positive, negative)
    probabilities = losses.clipped_probability if model.loss == "modified_huber" else None
    return MarginLoss(functions[model.loss], positive, negative, probabilities)


def _regressor_loss(model: SGDRegressor) -> OutputLoss:
    if model.loss == "squared_error":
        return SquaredError(0.5)
    functions = {
        "huber": partial(losses.huber, epsilon=model.epsilon),
        "squared_epsilon_insensitive": partial(
            losses.squared_epsilon_insensitive, epsilon=model.epsilon
        ),
    }
    if model.loss not in functions:
        raise _kink(model, ["squared_error", *functions])
    return ElementwiseLoss(functions[model.loss])


def _kink(model: Any, accepted: list[str]) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"model: {type(model).__name__}(loss={model.loss!r}) is not differentiable where its loss "
        f"has a kink, and is linear elsewhere, so influence functions do not apply. "
        f"Accepted losses: {accepted}."
    )


def _class_weights(model: SGDClassifier) -> tuple[Tensor | None, Tensor | None]:
    """Weights of targets 1 and of targets 0 in each column's loss."""
    if model.class_weight is None:
        return None, None
    # fit stores the weights, including "balanced" ones, only under this name
    weight = torch.as_tensor(model._expanded_class_weight, dtype=torch.float64)  # noqa: SLF001  scikit-learn has no other name
    if len(model.classes_) == 2:
        return weight[1:].clone(), weight[:1].clone()
    return weight.clone(), None


def _strength(model: Any) -> float:
    if model.penalty is None:
        return 0.0
    if model.penalty == "l1" or (model.penalty == "elasticnet" and model.l1_ratio != 0):
        raise UnsupportedModelError(
            f"model: {type(model).__name__}(penalty={model.penalty!r}) has an L1 part, which is "
            f"not differentiable at coefficients of zero. Accepted are penalty='l2' "
            "and penalty=None."
        )
    return float(model.alpha)


def _training_rows(model: Any, splitter: type) -> RowFunction | None:
    if not model.early_stopping:
        return None
    check_seed(model.random_state, type(model).__name__)
    return SplitRows(splitter(test_size=model.validation_fraction, random_state=model.random_state))
