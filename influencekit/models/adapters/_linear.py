"""Linear models of scikit-learn as Tasks: least squares with L2 penalties, LogisticRegression."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError

__all__ = [
    "bayesian_ridge_task",
    "check_sign_free",
    "class_weights",
    "elastic_net_task",
    "linear_layer",
    "linear_module",
    "linear_regression_task",
    "linear_task",
    "logistic_task",
    "ridge_task",
]

ClassWeight = Tensor | Literal["balanced"] | None


@as_task.register(Ridge)
@as_task.register(RidgeCV)
def ridge_task(model: Ridge | RidgeCV, loss: Any = None) -> Task:
    """Task of a fitted Ridge or RidgeCV: ``Σ_i |y_i - o_i|² + α |w|²``, without intercept penalty.

    Parameters
    ----------
    model : Ridge or RidgeCV
        Fitted on one or several targets; ``alpha`` may have one value for each target.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".
    """
    refuse_loss(model, loss)
    check_sign_free(model)
    check_is_fitted(model)
    alpha = np.asarray(model.alpha_ if isinstance(model, RidgeCV) else model.alpha)
    strength = torch.as_tensor(2.0 * alpha.astype(np.float64).reshape(-1, 1))
    return linear_task(model, SquaredError(), {"linear.weight": strength})


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
    check_sign_free(model)
    check_is_fitted(model)
    return linear_task(model, SquaredError(), {})


@as_task.register(BayesianRidge)
def bayesian_ridge_task(model: BayesianRidge, loss: Any = None) -> Task:
    """Task of a fitted BayesianRidge: its point estimate, ``Σ_i |y_i - o_i|² + (λ/α) |w|²``.

    The precisions λ and α, which it estimated, are held fixed.

    Parameters
    ----------
    model : BayesianRidge
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    strength = torch.tensor(2.0 * model.lambda_ / model.alpha_, dtype=torch.float64)
    return linear_task(model, SquaredError(), {"linear.weight": strength})


@as_task.register(ElasticNet)
def elastic_net_task(model: ElasticNet, loss: Any = None) -> Task:
    """Task of a fitted ElasticNet with ``l1_ratio=0``: ``(1/2W) Σ_i |y_i - o_i|² + ½ α |w|²``.

    Parameters
    ----------
    model : ElasticNet or MultiTaskElasticNet
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "mean".

    Raises
    ------
    UnsupportedModelError
        For an L1 part in the penalty, which Lasso has.
    """
    refuse_loss(model, loss)
    if model.l1_ratio != 0 and model.alpha != 0:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} has an L1 penalty (l1_ratio={model.l1_ratio:g}), which "
            f"is not differentiable at coefficients of zero. Accepted is ElasticNet(l1_ratio=0), "
            f"or Ridge."
        )
    check_sign_free(model)
    check_is_fitted(model)
    strength = torch.tensor(float(model.alpha), dtype=torch.float64)
    return linear_task(model, SquaredError(0.5), {"linear.weight": strength}, penalty_kind="mean")


def linear_task(model: Any, loss: OutputLoss, penalty: dict[str, Tensor], **options: Any) -> Task:
    """Task of a fitted linear model of scikit-learn; its penalty is of kind "sum" by default.

    Parameters
    ----------
    model : estimator with ``coef_`` and ``intercept_``
    loss : OutputLoss
    penalty : dict of Tensor
    **options
        Other parameters of the Task.

    Returns
    -------
    Task
    """
    given: dict[str, Any] = {"penalty_kind": "sum", "convex": True, **options}
    return Task(
        module=linear_module(model.coef_, model.intercept_, model.fit_intercept),
        loss=loss,
        penalty=penalty,
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        **given,
    )


def check_sign_free(model: Any) -> None:
    if getattr(model, "positive", False):
        raise UnsupportedModelError(
            f"model: {type(model).__name__}(positive=True) is solved under constraints; the "
            f"gradient of a coefficient constrained to zero does not vanish, so influence "
            f"functions do not apply. Fit it with positive=False."
        )


@as_task.register(LogisticRegression)
def logistic_task(model: LogisticRegression, loss: Any = None) -> Task:
    """Task of a fitted LogisticRegression or LogisticRegressionCV.

    The objective is ``Σ_i w_i loss_i + ½ |coef|² / C`` without a penalty on the intercept;
    liblinear also penalizes ``(intercept / intercept_scaling)²``. Class weights are taken into
    account.

    Parameters
    ----------
    model : LogisticRegression or LogisticRegressionCV
        With an L2 penalty or without penalty.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".

    Raises
    ------
    UnsupportedModelError
        For an L1 part in the penalty, and for the few one-versus-rest settings whose weights cannot
        be recovered.
    """
    refuse_loss(model, loss)
    strength = _strength(model)
    penalty = {"linear.weight": strength}
    if model.solver == "liblinear" and model.fit_intercept:
        penalty["linear.bias"] = strength.reshape(-1) / float(model.intercept_scaling) ** 2
    output_loss, class_weight = _loss(model)
    options = {"classes": model.classes_, "class_weight": class_weight}
    return linear_task(model, output_loss, penalty, **options)


