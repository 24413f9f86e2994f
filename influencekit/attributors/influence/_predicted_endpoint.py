"""The end of further training, predicted from the fitted model without training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature.low_rank._lanczos import lanczos
from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import loss_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task
from influencekit.training.further._config import ResolvedTraining
from influencekit.utils._torch import simple_kernels

__all__ = ["ShiftedOutputs", "apply_filter", "descent_filter", "predicted_task", "unmoved_task"]

#: Number of curvature directions in which descent is followed.
N_DIRECTIONS = 60
#: Growth along the largest curvature above which descent counts as diverged.
GROWTH = 1e3


class ShiftedOutputs(nn.Module):
    """A fitted module whose outputs are moved along a direction of its parameters.

    The outputs are ``z(x; θ) + J(x; θ) Δ`` with J the Jacobian in the parameters.  Gradients
    are those at θ of the fitted module, ``Jᵀ ∂/∂z``, with ``∂/∂z`` taken at the moved outputs.

    Parameters
    ----------
    task : Task
    direction : Tensor of shape (p,)
        Δ, in the order of ``task.parameters``.
    """

    def __init__(self, task: Task, direction: Tensor):
        super().__init__()
        self.module = task.module
        self.task = Task(task.module, task.loss, task.link)
        sizes = [p.numel() for p in task.parameters.values()]
        parts = zip(task.parameters.items(), direction.split(sizes), strict=True)
        self.direction = {name: part.view_as(p).to(p) for (name, p), part in parts}

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Natural outputs of the fitted module, moved."""
        inputs = kwargs or args
        with torch.no_grad(), simple_kernels():  # forward-mode derivatives
            own = {k: p.detach() for k, p in self.module.named_parameters() if k in self.direction}
            outputs = partial(self.task.forward, inputs)
            # J Δ
            shift = torch.func.jvp(outputs, (own,), (self.direction,))[1]
        return self.task.forward(inputs) + shift


def predicted_task(
    engine: GradientEngine,
    train: Examples,
    weights: Tensor,
    penalty: Tensor,
    config: ResolvedTraining,
) -> Task:
    """The fitted model as it would be after further training, to first order.

    The parameters' change Δ is that of gradient descent on the objective's quadratic
    (Gauss-Newton) model; outputs are moved by ``JΔ``.

    Parameters
    ----------
    engine : GradientEngine
        Engine of the fitted model.
    train : Examples
    weights : Tensor of shape (n_train,), float64
        Weights of the examples in the mean loss, which sum to 1.
    penalty : Tensor of shape (p,), float64
    config : ResolvedTraining

    Returns
    -------
    Task
    """
    task = engine.task
    parameters = torch.cat([p.detach().reshape(-1) for p in task.parameters.values()]).double()
    gradients = Gradients(engine, train, loss_cotangent(task))
    # g = Σ_i w_i/W ∇loss_i + R θ
    gradient = gradients.sums(weights[None])[0] + penalty * parameters
    curvature = CurvatureOperator(CurvatureProblem(gradients, weights, penalty))
    rate = config.lr / (1.0 - config.momentum)
    steps = descent_filter(rate, config.n_steps)

    def checked(eigenvalues: Tensor) -> Tensor:
        _refuse_divergence(float(eigenvalues.max()), config)
        return steps(eigenvalues.clamp_min(0.0))

    # Δ = -((I - (I - η A)^T) A⁻¹) g
    change = -apply_filter(curvature, gradient, checked)
    named = {f"module.{name}": strength for name, strength in task.penalty.items()}
    module = ShiftedOutputs(task, change).eval()
    return replace(task, module=module, link=None, penalty=named, training_rows=None)


def unmoved_task(task: Task) -> Task:
    """The fitted model again, with parameters laid out as those of a predicted task.

    Parameters
    ----------
    task : Task
        As :func:`predicted_task` returns it.

    Returns
    -------
    Task
    """
    moved: Any = task.module
    nothing = torch.cat([torch.zeros_like(d).reshape(-1) for d in moved.direction.values()])
    return replace(task, module=ShiftedOutputs(moved.task, nothing).eval())


def _refuse_divergence(largest: float, config: ResolvedTraining) -> None:
    """Refuse descent that grows without bound along the largest curvature."""
    grown = max(1.0, config.lr / (1.0 - config.momentum) * largest - 1.0)
    if config.n_steps * math.log(grown) > math.log(GROWTH):
        raise ValueError(
            f"further_training: with lr={config.lr:g}, {config.n_steps} steps of gradient descent "
            f"diverge along the largest curvature, {largest:.3g}: each step multiplies the "
            f"distance by {grown:.3g}, so the endpoint cannot be predicted. Give a smaller "
            f"learning rate, or "
            "at='endpoint', which trains."
        )


def descent_filter(rate: float, n_steps: int) -> Callable[[Tensor], Tensor]:
    """``(1 - (1 - ηs)^T) / s``: how far T steps of gradient descent go along curvature s.

    Directions in which descent would diverge (ηs > 2) count as if it oscillated.

    Parameters
    ----------
    rate : float
    n_steps : int

    Returns
    -------
    callable

    Examples
    --------
    >>> import torch
    >>> descent_filter(0.1, 20)(torch.tensor([0.0, 1.0, 10.0]).double())
    tensor([2.0000, 0.8784, 0.1000], dtype=torch.float64)
    """

    def function(curvature: Tensor) -> Tensor:
        small = curvature.abs() * rate * n_steps < 1e-6
        safe = torch.where(small, 1.0, curvature)
        left = (1.0 - rate * safe).clamp_min(-1.0)
        return torch.where(small, rate * n_steps, (1.0 - left**n_steps) / safe)

    return function


def apply_filter(
    matrix: Callable[[Tensor], Tensor],
    vector: Tensor,
    function: Callable[[Tensor], Tensor],
    n_directions: int = N_DIRECTIONS,
) -> Tensor:
    """Function of a symmetric matrix times a vector, by Lanczos' method.

    Parameters
    ----------
    matrix : callable
        Products of the matrix with rows of vectors, (k, p) to (k, p).
    vector : Tensor of shape (p,), float64
    function : callable
        Function of eigenvalues.
    n_directions : int
        Number of products with the matrix.

    Returns
    -------
    Tensor of shape (p,)
    """
    if not vector.norm() > 0:
        return torch.zeros_like(vector)
    n = min(n_directions, len(vector))
    found = lanczos(matrix, vector[None], rank=n, size=n, seed=None)
    # f(A) v ≈ Uᵀ f(θ) U v, with the Ritz vectors as rows of U
    return (function(found.values) * (found.vectors @ vector)) @ found.vectors
