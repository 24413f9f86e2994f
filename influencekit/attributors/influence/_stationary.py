"""How far a model is from a stationary point, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._spectrum import CoordinateSpectrum, sample_rows
from influencekit.curvature.exact._centered_space import CenteredLinear, is_linear, to_raw
from influencekit.curvature.exact._exact import GaussNewton
from influencekit.curvature.exact._hessian import Hessian
from influencekit.data._sample import SampledExamples
from influencekit.exceptions import NotStationaryWarning, warn_user
from influencekit.models._task import Task
from influencekit.models.losses._elementwise import SquaredError
from influencekit.utils.validation import present

__all__ = ["gradient_ratio", "warn_unless_stationary", "whitened_ratio"]

#: Gradient ratio above which the user is warned.
LARGEST_QUIET_RATIO = 0.2
#: The same for a convex objective, for which a solver leaves a ratio below 1e-3.
SOLVED = 5e-3
#: The same for the ratio in units of the curvature.
SOLVED_WHITENED = 1e-2
#: The same if the gradient is within the solver's own tolerance.
SOLVED_TO_TOLERANCE = 0.02
#: The same for the ratio in units of the curvature.
MET_WHITENED = 0.05
#: Standard errors of a sample's mean gradient that are put down to chance.
CHANCE = 3.0
#: Convex estimators that stop before their optimum.
BASE_SGD = (SGDClassifier, SGDRegressor)


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


def whitened_ratio(curvature: FittedCurvature, problem: CurvatureProblem) -> float:
    """The gradient ratio of a linear model in units of the curvature: those of columns drop out.

    The plain ratio is that of the columns with the largest numbers: it does not see a solver that
    stopped early along the others, or left them out.

    Parameters
    ----------
    curvature : FittedCurvature
    problem : CurvatureProblem

    Returns
    -------
    float
        ``‖g‖ / √(Σ_i w_i/W ‖∇loss_i‖²)`` with norms ``‖g‖² = gᵀ A⁻¹ g``; 0 for other models and
        for curvatures that are not decomposed in the space of parameters, or not positive.
    """
    task = problem.engine.task
    basis: Any = getattr(curvature, "basis", None)
    known = isinstance(curvature, CoordinateSpectrum) and basis is not None
    if not known or not is_linear(task) or getattr(curvature, "projection", None) is not None:
        return 0.0
    spectrum: Any = curvature
    if not isinstance(spectrum.settings, (GaussNewton, Hessian)):
        return 0.0
    if isinstance(spectrum.settings, Hessian) and float(spectrum.eigenvalues.min()) < 0:
        return 0.0
    inverse = spectrum.inverse(0.0)
    pull = _gradient(problem).to(basis) @ basis
    rows = sample_rows(problem.train.squared_norms(task.dtype)).to(problem.example_weights.device)
    weights = problem.example_weights[rows]
    own = spectrum.train_path(rows).query_coordinates.square() @ inverse
    square = float((weights @ own) / weights.sum())
    return float(torch.sqrt(pull.square().to(inverse) @ inverse / square)) if square > 0 else 0.0


def warn_unless_stationary(
    ratio: float, problem: CurvatureProblem, curvature: FittedCurvature
) -> None:
    """Warn if the model is far from a stationary point.

    The gradient on a sample of the rows is not 0 where that on all rows is. Only what is beyond the
    sample's error is judged.
    """
    task, examples = problem.engine.task, problem.examples
    least = plain = ratio
    stops_early = isinstance(task.estimator, BASE_SGD)
    if isinstance(examples, SampledExamples):
        least -= CHANCE * examples.standard_error
    # a sample's error in units of the curvature is not known
    unknown = stops_early or isinstance(examples, SampledExamples)
    whitened = 0.0 if unknown else whitened_ratio(curvature, problem)
    if whitened > max(ratio, SOLVED_WHITENED):
        least = ratio = whitened
    if task.convex and not stops_early and least > SOLVED:
        met = _meets_tolerance(problem)
        met_well = met and plain <= SOLVED_TO_TOLERANCE and whitened <= MET_WHITENED
        if met_well or _interpolates(problem):
            return
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2g} times the size of one example's "
            f"gradient; a solver leaves less than 1e-3. "
            f"{_likely_cause(task, met, len(examples))} Scores can still rank "
            f"examples, but their size does not match leave-one-out effects.",
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


def _likely_cause(task: Task, met: bool, n_rows: int) -> str:
    """Why the parameters of a convex model are not at the optimum of its objective."""
    steps = getattr(task.estimator, "n_iter_", None)
    most = getattr(task.estimator, "max_iter", None)
    rank, p = getattr(task.estimator, "rank_", None), getattr(task.estimator, "n_features_in_", 0)
    if isinstance(rank, (int, np.integer)) and rank < min(p, n_rows):
        return (
            f"Its solver left out {p - rank} of {p} directions, as its columns differ much in size "
            f"(rank_={rank}): scale the features before the fit (StandardScaler), or give it a "
            f"smaller tol."
        )
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
