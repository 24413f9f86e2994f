"""How far the model is from a stationary point of its training objective."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor

from influencekit.curvature import CurvatureProblem
from influencekit.exceptions import NotStationaryWarning, warn_user
from influencekit.models import Task

__all__ = ["gradient_ratio", "warn_unless_stationary"]

#: Ratio above which a user is told.
LARGEST_QUIET_RATIO = 0.2
#: The same where a solver goes to the optimum of a convex objective: it leaves less than 1e-3.
SOLVED = 5e-3
#: Estimators that are convex, and stop before their optimum.
BASE_SGD = (SGDClassifier, SGDRegressor)


def gradient_ratio(problem: CurvatureProblem) -> float:
    """Norm of the objective's gradient over the root mean square norm of examples' gradients.

    Parameters
    ----------
    problem : CurvatureProblem
        Whose training gradients have its weights as shares.

    Returns
    -------
    float
        0 at a stationary point, 1 where all examples pull in the same direction.
    """
    task, train = problem.engine.task, problem.train
    parameters = torch.cat([p.detach().reshape(-1) for p in task.parameters.values()])
    gradient = train.mean() + problem.penalty * parameters
    square = problem.example_weights @ train.squared_norms(task.dtype).to(torch.float64)
    return float(gradient.norm() / square.sqrt()) if square > 0 else 0.0


def warn_unless_stationary(ratio: float, task: Task) -> None:
    """Warn where influence functions speak of another point than the model's."""
    if task.convex and not isinstance(task.estimator, BASE_SGD) and ratio > SOLVED:
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2g} times the size of one example's "
            f"gradient; a solver leaves less than 1e-3. {_likely_cause(task)} Scores can still "
            "rank; their size is not that of leave-one-out.",
            NotStationaryWarning,
        )
        return
    if ratio > LARGEST_QUIET_RATIO:
        warn_user(
            f"The training gradient of {task.name} is {ratio:.2f} times the size of one "
            "example's gradient (0 at a stationary point): the model is not trained to the end on "
            "this data, or fits it so well that the remaining gradients are small and pull one "
            "way, or was trained with sample weights, another objective or other data than given "
            "here. Scores can still rank; their size is not that of leave-one-out.",
            NotStationaryWarning,
        )


def _likely_cause(task: Task) -> str:
    """Why the parameters of a convex model are not at the optimum of its objective."""
    steps = getattr(task.estimator, "n_iter_", None)
    most = getattr(task.estimator, "max_iter", None)
    if steps is not None and most is not None and np.max(steps) >= most:
        return (
            f"Its solver stopped early, after max_iter={most} iterations: fit it with a larger "
            "max_iter, or scaled features."
        )
    return (
        "It was fitted with weights (give fit the same sample_weight), another penalty, or other "
        "rows than those given here; or its tolerance is loose on these data (give a smaller tol)."
    )
