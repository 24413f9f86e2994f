"""What iterative solvers share: checks of residuals, and a smallest damping."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from influencekit.curvature._base import SolvedCurvature
from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._solution import Solution
from influencekit.curvature.exact._hessian import CLEAR_OF_ZERO
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues
from influencekit.exceptions import ConvergenceWarning, warn_user
from influencekit.gradients._gradients import Gradients

__all__ = ["IterativeCurvature", "relative"]


class IterativeCurvature(SolvedCurvature):
    """A curvature whose damped inverse is applied by an iterative solver.

    Solving does not change it: several threads may use one curvature at the same time.

    Attributes
    ----------
    operator : CurvatureOperator
    rtol : float
        Relative residual to reach.
    """

    def __init__(self, problem: CurvatureProblem, matrix: str, rtol: float):
        super().__init__(problem)
        self.operator = CurvatureOperator(problem, matrix)
        self.rtol = rtol

    @property
    def or_ggn(self) -> str:
        """What else helps against negative eigenvalues, at the end of a sentence."""
        if self.operator.matrix == "ggn":
            return ""
        return ", or use matrix='ggn', which has no negative eigenvalues"

    @abstractmethod
    def run(self, vectors: Tensor, damping: float) -> Solution:
        """Solve for every row (k, p), none of which is tiny."""

    def solve(self, vectors: Tensor, damping: float) -> Solution:
        largest = vectors.abs().amax(1, keepdim=True)
        scale = torch.where(largest > 0, largest, 1.0)  # norms of saturated examples underflow
        found = self.run(vectors / scale, damping)
        return replace(found, products=torch.as_tensor(found.products).mul_(scale))

    def _solution(
        self, gradients: Gradients, damping: float, out: Tensor, multiply: Callable[..., Tensor]
    ) -> Solution:
        found = super()._solution(gradients, damping, out, multiply)
        self._warn_of_missed(found, damping)
        return found

    @property
    def floor(self) -> float:  # type: ignore[override]
        """For the Hessian, 1.5 times the size of its smallest eigenvalue, if that is negative.

        Systems are then positive definite.
        """
        if self.operator.matrix == "ggn":
            return 0.0
        smallest, _ = extreme_eigenvalues(self.operator, self.operator.diagonal())
        return CLEAR_OF_ZERO * max(0.0, -smallest)

    def wanted(self, _damping: float) -> float:
        """Relative residual above which the user is warned."""
        return self.rtol

    def _warn_of_missed(self, found: Solution, damping: float) -> None:
        """Warn of systems whose residual is not small enough."""
        if found.residuals is None or found.iterations is None:
            return
        missed = found.residuals > self.wanted(damping)
        if missed.any():
            warn_user(
                f"{int(missed.sum())} of {len(missed)} systems did not reach rtol={self.rtol:.1g} "
                f"at damping={damping:.3g}: the largest relative residual is "
                f"{found.residuals.max():.2g} after up to {int(found.iterations.max())} "
                f"iterations. {self._remedy()}",
                ConvergenceWarning,
            )

    @abstractmethod
    def _remedy(self) -> str:
        """Advice for systems that were not solved."""


def relative(residuals: Tensor, vectors: Tensor) -> Tensor:
    """``‖r‖ / ‖v‖`` of rows, 0 if ``v`` is zero."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return torch.linalg.vector_norm(residuals, dim=1) / torch.where(norms > 0, norms, 1.0)
