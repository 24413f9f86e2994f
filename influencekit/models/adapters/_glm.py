"""Generalized linear models of scikit-learn as Tasks, and Huber's robust regression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from sklearn.linear_model import (
    GammaRegressor,
    HuberRegressor,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters._linear import linear_module, linear_task
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._deviance import DevianceLoss
from influencekit.models.losses._elementwise import PoissonLoss, SquaredError
from influencekit.models.losses._huber import HuberWithScale

__all__ = ["AppendScale", "glm_task", "huber_task"]


@as_task.register(PoissonRegressor)
@as_task.register(GammaRegressor)
@as_task.register(TweedieRegressor)
def glm_task(model: Any, loss: Any = None) -> Task:
    """Task of a fitted GLM: ``(1/W) Σ_i w_i ½ deviance_i + ½ α |w|²``, intercept free.

    Parameters
    ----------
    model : PoissonRegressor, GammaRegressor or TweedieRegressor
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "mean".  With a logarithmic link and a power outside of 1 to 2, or an
        identity link and a power other than 0 and 1, the deviance is not convex:
        ``curvature="hessian"`` then has all of its curvature, "ggn" that of the rows where it is
        positive.
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    output_loss = _deviance(model)
    return linear_task(
        model,
        output_loss,
        {"linear.weight": torch.tensor(float(model.alpha), dtype=torch.float64)},
        penalty_kind="mean",
        convex=getattr(output_loss, "convex", True),
    )


def _deviance(model: Any) -> OutputLoss:
    if isinstance(model, PoissonRegressor):
        return PoissonLoss()
    if isinstance(model, GammaRegressor):
        return DevianceLoss(2)
    power = float(model.power)
    log_link = model.link == "log" or (model.link == "auto" and power > 0)
    if power == 0 and not log_link:
        return SquaredError(0.5)
    return PoissonLoss() if power == 1 and log_link else DevianceLoss(power, log_link)


@as_task.register(HuberRegressor)
def huber_task(model: HuberRegressor, loss: Any = None) -> Task:
    """Task of a fitted HuberRegressor: ``Σ_i σ + σ H((y_i - o_i) / σ) + α |w|²``.

    The scale σ is a parameter, as in its fit.

    Parameters
    ----------
    model : HuberRegressor
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    task = linear_task(
        model,
        HuberWithScale(float(model.epsilon)),
        {"linear.weight": torch.tensor(2.0 * model.alpha, dtype=torch.float64)},
    )
    module = linear_module(model.coef_, model.intercept_, model.fit_intercept)
    module.add_module("scale", AppendScale(float(model.scale_)))
    return replace(task, module=module.eval())


class AppendScale(nn.Module):
    """Outputs with one more column, the scale of their residuals.

    Parameters
    ----------
    scale : float
    """

    def __init__(self, scale: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor([scale], dtype=torch.float64))

    def forward(self, outputs: Tensor) -> Tensor:
        """Columns of outputs and scale, (n, 2)."""
        return torch.cat([outputs, self.value.expand(len(outputs), 1)], dim=1)
