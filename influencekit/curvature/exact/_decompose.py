"""Choice of the space in which a curvature is decomposed, guarded by its cost."""

from __future__ import annotations

from dataclasses import dataclass

from influencekit.curvature._coordinates import CoordinateSpectrum
from influencekit.curvature.exact._centered_space import decompose_centered
from influencekit.curvature.exact._parameter_space import decompose_parameters, decompose_projected
from influencekit.curvature.exact._rows import CurvatureRows
from influencekit.curvature.exact._sample_space import decompose_samples, nonuniform_penalty
from influencekit.exceptions import ProjectionWarning, ResourceError, warn_user
from influencekit.gradients import make_projection
from influencekit.models._centered import CenteredLinear
from influencekit.utils import format_bytes

__all__ = ["DecompositionPlan", "decompose", "plan_decomposition"]

#: Largest matrix that is decomposed without being asked for: about half a minute on two cores.
LARGEST_EXACT = 6_000
#: Dimension to project to when the exact matrix is too large.
FALLBACK_DIM = 2_048
#: Floating point operations of a symmetric eigendecomposition are about this times size³.
EIGH_FLOPS = 9.0


@dataclass(frozen=True)
class DecompositionPlan:
    """Where a curvature will be decomposed and what that costs.

    Attributes
    ----------
    space : {"parameters", "samples", "projected"}
    size : int
        Order of the matrix.
    memory : int
        Bytes needed by the matrix, its eigenvectors and workspace.
    flops : float
        Of the eigendecomposition and of building the matrix.
    """

    space: str
    size: int
    memory: int
    flops: float

    def __str__(self) -> str:
        return (
            f"{self.size:,} x {self.size:,} matrix in the space of {self.space}, "
            f"{format_bytes(self.memory)}, {self.flops:.1e} floating point operations"
        )


def plan_decomposition(
    curvature: CurvatureRows,
) -> tuple[DecompositionPlan, DecompositionPlan | None]:
    """Plan a decomposition; also return the exact plan that had to be given up, if any.

    Parameters
    ----------
    curvature : CurvatureRows

    Returns
    -------
    plan : DecompositionPlan
    refused : DecompositionPlan or None
        The exact plan, where it was too large and a projection takes its place.

    Raises
    ------
    ResourceError
        If the matrix of the wanted projection does not fit ``max_memory``.
    """
    p = curvature.problem.engine.task.n_parameters
    budget, projection_dim = curvature.problem.max_memory, curvature.problem.projection_dim
    if projection_dim is not None and projection_dim < p:
        plan = _plan("projected", projection_dim, projection_dim, curvature.rows.n_rows)
        if plan.memory > budget:
            raise ResourceError(
                f"projection_dim={projection_dim} needs a {plan}, but max_memory allows "
                f"{format_bytes(budget)}. Lower projection_dim or raise max_memory."
            )
        return plan, None
    exact = _exact_plan(curvature, p)
    if exact.memory <= budget and exact.size <= LARGEST_EXACT:
        return exact, None
    dim = min(FALLBACK_DIM, int((budget / 32) ** 0.5))
    if dim < 1:
        raise ResourceError(
            f"max_memory allows {format_bytes(budget)}, in which no curvature fits; the exact one "
            f"needs a {exact}. Raise max_memory."
        )
    return _plan("projected", dim, dim, curvature.rows.n_rows), exact


def _exact_plan(curvature: CurvatureRows, p: int) -> DecompositionPlan:
    n_rows = curvature.rows.n_rows
    parameters = _plan("parameters", p, p, n_rows)
    size = n_rows + len(nonuniform_penalty(curvature.problem.penalty)[1])
    if size >= p or curvature.gradient_coordinates is None:
        return parameters
    return _plan("samples", size, n_rows, p)


def _plan(space: str, size: int, left: int, inner: int) -> DecompositionPlan:
    flops = EIGH_FLOPS * size**3 + 2.0 * left**2 * inner
    return DecompositionPlan(space, size, 4 * 8 * size**2, flops)


def decompose(curvature: CurvatureRows) -> CoordinateSpectrum:
    """Decompose ``F + R`` in whichever space is smallest.

    Parameters
    ----------
    curvature : CurvatureRows
        With ``problem.projection_dim`` gradients are projected first.  Without, the
        decomposition is exact, unless the matrix is larger than memory or patience allow:
        then it projects and warns.

    Returns
    -------
    CoordinateSpectrum
    """
    problem = curvature.problem
    if isinstance(problem.engine.task.module, CenteredLinear):
        return decompose_centered(curvature)
    plan, refused = plan_decomposition(curvature)
    if refused is not None:
        warn_user(
            f"The exact curvature would need a {refused}. Gradients are projected to "
            f"{plan.size} dimensions instead; set projection_dim to choose the size yourself.",
            ProjectionWarning,
        )
    if plan.space == "projected":
        sketch = make_projection(
            problem.engine,
            plan.size,
            kind=problem.projection,
            random_state=problem.random_state,
        )
        return decompose_projected(curvature, sketch)
    if plan.space == "samples":
        return decompose_samples(curvature)
    return decompose_parameters(curvature)
