"""What an influence function learns from one model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from influencekit._fitted import DampedFitted
from influencekit.attributors._gradients import query_gradients
from influencekit.curvature import FittedCurvature, Solution, Spectrum
from influencekit.models import Task

__all__ = ["FittedInfluence"]


class FittedInfluence(DampedFitted):
    """A factorised curvature of one model, with a damping.

    Parameters
    ----------
    task : Task
    curvature : FittedCurvature
    gradient_ratio : float
    output : str or callable
    """

    def __init__(self, task: Task, curvature: FittedCurvature, gradient_ratio: float, output: Any):
        self.task, self.curvature = task, curvature
        self.gradient_ratio, self.output = gradient_ratio, output
        if isinstance(curvature, Spectrum):
            self.eigenvalues = curvature.eigenvalues.flatten().cpu().numpy()
            self.least_damping = curvature.least_damping

    def scores(self, queries):
        products = self.curvature.products(self._gradients(queries), self.damping)
        if not isinstance(products, Tensor):
            raise TypeError(
                f"{type(self.curvature).__name__}.products returned a {type(products).__name__}; "
                "it must return a Tensor (n_queries, n_train)."
            )
        weights = self.curvature.problem.example_weights
        return products.mul_(-weights.to(products)).cpu().double().numpy()

    def self_scores(self):
        products = self.curvature.self_products(self.damping).double()
        weights = self.curvature.problem.example_weights
        return (products * weights.to(products)).cpu().numpy()

    def solution(self, queries) -> Solution:
        """Products as an array, with the residual and iterations of each query's system."""
        solver: Any = self.curvature
        found = solver.solution(self._gradients(queries), self.damping)
        return replace(found, products=found.products.cpu().double().numpy())

    def path(self, queries):
        spectrum: Any = self.curvature
        return spectrum.path(self._gradients(queries))

    def _gradients(self, queries):
        return query_gradients(self.curvature.problem.engine, self.output, queries)
