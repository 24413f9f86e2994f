"""What an influence function learns from one model, and how far the model is from its optimum."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from torch import Tensor

from influencekit._fitted import DampedFitted, query_gradients
from influencekit.attributors.influence._leverage import HIGH_LEVERAGE, high_share
from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import Curvature, CurvatureProblem
from influencekit.curvature._solution import Solution
from influencekit.curvature._spectrum import DampingPath, Spectrum
from influencekit.curvature.exact._centered_space import CenteredLinear, to_raw
from influencekit.curvature.exact._exact import GaussNewton
from influencekit.data._examples import Examples
from influencekit.data._sample import SampledExamples
from influencekit.exceptions import LeverageWarning, NotStationaryWarning, warn_user
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task
from influencekit.models.losses._elementwise import SquaredError
from influencekit.removal._linear_fit import LinearFit, read_linear
from influencekit.removal._whitened import Whitened, whitened
from influencekit.utils._arguments import warn_unused
from influencekit.utils.validation import present

__all__ = [
    "FittedInfluence",
    "checked_factorized",
    "gradient_ratio",
    "warn_unless_projected",
    "warn_unless_stationary",
]

#: Gradient ratio above which the user is warned.
LARGEST_QUIET_RATIO = 0.2
#: The same for a convex objective, for which a solver leaves a ratio below 1e-3.
SOLVED = 5e-3
#: The same if the gradient is within the solver's own tolerance.
SOLVED_TO_TOLERANCE = 0.02
#: Standard errors of a sample's mean gradient that are put down to chance.
CHANCE = 3.0
#: Convex estimators that stop before their optimum.
BASE_SGD = (SGDClassifier, SGDRegressor)


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


def gradient_ratio(problem: CurvatureProblem) -> float:
    """Norm of the objective's gradient over the root mean square norm of examples' gradients.

    Parameters
    ----------
    problem : CurvatureProblem
        The problem, with its training gradients weighted by their shares.

    Returns
    -------
    float
        0 at a stationary point, 1 where all examples pull in the same direction.
    """
    # ‖∇objective‖ / √(Σ_i w_i/W ‖∇loss_i‖²)
    square = problem.example_weights @ problem.train.squared_norms(problem.engine.task.dtype).to(
        torch.float64
    )
    return float(_gradient(problem).norm() / square.sqrt()) if square > 0 else 0.0


def warn_unless_projected(projection: str, curvature: FittedCurvature) -> None:
    """Warn of a kind of projection where gradients are not projected."""
    if getattr(curvature, "projection", None) is None:
        why = f"by curvature={curvature.settings.name!r} with projection_dim=None"
        warn_unused("projection", projection, why, "give projection_dim")


def warn_unless_stationary(ratio: float, problem: CurvatureProblem) -> None:
    """Warn if the model is far from a stationary point.

    The gradient on a sample of the rows is not 0 where that on all rows is. Only what is beyond the
    sample's error is judged.
    """
    task = problem.engine.task
    examples, least = problem.examples, ratio
    if isinstance(examples, SampledExamples):
        least -= CHANCE * examples.standard_error
    if task.convex and not isinstance(task.estimator, BASE_SGD) and least > SOLVED:
        met = _meets_tolerance(problem)
        if (met and least <= SOLVED_TO_TOLERANCE) or _interpolates(problem):
            return
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2g} times the size of one example's "
            f"gradient; a solver leaves less than 1e-3. {_likely_cause(task, met)} Scores can "
            f"still rank examples, but their size does not match leave-one-out effects.",
            NotStationaryWarning,
        )
        return
    if least > LARGEST_QUIET_RATIO:
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2f} times the size of one "
            "example's gradient (0 at a stationary point): the model was not trained to "
            "convergence on this data; or it fits the data so well that the remaining gradients "
            "are small and point the same way; or it was trained with sample weights, an "
            "objective or data other than those given here. Scores can still rank examples, but "
            "their size does not match leave-one-out effects.",
            NotStationaryWarning,
        )


def _gradient(problem: CurvatureProblem) -> Tensor:
    """Gradient of the objective with respect to all parameters."""
    values = problem.engine.task.parameters.values()
    parameters = torch.cat([p.detach().reshape(-1) for p in values])
    # Σ_i w_i/W ∇loss_i + R θ
    return problem.train.mean() + problem.penalty * parameters


def _meets_tolerance(problem: CurvatureProblem) -> bool:
    """Whether every component of the gradient is within the tolerance of a classifier's solver.

    The solvers of logistic regression stop there, so the objective that was read is the one they
    minimized.
    """
    task = problem.engine.task
    tolerance = getattr(task.estimator, "tol", None)
    if task.problem_type != "classification" or tolerance is None:
        return False
    gradient = _gradient(problem)
    if isinstance(task.module, CenteredLinear):
        gradient = to_raw(gradient[None], task.module)[0]
    return bool(gradient.abs().max() <= tolerance)


def _interpolates(problem: CurvatureProblem) -> bool:
    """Whether residuals of a least-squares model, and so its gradients, are rounding."""
    task, residuals, sizes = problem.engine.task, 0.0, 0.0
    if not isinstance(task.loss, SquaredError):
        return False
    for batch in problem.examples.batches(4096):
        targets = present(batch.targets, "training targets").double()
        with torch.no_grad():
            outputs = task.forward(batch.inputs).double()
        residuals += float((outputs - targets.reshape(outputs.shape)).square().sum())
        sizes += float(targets.square().sum())
    dtype = getattr(getattr(task.estimator, "coef_", None), "dtype", np.float64)
    return residuals <= (1e3 * np.finfo(dtype).eps) ** 2 * sizes


def _likely_cause(task: Task, met: bool) -> str:
    """Why the parameters of a convex model are not at the optimum of its objective."""
    steps = getattr(task.estimator, "n_iter_", None)
    most = getattr(task.estimator, "max_iter", None)
    if met:
        return (
            f"Its tolerance, tol={task.estimator.tol:g}, is met, but it is loose for these data: "
            f"fit it with a smaller tol, or scaled features."
        )
    if steps is not None and most is not None and np.max(steps) >= most:
        return (
            f"Its solver stopped early, after max_iter={most} iterations: fit it with a larger "
            "max_iter, or scaled features."
        )
    if getattr(getattr(task.estimator, "coef_", None), "dtype", None) == np.float32:
        return (
            "It was fitted in float32, whose rounding may be the cause (fit it on float64), or "
            "with weights (give fit the same sample_weight), another penalty, or rows other than "
            "those given here."
        )
    return (
        "It was fitted with weights (give fit the same sample_weight), another penalty, or rows "
        "other than those given here; or its tolerance is loose for these data (give a smaller "
        "tol)."
    )


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
