"""Which curvature is taken by default: Gauss-Newton, unless examples have too many outputs."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from influencekit.curvature._problem import (
    Curvature,
    CurvatureProblem,
    CurvatureRows,
    drawn_seed,
)
from influencekit.curvature._spectrum import Spectrum
from influencekit.curvature.exact._exact import (
    LARGEST_EXACT,
    EmpiricalFisher,
    GaussNewton,
    decompose,
)
from influencekit.curvature.exact._hessian import Hessian
from influencekit.curvature.exact._some_rows import LONG_TABLE, GaussNewtonOfSome
from influencekit.exceptions import ProjectionWarning, warn_user
from influencekit.gradients._cotangents import sampled_cotangent
from influencekit.models._task import Task
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._deviance import DevianceLoss
from influencekit.utils._long_work import format_bytes
from influencekit.utils.validation import Interval

__all__ = ["SampledGaussNewton", "automatic_curvature"]

#: Most outputs of an example for which nothing else than Gauss-Newton is considered.
MANY_OUTPUTS = 100
#: Most outputs for which the exact matrix is made, one backward pass a batch for each.
MOST_OUTPUTS = 2_048
#: Labels drawn for each example.
N_SAMPLES = 10
#: Operations that the output Hessians of a loss without a formula may take: about half a minute.
MOST_FLOPS = 2e11


class SampledGaussNewton(Curvature):
    """Gauss-Newton matrix in expectation: rows are loss gradients at labels drawn from the model.

    Parameters
    ----------
    n_samples : int, default=10
        Labels drawn for each example.
    random_state : int, RandomState instance or None, default=None
        Seed for drawn labels; None uses the attributor's.
    """

    name = "sampled ggn"
    projects: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_samples: int = N_SAMPLES, *, random_state: Any = None):
        self.n_samples = n_samples
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> Spectrum:
        seed = drawn_seed(self.random_state, problem)
        drawn = sampled_cotangent(problem.engine.task, self.n_samples, random_state=seed)
        return decompose(CurvatureRows(problem, problem.train.along(drawn)))


def automatic_curvature(problem: CurvatureProblem) -> Curvature:
    """The curvature of ``curvature="auto"``.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    Curvature
        Gauss-Newton for up to 100 outputs an example, or if its rows fit ``max_memory``; else with
        labels drawn from the model, if those rows fit; else the empirical Fisher matrix. The last
        two with a line that says so.  The Hessian for a generalized linear model whose deviance is
        not convex.
    """
    engine = problem.engine
    if problem.projection_dim is None and _is_not_convex(engine.task):
        return Hessian()
    first = next(iter(problem.examples.batches(1)))
    m = engine.task.forward(first.inputs).numel()
    if m <= MANY_OUTPUTS or _is_affordable(problem, m):
        is_long = len(problem.examples) >= LONG_TABLE and not engine.task.convex
        return GaussNewtonOfSome() if is_long else GaussNewton()
    loss = engine.task.loss
    draws = not isinstance(loss, CustomLoss)  # its draws need its output Hessian
    sampled = draws and _row_bytes(problem, N_SAMPLES) <= problem.max_memory
    chosen = SampledGaussNewton() if sampled else EmpiricalFisher()
    warn_user(
        f"curvature='auto': examples have {m:,} outputs, too many for the exact Gauss-Newton "
        f"matrix (its rows would take {format_bytes(_row_bytes(problem, m))}); used is "
        + (
            f"the same with {N_SAMPLES} labels drawn from the model for each example."
            if sampled
            else "the empirical Fisher matrix, whose scores are right only up to scale."
        ),
        ProjectionWarning,
    )
    return chosen


def _is_not_convex(task: Task) -> bool:
    """Whether it is a generalized linear model whose deviance has negative curvature somewhere."""
    small = task.n_parameters <= LARGEST_EXACT
    return small and isinstance(task.loss, DevianceLoss) and not task.loss.convex


def _row_bytes(problem: CurvatureProblem, per_example: int) -> int:
    """Bytes of the curvature's rows of all examples."""
    task = problem.engine.task
    return len(problem.examples) * per_example * task.n_parameters * task.dtype.itemsize


def _is_affordable(problem: CurvatureProblem, m: int) -> bool:
    """Whether rows and output Hessians of m outputs fit, and can be made in reasonable time."""
    loss = problem.engine.task.loss
    hessians = 5 * 8 * m**2  # bytes of one example's, and a few such matrices
    if m > min(MOST_OUTPUTS, loss.most_outputs):
        return False
    if max(_row_bytes(problem, m), 4 * hessians) > problem.max_memory:
        return False
    return not isinstance(loss, CustomLoss) or 9 * len(problem.examples) * m**3 <= MOST_FLOPS
