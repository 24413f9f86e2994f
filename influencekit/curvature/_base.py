"""The contract of factorized curvatures: computed once, applied with any damping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._solution import Solution, join_solutions
from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import chunks

__all__ = ["FittedCurvature", "SolvedCurvature"]


class FittedCurvature(ABC):
    """A curvature ``A = F + R`` of one model: products through its damped inverse.

    ``F`` is the mean curvature of the data, ``R`` the penalty of the training objective.

    Authors write :meth:`products` and :meth:`self_products`, keep the problem, and overwrite
    ``floor`` if small dampings do not work. A :class:`SolvedCurvature` needs one method instead of
    the two. The object is pickled and copied with the attributor, so define its class at module
    level and keep neither open files nor lambdas in it.

    Attributes
    ----------
    problem : CurvatureProblem
        The problem given to :meth:`Curvature.factorize`.
    floor : float
        Smallest damping for ``damping="auto"``; 0 if any damping works.
    settings : Curvature
        The curvature that was factorized, with its parameters; set by the attributor.
    """

    problem: CurvatureProblem
    floor: float = 0.0
    settings: Any = None

    @property
    def name(self) -> str:
        """Name of the curvature: what ``curvature="auto"`` chose."""
        return getattr(self.settings, "name", "") or type(self.settings).__name__

    def __repr__(self) -> str:
        """One line: what it is, and the size of its eigenvalues, if it has any."""
        said = [] if self.settings is None else [repr(self.name)]
        values = getattr(self, "eigenvalues", None)
        if isinstance(values, Tensor) and len(values):
            low, high = float(values.min()), float(values.max())
            said.append(f"{len(values)} eigenvalues from {low:.3g} to {high:.3g}")
        return f"{type(self).__name__}({', '.join(said)})"

    @abstractmethod
    def products(self, queries: Gradients, damping: float) -> Tensor:
        """``<g_i, (A + λI)⁻¹ ∇loss_j>`` of queries i and training examples j.

        Parameters
        ----------
        queries : Gradients
            ``g_i``, one for each query.
        damping : float

        Returns
        -------
        Tensor of shape (n_query, n_train)
            Without the weights of the training examples and without the minus sign: the caller
            multiplies by ``-example_weights`` in place, so return a new tensor in every call.
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


class SolvedCurvature(FittedCurvature):
    """A curvature without eigenvalues: its damped inverse is applied to vectors, λ by λ.

    Authors write :meth:`solve`.

    Parameters
    ----------
    problem : CurvatureProblem

    Attributes
    ----------
    n_copies : int
        Arrays in the size of the gradients that :meth:`solve` holds, them included: how many
        systems are solved together depends on it.
    """

    n_copies: int = 8

    def __init__(self, problem: CurvatureProblem):
        self.problem = problem

    @abstractmethod
    def solve(self, vectors: Tensor, damping: float) -> Solution:
        """``(A + λI)⁻¹ v`` of every row.

        Parameters
        ----------
        vectors : Tensor of shape (k, p)
        damping : float

        Returns
        -------
        Solution
            Its products are a Tensor of shape (k, p).
        """

    def solution(self, queries: Gradients, damping: float) -> Solution:
        """Products with the training gradients, and the residual of each query's system.

        Parameters
        ----------
        queries : Gradients
        damping : float

        Returns
        -------
        Solution
            Its products are a Tensor of shape (n_query, n_train).
        """
        train, dtype = self.problem.train, self.problem.engine.task.dtype
        out = torch.empty(len(queries), len(train), dtype=dtype)
        return self._solution(queries, damping, out, lambda _, solved: (train @ solved.mT).mT.cpu())

    def products(self, queries: Gradients, damping: float) -> Tensor:
        products: Any = self.solution(queries, damping).products
        return products

    def self_products(self, damping: float) -> Tensor:
        train, task = self.problem.train, self.problem.engine.task
        out = torch.empty(len(train), dtype=task.dtype, device=task.device)
        found: Any = self._solution(train, damping, out, lambda own, solved: (own * solved).sum(1))
        return found.products

    def _solution(
        self, gradients: Gradients, damping: float, out: Tensor, multiply: Callable[..., Tensor]
    ) -> Solution:
        """Solve in pieces; ``multiply(vectors, solved)`` gives the rows of ``out`` for a piece."""
        parts = []
        for rows in self._chunks(len(gradients)):
            vectors = gradients.take(rows).matrix(out.dtype)
            found = self.solve(vectors, damping)
            if not isinstance(found, Solution):
                raise TypeError(
                    f"{type(self).__name__}.solve returned a {type(found).__name__}; it must "
                    "return a Solution of influencekit.curvature, Solution(products)."
                )
            out[rows] = multiply(vectors, found.products)
            parts.append(replace(found, products=out[rows]))  # frees the solved vectors
        return join_solutions(out, parts)

    def _chunks(self, n: int) -> Iterator[slice]:
        """Slices of rows whose dense gradients, and the copies of them, fit into memory."""
        engine = self.problem.engine
        each = self.n_copies * engine.task.n_parameters * torch.finfo(engine.task.dtype).bits // 8
        return chunks(n, each, engine.held_memory // 2)
