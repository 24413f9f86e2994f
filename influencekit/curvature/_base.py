"""The contract of every curvature: made once, applied for any damping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.gradients import Gradients
from influencekit.utils import chunks

__all__ = ["Curvature", "FittedCurvature", "SolvedCurvature"]


class Curvature(BaseEstimator, ABC):
    """Which matrix stands for the curvature, and how its damped inverse is applied.

    A curvature holds parameters only; :meth:`factorise` returns what was computed.  Authors
    write ``__init__``, which only stores parameters, ``_parameter_constraints``, which says what
    they accept, and :meth:`factorise`.  They set ``projects = True`` if it reads
    ``problem.projection_dim``.  Attributors take an object of the class as ``curvature``; a
    name in ``CURVATURES`` is for those of the package.
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
            Training gradients, their weights, the penalty.

        Returns
        -------
        FittedCurvature
            That keeps ``problem``.
        """


class FittedCurvature(ABC):
    """A curvature ``A = F + R`` of one model: products through its damped inverse.

    ``F`` is the mean curvature of the data, ``R`` the penalty of the training objective.

    Authors write :meth:`products` and :meth:`self_products`, keep the problem, and overwrite
    :attr:`floor` where small dampings do not work.  A :class:`SolvedCurvature` asks for one
    method in place of the two.  The object is pickled and copied with the attributor, so its
    class is one of a module, and it holds no open files and no lambdas.

    Attributes
    ----------
    problem : CurvatureProblem
        As :meth:`Curvature.factorise` got it.
    """

    problem: CurvatureProblem

    @abstractmethod
    def products(self, queries: Gradients, damping: float) -> Tensor:
        """``<g_i, (A + λI)⁻¹ ∇loss_j>`` of queries i and training examples j.

        Parameters
        ----------
        queries : Gradients
            ``g_i``, one a query.
        damping : float

        Returns
        -------
        Tensor of shape (n_query, n_train)
            Without the weights of the training examples and without the minus sign: the caller
            multiplies by ``-example_weights``.  It does so in place, so the tensor is a new one
            at every call.
        """

    @abstractmethod
    def self_products(self, damping: float) -> Tensor:
        """``<∇loss_j, (A + λI)⁻¹ ∇loss_j>`` of the training examples.

        Parameters
        ----------
        damping : float

        Returns
        -------
        Tensor of shape (n_train,)
        """

    @property
    def floor(self) -> float:
        """Least damping for ``damping="auto"``; 0 where any will do."""
        return 0.0


class SolvedCurvature(FittedCurvature):
    """A curvature without eigenvalues: its damped inverse is applied to vectors, λ by λ.

    Authors write :meth:`solve`.

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

    def products(self, queries, damping):
        train, dtype = self.problem.train, self.problem.engine.task.dtype
        out = torch.empty(len(queries), len(train), dtype=dtype)
        for rows in self._chunks(len(queries)):
            solved = self.solve(queries.take(rows).matrix(dtype), damping)
            out[rows] = (train @ solved.mT).mT.cpu()
        return out

    def self_products(self, damping):
        train, parts = self.problem.train, []
        for rows in self._chunks(len(train)):
            vectors = train.take(rows).matrix(self.problem.engine.task.dtype)
            parts.append((vectors * self.solve(vectors, damping)).sum(1))
        return torch.cat(parts)

    def _chunks(self, n: int):
        """Slices of rows whose dense gradients, and a few copies of them, fit the memory."""
        engine = self.problem.engine
        each = 8 * engine.task.n_parameters * torch.finfo(engine.task.dtype).bits // 8
        return chunks(n, each, engine.max_memory // 2)
