"""The contract of every curvature: made once, applied for any damping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.gradients import loss_cotangent

__all__ = ["Curvature", "FittedCurvature", "SolvedCurvature"]


class Curvature(BaseEstimator, ABC):
    """Which matrix stands for the curvature, and how its damped inverse is applied.

    A curvature holds parameters only; :meth:`factorise` returns what was computed.  Authors
    write that method, ``_parameter_constraints`` for the parameters, and register the class
    under a name in ``CURVATURES``.
    """

    #: Whether ``projection_dim`` and ``projection`` of the attributor are used.
    projects: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, list]] = {}

    @property
    def absolute_damping(self) -> bool:
        """Whether the damping is λ itself, not a multiple of something of the data."""
        return True

    @abstractmethod
    def factorise(self, problem: CurvatureProblem) -> FittedCurvature:
        """Do the work that does not depend on the damping.

        Parameters
        ----------
        problem : CurvatureProblem

        Returns
        -------
        FittedCurvature
        """


class FittedCurvature(ABC):
    """A curvature ``A = F + R`` of one model: products through its damped inverse.

    ``F`` is the mean curvature of the data, ``R`` the penalty of the training objective.

    Attributes
    ----------
    problem : CurvatureProblem
    """

    problem: CurvatureProblem

    @abstractmethod
    def products(self, queries, cotangent, damping: float) -> Tensor:
        """``<g_i, (A + λI)⁻¹ ∇loss_j>`` of queries i and training examples j.

        Parameters
        ----------
        queries : Examples
        cotangent : callable
            Cotangent function whose gradients are ``g_i``.
        damping : float

        Returns
        -------
        Tensor of shape (n_query, n_train)
        """

    @abstractmethod
    def self_products(self, damping: float) -> Tensor:
        """``<∇loss_j, (A + λI)⁻¹ ∇loss_j>`` of the training examples, (n_train,)."""

    @abstractmethod
    def auto_damping(self) -> float:
        """Damping for people who choose none."""


class SolvedCurvature(FittedCurvature):
    """A curvature without eigenvalues: its damped inverse is applied to vectors, λ by λ.

    Parameters
    ----------
    problem : CurvatureProblem
    """

    def __init__(self, problem: CurvatureProblem):
        self.problem = problem

    @abstractmethod
    def solve(self, vectors: Tensor, damping: float) -> Tensor:
        """``(A + λI)⁻¹ v`` of every row.

        Parameters
        ----------
        vectors : Tensor of shape (k, p)
        damping : float

        Returns
        -------
        Tensor of shape (k, p)
        """

    def products(self, queries, cotangent, damping):
        engine, train = self.problem.engine, self.problem.examples
        out = torch.empty(len(queries), len(train), dtype=engine.task.dtype)
        for rows in self._chunks(len(queries)):
            vectors = engine.matrix(queries.take(rows), cotangent, dtype=engine.task.dtype)
            solved = self.solve(vectors, damping)
            out[rows] = engine.matmul(train, loss_cotangent(engine.task), solved.mT).mT.cpu()
        return out

    def self_products(self, damping):
        engine, train = self.problem.engine, self.problem.examples
        cotangent = loss_cotangent(engine.task)
        parts = []
        for rows in self._chunks(len(train)):
            vectors = engine.matrix(train.take(rows), cotangent, dtype=engine.task.dtype)
            parts.append((vectors * self.solve(vectors, damping)).sum(1))
        return torch.cat(parts)

    def auto_damping(self):
        from influencekit.curvature._sketch_damping import sketch_damping

        return sketch_damping(self.problem)

    def _chunks(self, n: int):
        """Slices of rows whose dense gradients, and a few copies of them, fit the memory."""
        engine = self.problem.engine
        each = 8 * engine.task.n_parameters * torch.finfo(engine.task.dtype).bits // 8
        size = int(max(1, min(n, engine.max_memory // 2 // each)))
        for start in range(0, n, size):
            yield slice(start, min(n, start + size))
