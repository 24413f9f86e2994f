"""Positive definite approximations of the damped inverse, which speed up conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature.low_rank._low_rank import with_penalty
from influencekit.curvature.low_rank._nystroem import Nystroem

__all__ = ["PRECONDITIONERS", "Preconditioner"]

#: ``(rows (k, p), damping) -> (k, p)``
Preconditioner = Callable[[Tensor, float], Tensor]


@dataclass
class NystroemPreconditioner:
    """Low-rank eigenpairs; the smallest eigenvalue is used for directions outside the span.

    Attributes
    ----------
    basis : Tensor of shape (p, rank)
    eigenvalues : Tensor of shape (rank,), float64
        In ascending order, including the penalty.
    """

    basis: Tensor
    eigenvalues: Tensor

    @classmethod
    def make(
        cls, problem: CurvatureProblem, rank: int, random_state: Any
    ) -> NystroemPreconditioner:
        """Make the preconditioner of the Gauss-Newton matrix with the penalty."""
        task = problem.engine.task
        each = 8 * task.n_parameters * torch.empty(0, dtype=task.dtype).element_size()
        rank = max(1, min(rank, problem.max_memory // each))
        sketch = Nystroem(rank, random_state=random_state).sketch(problem)
        basis, eigenvalues, _ = with_penalty(problem, *sketch)
        return cls(basis, eigenvalues)

    def __call__(self, rows: Tensor, damping: float) -> Tensor:
        # at least the rounding error, or noise in null directions would grow
        least = float(self.eigenvalues.max()) * torch.finfo(rows.dtype).eps ** 0.5
        rest = max(float(self.eigenvalues.min()) + damping, least) or 1.0
        scale = (1 / (self.eigenvalues + damping).clamp_min(rest) - 1 / rest).to(rows.dtype)
        # v / rest + U (1 / (s + λ) - 1 / rest) Uᵀ v
        return rows / rest + ((rows @ self.basis) * scale) @ self.basis.mT


PRECONDITIONERS: dict[str, Callable[..., Preconditioner]] = {
    "nystroem": NystroemPreconditioner.make,
}
