"""Curvature matrices as weighted sums of outer products of gradient rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.data import Examples
from influencekit.gradients import GradientEngine, Gradients, ggn_cotangent

__all__ = ["CurvatureRows", "fisher_rows", "ggn_rows"]


@dataclass
class CurvatureRows:
    """A data curvature ``F = Σ_r ω_r b_r b_rᵀ`` over the N rows of some gradients.

    Attributes
    ----------
    problem : CurvatureProblem
    rows : Gradients
        The rows ``b_r`` of all training examples: ``problem.train.along(cotangent)``.
    find_coordinates : callable or None, default=None
        Makes ``gradient_coordinates``; None where gradients are no sums of the rows.
    """

    problem: CurvatureProblem
    rows: Gradients
    find_coordinates: Callable[[], Tensor | None] | None = None

    @cached_property
    def gradient_coordinates(self) -> Tensor | None:
        """``c`` with ``g_i = Σ_r c_ir b_ir`` for the training gradients, (n, R), or None."""
        return None if self.find_coordinates is None else self.find_coordinates()

    @property
    def weights(self) -> Tensor:
        """ω, shape (N,)."""
        return self.problem.example_weights.repeat_interleave(self.rows.rows_per_example)

    @property
    def tolerance(self) -> float:
        """Relative size below which an eigenvalue is rounding noise of the gradients."""
        task = self.problem.engine.task
        size = min(self.rows.n_rows, task.n_parameters) if task.dtype == torch.float64 else 1
        return size * torch.finfo(task.dtype).eps


def fisher_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Empirical Fisher: the rows are the training examples' own loss gradients.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    weights = problem.example_weights
    return CurvatureRows(problem, problem.train, lambda: torch.ones_like(weights)[:, None])


def ggn_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Generalised Gauss-Newton: the rows are ``J_iᵀ L_i`` with the loss Hessian ``L_i L_iᵀ``.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    rows = problem.train.along(ggn_cotangent(problem.engine.task))
    return CurvatureRows(problem, rows, lambda: _loss_coordinates(problem))


@torch.no_grad()
def _loss_coordinates(problem: CurvatureProblem) -> Tensor | None:
    """Loss gradients in the columns of the output Hessian's factor, float64."""
    task, examples, parts = problem.engine.task, problem.examples, []
    for batch in examples.batches(_hessian_batch(problem.engine, examples)):
        found = task.loss.hessian_factor(task.forward(batch.inputs), batch.targets).coordinates
        if found is None:
            return None
        parts.append(found)
    return torch.cat(parts).to(torch.float64)


def _hessian_batch(engine: GradientEngine, examples: Examples) -> int:
    """Examples whose output Hessians, and a few matrices of their size, fit the memory."""
    first = next(iter(examples.batches(1)))
    n_outputs = engine.task.forward(first.inputs).numel()
    room = engine.max_memory // 4 // (5 * 8 * n_outputs**2)
    return int(min(256, max(1, room)))
