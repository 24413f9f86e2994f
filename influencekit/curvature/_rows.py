"""Curvature matrices as weighted sums of outer products of gradient rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.data import Examples
from influencekit.gradients import GradientEngine, ggn_cotangent, loss_cotangent

__all__ = ["CurvatureRows", "fisher_rows", "ggn_rows"]


@dataclass
class CurvatureRows:
    """A data curvature ``F = Σ_r ω_r b_r b_rᵀ`` over N = n * rows_per_example rows.

    Attributes
    ----------
    problem : CurvatureProblem
    make_cotangent : callable
        From a Task, the cotangent function whose gradients are the rows ``b_r``.
    rows_per_example : int
    gradient_coordinates : Tensor of shape (n, rows_per_example) or None
        ``c`` with ``g_i = Σ_r c_ir b_ir`` for the training gradients ``g_i``; None where a
        gradient is not such a sum.
    make_train_cotangent : callable, default=loss_cotangent
        From a Task, the cotangent function of the training gradients ``g_i`` that scores are
        taken of.
    """

    problem: CurvatureProblem
    make_cotangent: Callable
    rows_per_example: int
    gradient_coordinates: Tensor | None
    make_train_cotangent: Callable = loss_cotangent

    @property
    def engine(self) -> GradientEngine:
        """Engine of the problem."""
        return self.problem.engine

    @property
    def examples(self) -> Examples:
        """Training examples of the problem."""
        return self.problem.examples

    @property
    def cotangent(self) -> Callable:
        """Cotangent function of the rows."""
        return self.make_cotangent(self.engine.task)

    @property
    def n_rows(self) -> int:
        """Number N of rows."""
        return len(self.examples) * self.rows_per_example

    @property
    def row_weights(self) -> Tensor:
        """ω, shape (N,)."""
        return self.problem.example_weights.repeat_interleave(self.rows_per_example)

    @property
    def tolerance(self) -> float:
        """Relative size below which an eigenvalue is rounding noise of the gradients."""
        dtype = self.engine.task.dtype
        size = min(self.n_rows, self.engine.task.n_parameters) if dtype == torch.float64 else 1
        return size * torch.finfo(dtype).eps


def fisher_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Empirical Fisher: the rows are the training examples' own loss gradients.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    n, device = len(problem.examples), problem.engine.task.device
    ones = torch.ones(n, 1, dtype=torch.float64, device=device)
    return CurvatureRows(problem, loss_cotangent, 1, ones)


def ggn_rows(problem: CurvatureProblem) -> CurvatureRows:
    """Generalised Gauss-Newton: the rows are ``J_iᵀ L_i`` with the loss Hessian ``L_i L_iᵀ``.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    CurvatureRows
    """
    engine, examples = problem.engine, problem.examples
    loss = engine.task.loss
    parts, inside, rank = [], True, 0
    with torch.no_grad():
        for batch in examples.batches(_hessian_batch(engine, examples)):
            found = loss.hessian_factor(engine.task.forward(batch.inputs), batch.targets)
            rank = found.factor.shape[-1]
            inside = inside and found.coordinates is not None
            parts.append(found.coordinates)
    coordinates = torch.cat(parts).to(torch.float64) if inside else None
    return CurvatureRows(problem, ggn_cotangent, rank, coordinates)


def _hessian_batch(engine: GradientEngine, examples: Examples) -> int:
    """Examples whose output Hessians, and a few matrices of their size, fit the memory."""
    first = next(iter(examples.batches(1)))
    n_outputs = engine.task.forward(first.inputs).numel()
    room = engine.max_memory // 4 // (5 * 8 * n_outputs**2)
    return int(min(256, max(1, room)))
