"""What an influence function learns from one model."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from influencekit._fitted import DampedFitted, query_gradients
from influencekit.attributors.influence._leverage import HIGH_LEVERAGE, high_share
from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import Curvature
from influencekit.curvature._solution import Solution
from influencekit.curvature._spectrum import DampingPath, Spectrum
from influencekit.curvature.exact._exact import GaussNewton
from influencekit.data._examples import Examples
from influencekit.exceptions import LeverageWarning, warn_user
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task
from influencekit.removal._linear_fit import LinearFit, read_linear
from influencekit.removal._whitened import Whitened, whitened
from influencekit.utils._arguments import warn_unused

__all__ = [
    "FittedInfluence",
    "checked_factorized",
    "warn_unless_projected",
]


class FittedInfluence(DampedFitted):
    """A factorized curvature of one model, with a damping.

    Parameters
    ----------
    task : Task
    curvature : FittedCurvature
    gradient_ratio : float
    output : str or callable
    engine : GradientEngine or None, default=None
        Takes the gradients of test examples; None uses the engine of the curvature's problem.
    """

    def __init__(
        self,
        task: Task,
        curvature: FittedCurvature,
        gradient_ratio: float,
        output: Any,
        engine: GradientEngine | None = None,
    ):
        self.task, self.curvature = task, curvature
        self.engine = curvature.problem.engine if engine is None else engine
        self.gradient_ratio, self.output = gradient_ratio, output
        #: Whether gradients are taken at the fitted model, where leverage is known.
        self.looks_at_leverage = True
        #: Share of rows with a high leverage, once it is known; for all copies of this.
        self.shares: list[float] = []

    @property
    def eigenvalues(self) -> np.ndarray | None:  # type: ignore[override]
        """Eigenvalues of the curvature without damping, if it has any."""
        spectrum = self.curvature
        return (
            spectrum.eigenvalues.flatten().cpu().numpy() if isinstance(spectrum, Spectrum) else None
        )

    @property
    def least_damping(self) -> float:  # type: ignore[override]
        """Least λ above 0 that rounding can carry; 0 where any will do."""
        return self.curvature.least_damping if isinstance(self.curvature, Spectrum) else 0.0

    def scores(self, queries: Examples) -> np.ndarray:
        products = self.curvature.products(self._gradients(queries), self.damping)
        if not isinstance(products, Tensor):
            raise TypeError(
                f"{type(self.curvature).__name__}.products returned a {type(products).__name__}; "
                "it must return a Tensor (n_queries, n_train)."
            )
        self.warn_of_leverage()
        # -<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j/W
        weights = self.curvature.problem.example_weights
        return products.mul_(-weights.to(products)).cpu().double().numpy()

    def self_scores(self) -> np.ndarray:
        products = self.curvature.self_products(self.damping).double()
        weights = self.curvature.problem.example_weights
        # <∇loss_j, (A + λI)⁻¹ ∇loss_j> w_j/W
        return (products * weights.to(products)).cpu().numpy()

    def solution(self, queries: Examples) -> Solution:
        """Products as an array, with residuals and iterations for each query."""
        solver: Any = self.curvature
        found = solver.solution(self._gradients(queries), self.damping)
        return replace(found, products=found.products.cpu().double().numpy())

    def path(self, queries: Examples) -> DampingPath:
        spectrum: Any = self.curvature
        return spectrum.path(self._gradients(queries))

    def warn_of_leverage(self) -> None:
        """Warn if some rows of a linear model nearly determine their own output.

        A row's leverage is taken along its own pull, ``cᵀ H c / cᵀ c`` with ``∇loss = L c`` and its
        block H of the hat matrix: with one output it is the row's leverage. For "ggn" only.
        """
        task = self.task
        looked_at = isinstance(self.curvature.settings, GaussNewton)
        if not (self.looks_at_leverage and task.convex and looked_at) or self.shares:
            return
        self.shares.append(high_share(self.curvature, self.damping))
        if self.shares[0] > 0:
            warn_user(
                f"{self.shares[0]:.1%} of the training rows have a leverage above "
                f"{HIGH_LEVERAGE:g}: {task.name} nearly follows them, and without them it would "
                f"change by more than twice what these scores say, to first order. Use "
                f"removal_order='leverage' or 'newton', or predict_without.",
                LeverageWarning,
            )

    @cached_property
    def linear(self) -> LinearFit:
        """The same linear model as arrays."""
        return read_linear(self.task, self.curvature.problem.examples, "InfluenceFunction")

    @cached_property
    def undamped(self) -> Whitened:
        """Its decomposed Hessian without damping."""
        return whitened(self.linear)

    def _gradients(self, queries: Examples) -> Gradients:
        return query_gradients(self.engine, self.output, queries)


def warn_unless_projected(projection: str, curvature: FittedCurvature) -> None:
    """Warn of a kind of projection where gradients are not projected."""
    if getattr(curvature, "projection", None) is None:
        why = f"by curvature={curvature.settings.name!r} with projection_dim=None"
        warn_unused("projection", projection, why, "give projection_dim")


def checked_factorized(curvature: Curvature, factorized: Any) -> FittedCurvature:
    """Check the return value of an author's ``factorize``."""
    name = type(curvature).__name__
    if not isinstance(factorized, FittedCurvature):
        raise TypeError(
            f"{name}.factorize returned a {type(factorized).__name__}; it must return a "
            "FittedCurvature of influencekit.curvature."
        )
    if not hasattr(factorized, "problem"):
        raise TypeError(
            f"{name}.factorize returned a {type(factorized).__name__} without the attribute "
            "'problem'. Keep the problem in its __init__."
        )
    return factorized