def _strength(model: LogisticRegression) -> Tensor:
    """1 / C as a column: one value, or one for each row of coef_."""
    if isinstance(model, LogisticRegressionCV):
        if not model.refit:
            raise UnsupportedModelError(
                "model: LogisticRegressionCV(refit=False) averages the coefficients of its folds, "
                "which do not minimize a single objective. Fit it with refit=True."
            )
        check_is_fitted(model)
        C = np.asarray(model.C_)
        l1_ratio = max(float(ratio or 0.0) for ratio in np.ravel(model.l1_ratio_))
    else:
        C, l1_ratio = np.asarray(model.C), float(model.l1_ratio or 0.0)
    penalty = getattr(model, "penalty", "deprecated")
    if penalty is None:
        C = np.asarray(np.inf)
    has_l1 = penalty == "l1" or (penalty in ("deprecated", "elasticnet") and l1_ratio != 0)
    if has_l1:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} has an L1 penalty (penalty={penalty!r}, "
            f"l1_ratio={l1_ratio}), which is not differentiable at coefficients of zero. Accepted "
            f"is an L2 penalty, or no penalty (C=np.inf)."
        )
    check_is_fitted(model)
    return torch.as_tensor(1.0 / C.astype(np.float64).reshape(-1, 1))


def _loss(model: LogisticRegression) -> tuple[OutputLoss, ClassWeight]:
    """Loss and class weight of the Task."""
    multi_class = getattr(model, "multi_class", "deprecated")
    binary = len(model.classes_) == 2
    weight = class_weights(model)
    if binary:
        if multi_class == "multinomial":
            raise UnsupportedModelError(
                "model: LogisticRegression(multi_class='multinomial') on two classes has two "
                "opposite logits but one row of coefficients. Fit it without multi_class."
            )
        return BinaryCrossEntropy(), weight
    if multi_class != "ovr" and model.solver != "liblinear":
        return CrossEntropy(), weight
    if isinstance(weight, str):
        raise UnsupportedModelError(
            "model: one-versus-rest LogisticRegression with class_weight='balanced' weights each "
            "of its problems by label counts that it does not store. Give class_weight as a dict, "
            "or fit it without solver='liblinear' and multi_class."
        )
    if model.solver == "liblinear":
        # liblinear weights a class only in its own problem, not among "the rest"
        return BinaryCrossEntropy(positive_weight=weight), None
    return BinaryCrossEntropy(), weight


def class_weights(model: Any) -> ClassWeight:
    """Weight of each class in a classifier's objective, "balanced", or None.

    Parameters
    ----------
    model : classifier with ``class_weight`` and ``classes_``

    Returns
    -------
    Tensor of shape (n_classes,), "balanced" or None
    """
    if model.class_weight is None:
        return None
    if isinstance(model.class_weight, str):
        return "balanced"
    weights = [float(model.class_weight.get(label, 1.0)) for label in model.classes_.tolist()]
    return torch.tensor(weights, dtype=torch.from_numpy(np.zeros(0, model.coef_.dtype)).dtype)


def linear_layer(weight: np.ndarray, bias: np.ndarray | None) -> nn.Linear:
    """A linear layer with the given weight (k, p) and bias (k,), in their own dtype.

    It does not draw random numbers.
    """
    weight = np.array(weight)
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(torch.from_numpy(weight))
    if bias is not None:
        layer.bias = nn.Parameter(torch.from_numpy(np.array(bias, dtype=weight.dtype)))
    return layer


def linear_module(coef: Any, intercept: Any, fit_intercept: bool) -> nn.Sequential:
    """Module of one linear layer named "linear" from scikit-learn's coef_ and intercept_.

    Parameters
    ----------
    coef : ndarray or sparse matrix of shape (p,) or (k, p)
    intercept : float or ndarray of shape (k,)
    fit_intercept : bool
        If False, the layer has no bias.

    Returns
    -------
    torch.nn.Sequential
        Its parameters are ``linear.weight`` and ``linear.bias``, in float64.
    """
    coef = coef.toarray() if hasattr(coef, "toarray") else np.asarray(coef)
    weight = np.atleast_2d(coef).astype(np.float64)
    bias = None
    if fit_intercept:
        bias = np.broadcast_to(np.asarray(intercept).reshape(-1), (weight.shape[0],))
    module = nn.Sequential()
    module.add_module("linear", linear_layer(weight, bias))
    return module.eval()
