"""How far the model is from a stationary point of its training objective."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.data import Examples
from influencekit.exceptions import NotStationaryWarning, warn_user
from influencekit.gradients import GradientEngine, loss_cotangent
from influencekit.models import Task

__all__ = ["gradient_ratio", "warn_unless_stationary"]

#: Ratio above which a user is told.
LARGEST_QUIET_RATIO = 0.2


def gradient_ratio(
    engine: GradientEngine, train: Examples, weights: Tensor, penalty: Tensor
) -> float:
    """Norm of the objective's gradient over the root mean square norm of examples' gradients.

    Parameters
    ----------
    engine : GradientEngine
    train : Examples
    weights : Tensor of shape (n_train,), float64
        Shares of the examples in the mean loss, summing to 1.
    penalty : Tensor of shape (p,), float64
        Penalty beside the mean loss.

    Returns
    -------
    float
        0 at a stationary point, 1 where all examples pull in the same direction.
    """
    parameters = torch.cat([p.detach().reshape(-1) for p in engine.task.parameters.values()])
    gradient = penalty * parameters
    square = torch.zeros((), dtype=torch.float64, device=penalty.device)
    start = 0
    for features in engine.batches(train, loss_cotangent(engine.task)):
        share = weights[start : start + len(features)]
        gradient += features.weighted_sums(share[None].to(engine.task.dtype))[0]
        square += share @ features.squared_norms().to(torch.float64)
        start += len(features)
    return float(gradient.norm() / square.sqrt()) if square > 0 else 0.0


def warn_unless_stationary(ratio: float, task: Task) -> None:
    """Warn where influence functions speak of another point than the model's."""
    if ratio > LARGEST_QUIET_RATIO:
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2f} times the size of one "
            "example's gradient (0 at a stationary point): the model is not trained to the end on "
            "this data, or fits it so well that the remaining gradients are small and pull one "
            "way, or was trained with sample weights, another objective or other data than given "
            "here. Scores can still rank; their size is not that of leave-one-out.",
            NotStationaryWarning,
        )
