"""What iterative solvers share: products in pieces, a report of residuals, a damping."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from influencekit.curvature._base import SolvedCurvature
from influencekit.curvature._operators import CurvatureOperator
from influencekit.curvature.exact._hessian import CLEAR_OF_ZERO
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues
from influencekit.exceptions import ConvergenceWarning, warn_user

__all__ = ["IterativeCurvature", "SolveReport"]


@dataclass
class SolveReport:
    """How far systems were solved.

    Attributes
    ----------
    residuals : ndarray of shape (n_systems,)
        ``‖v - (A + λI) x‖ / ‖v‖``; 0 for ``v = 0``.
    iterations : ndarray of shape (n_systems,)
    """

    residuals: np.ndarray
    iterations: np.ndarray


class IterativeCurvature(SolvedCurvature):
    """A curvature whose damped inverse is applied by an iterative solver.

    Attributes
    ----------
    operator : CurvatureOperator
    rtol : float
        Relative residual wanted.
    residuals_ : ndarray of shape (n_systems,)
        Relative residuals of the last call of ``products`` or ``self_products``: one a query.
    iterations_ : ndarray of shape (n_systems,)
        Iterations of the same systems.
    """

    def __init__(self, problem, matrix: str, rtol: float):
        super().__init__(problem)
        self.operator = CurvatureOperator(problem, matrix)
        self.rtol = rtol
        self._reports: list[SolveReport] = []
        self.residuals_, self.iterations_ = np.empty(0), np.empty(0, dtype=int)

    @abstractmethod
    def run(self, vectors: Tensor, damping: float) -> tuple[Tensor, SolveReport]:
        """Solve for every row (k, p), and report."""

    def solve(self, vectors, damping):
        largest = vectors.abs().amax(1, keepdim=True)
        scale = torch.where(largest > 0, largest, 1.0)  # norms of saturated examples underflow
        solution, report = self.run(vectors / scale, damping)
        self._reports.append(report)
        return solution.mul_(scale)

    def products(self, queries, damping):
        call = self._call()
        found = SolvedCurvature.products(call, queries, damping)
        self._finish(call._reports, damping)
        return found

    def self_products(self, damping):
        call = self._call()
        found = SolvedCurvature.self_products(call, damping)
        self._finish(call._reports, damping)
        return found

    def _call(self):
        """A copy with reports of its own: other threads may be solving too."""
        call = copy.copy(self)
        call._reports = []
        return call

    @property
    def floor(self):
        """For the Hessian 1.5 times the size of its smallest eigenvalue, where that is negative.

        Systems are then positive definite.
        """
        if self.operator.matrix == "ggn":
            return 0.0
        smallest, _ = extreme_eigenvalues(self.operator, self.operator.diagonal())
        return CLEAR_OF_ZERO * max(0.0, -smallest)

    def wanted(self, damping: float) -> float:
        """Relative residual above which a user is told."""
        return self.rtol

    def _finish(self, reports: list[SolveReport], damping: float) -> None:
        self.residuals_ = np.concatenate([report.residuals for report in reports])
        self.iterations_ = np.concatenate([report.iterations for report in reports])
        missed = self.residuals_ > self.wanted(damping)
        if missed.any():
            warn_user(
                f"{int(missed.sum())} of {len(missed)} systems did not reach rtol={self.rtol:.1g} "
                f"at damping={damping:.3g}: largest relative residual "
                f"{self.residuals_.max():.2g}, after up to {int(self.iterations_.max())} "
                f"iterations. {self._remedy()}",
                ConvergenceWarning,
            )

    @abstractmethod
    def _remedy(self) -> str:
        """What a user can do about systems that were not solved."""


def relative(residuals: Tensor, vectors: Tensor) -> Tensor:
    """``‖r‖ / ‖v‖`` of rows, 0 where ``v`` is zero."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return torch.linalg.vector_norm(residuals, dim=1) / torch.where(norms > 0, norms, 1.0)
