"""Linear models with centered features: the same outputs, better conditioned parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.models._task import Task

__all__ = ["CenteredLinear", "can_center", "centered"]


class CenteredLinear(nn.Module):
    """``o = W (x - μ) + b'`` with ``b' = b + W μ``, for a linear layer ``o = W x + b``.

    Solvers center features in the same way.  Where a column's mean is far above its spread (a
    year, a date), the raw features leave the column's direction to rounding.

    Parameters
    ----------
    linear : torch.nn.Linear
        With a bias.
    shift : Tensor of shape (n_features,)
        μ.
    """

    shift: Tensor

    def __init__(self, linear: nn.Linear, shift: Tensor):
        super().__init__()
        weight, bias = linear.weight.detach(), linear.bias.detach()
        self.linear = nn.utils.skip_init(nn.Linear, *reversed(weight.shape))
        self.linear.weight = nn.Parameter(weight.clone())
        self.linear.bias = nn.Parameter(bias + weight @ shift)
        self.register_buffer("shift", shift)

    def forward(self, X: Tensor) -> Tensor:
        """Outputs (n, n_outputs)."""
        return self.linear(X - self.shift)


def can_center(task: Task) -> bool:
    """Whether a task is a convex linear model whose intercept is free of any penalty."""
    linear = getattr(task.module, "linear", None)
    if not task.convex or not isinstance(linear, nn.Linear) or linear.bias is None:
        return False
    return bool((torch.as_tensor(task.penalty.get("linear.bias", 0.0)) == 0).all())


def centered(task: Task, shift: Tensor) -> Task:
    """The same model as a function of centered features; its penalty is the same.

    Parameters
    ----------
    task : Task
        For which :func:`can_center` holds.
    shift : Tensor of shape (n_features,)

    Returns
    -------
    Task
    """
    linear: Any = task.module.linear
    return replace(task, module=CenteredLinear(linear, shift).eval())
