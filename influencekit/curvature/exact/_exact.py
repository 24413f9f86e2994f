"""Gauss-Newton and empirical Fisher matrices, decomposed exactly or in a random projection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from influencekit.curvature._problem import (
    Curvature,
    CurvatureProblem,
    CurvatureRows,
    fisher_rows,
    ggn_rows,
    nonuniform_penalty,
)
from influencekit.curvature._spectrum import CoordinateSpectrum, Spectrum
from influencekit.curvature.exact._centered_space import CenteredLinear, decompose_centered
from influencekit.curvature.exact._sample_space import decompose_samples
from influencekit.curvature.exact._sample_system import SampleSystem
from influencekit.curvature.exact._unheld import with_train
from influencekit.exceptions import ProjectionWarning, ResourceError, warn_user
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._make_projection import make_projection
from influencekit.utils._long_work import chunks, format_bytes
from influencekit.utils.validation import present

__all__ = [
    "DecompositionPlan",
    "EmpiricalFisher",
    "GaussNewton",
    "ParameterSpectrum",
    "decompose",
    "decompose_parameters",
    "decompose_projected",
    "plan_decomposition",
    "solve_wide",
]

#: Largest matrix decomposed by default; it takes about half a minute on two cores.
LARGEST_EXACT = 6_000
#: Dimension to project to when the exact matrix is too large.
FALLBACK_DIM = 2_048
#: Matrices of its order that a decomposition holds at a time, with the workspace of ``eigh``.
_MATRICES = {"parameters": 4, "projected": 4, "samples": 8}
#: Floating point operations of a symmetric eigendecomposition are about this times size³.
EIGH_FLOPS = 9.0


class GaussNewton(Curvature, name="ggn"):
    """Generalized Gauss-Newton matrix ``F = Σ_i w_i/W J_iᵀ (∇²loss_i) J_i``, decomposed exactly.

    The Hessian without the curvature of the model itself; equal to the Hessian for linear
    models.  Name: ``"ggn"``.

    Notes
    -----
    As an approximation of further training: second order, without the curvature of the model's
    outputs.

    Cost ``O(N d min(N, d) + min(N, d)³)`` for N (about n · n_classes) rows and d dimensions: the
    number of parameters, or ``projection_dim``.

    References
    ----------
    .. [1] J. Martens. New insights and perspectives on the natural gradient method.
       JMLR 2020, arXiv 1412.1193.
    """

    projects: ClassVar[bool] = True
    centers: ClassVar[bool] = True

    def factorize(self, problem: CurvatureProblem) -> Spectrum:
        rows = ggn_rows(problem)
        return solve_wide(rows) or decompose(rows)


class EmpiricalFisher(Curvature, name="fisher"):
    """Empirical Fisher matrix ``F = Σ_i w_i/W ∇loss_i ∇loss_iᵀ``, decomposed exactly.

    Cheaper than Gauss-Newton, but its scores are right only up to scale.  Name: ``"fisher"``.

    Notes
    -----
    As an approximation of further training: second order, with outer products of loss gradients in
    place of the Hessian of the loss.

    Cost ``O(n d min(n, d) + min(n, d)³)`` for n examples and d dimensions.

    References
    ----------
    .. [1] F. Kunstner, L. Balles, P. Hennig. Limitations of the empirical Fisher approximation
       for natural gradient descent. NeurIPS 2019, arXiv 1905.12558.
    """

    projects: ClassVar[bool] = True
    centers: ClassVar[bool] = True

    def factorize(self, problem: CurvatureProblem) -> Spectrum:
        rows = fisher_rows(problem)
        return solve_wide(rows) or decompose(rows)


# -- in which space -------------------------------------------------------------------------


@dataclass(frozen=True)
class DecompositionPlan:
    """In which space a curvature will be decomposed, and the cost.

    Attributes
    ----------
    space : {"parameters", "samples", "projected"}
    size : int
        Order of the matrix.
    memory : int
        Bytes needed by the matrix, its eigenvectors and workspace.
    flops : float
        Operations of the eigendecomposition and of building the matrix.
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
    """Plan a decomposition; also return the exact plan if it had to be replaced.

    Parameters
    ----------
    curvature : CurvatureRows

    Returns
    -------
    plan : DecompositionPlan
    refused : DecompositionPlan or None
        The exact plan, if it was too large and was replaced by a projection.

    Raises
    ------
    ResourceError
        If the matrix of the requested projection does not fit into ``max_memory``, or without
        one, the matrix that is chosen does not fit into the free memory.
    """
    engine, projection_dim = curvature.problem.engine, curvature.problem.projection_dim
    p, budget = engine.task.n_parameters, curvature.problem.max_memory
    if projection_dim is not None and projection_dim < p:
        plan = _plan("projected", projection_dim, projection_dim, curvature.rows.n_rows)
        if plan.memory > engine.limit:
            raise ResourceError(
                f"projection_dim: {projection_dim} needs a {plan}, but {engine.limit_in_words}. "
                f"Lower projection_dim or {engine.more}."
            )
        return plan, None
    exact = _exact_plan(curvature, p)
    if exact.memory <= budget and exact.size <= LARGEST_EXACT:
        if exact.memory > engine.limit:
            raise ResourceError(
                f"projection_dim: got None, so the curvature needs a {exact}, but "
                f"{engine.limit_in_words}. Set max_memory to what may be used, for a "
                "projection that fits, or set projection_dim."
            )
        return exact, None
    n, dtype = len(curvature.problem.train), engine.task.dtype
    dim = _fallback_dim(budget, n, dtype)
    if dim < 1:
        raise ResourceError(
            f"max_memory: {format_bytes(budget)} is too little for any curvature; "
            f"the exact one needs a {exact}. Raise max_memory."
        )
    return _plan("projected", dim, dim, curvature.rows.n_rows), exact


def _fallback_dim(budget: int, n: int, dtype: torch.dtype) -> int:
    """Largest dimension whose matrix, and whose coordinates of n examples, fit half the memory."""
    half = budget // 2
    # 4 · 8 · d² bytes for the matrix, n · d numbers for the coordinates
    return min(FALLBACK_DIM, int((half / 32) ** 0.5), half // (n * dtype.itemsize))


def _exact_plan(curvature: CurvatureRows, p: int) -> DecompositionPlan:
    n_rows = curvature.rows.n_rows
    parameters = _plan("parameters", p, p, n_rows)
    size = n_rows + len(nonuniform_penalty(curvature.problem.penalty)[1])
    if size >= p or curvature.gradient_coordinates is None:
        return parameters
    return _plan("samples", size, n_rows, p)


def _plan(space: str, size: int, left: int, inner: int) -> DecompositionPlan:
    flops = EIGH_FLOPS * size**3 + 2.0 * left**2 * inner
    return DecompositionPlan(space, size, 8 * _MATRICES[space] * size**2, flops)


def solve_wide(curvature: CurvatureRows) -> SampleSystem | None:
    """System of a wide linear model in the space of samples, decomposed only when asked for.

    Its damping is 0 or given, so that a Cholesky decomposition is enough for its scores.

    Parameters
    ----------
    curvature : CurvatureRows

    Returns
    -------
    SampleSystem or None
        None for other models, and where another space is smaller.
    """
    task = curvature.problem.engine.task
    solves = task.convex and not isinstance(task.module, CenteredLinear)
    if solves and plan_decomposition(curvature)[0].space == "samples":
        return SampleSystem(curvature)
    return None


def decompose(curvature: CurvatureRows) -> CoordinateSpectrum:
    """Decompose ``F + R`` in whichever space is smallest.

    Parameters
    ----------
    curvature : CurvatureRows
        With ``problem.projection_dim``, gradients are projected first. Without it, the
        decomposition is exact, unless the matrix needs too much memory or time: then it projects
        and warns.

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
            projection=problem.projection,
            random_state=problem.random_state,
        )
        return decompose_projected(curvature, sketch)
    if plan.space == "samples":
        return decompose_samples(curvature)
    return decompose_parameters(curvature)


# -- in the space of parameters, or of their projection ----------------------------------------


@dataclass(repr=False)  # in one line, as all curvatures
class ParameterSpectrum(CoordinateSpectrum):
    """Spectrum whose eigenvectors live in (possibly projected) parameter space.

    Attributes
    ----------
    basis : Tensor of shape (d, rank)
        Eigenvectors as columns.
    projection : Projection or None
        Map from gradients to the space of the basis.
    """

    basis: Tensor
    projection: Any = None

    def coordinates(self, gradients: Gradients) -> Tensor:
        # G V, or G Pᵀ V
        if self.projection is None:
            return gradients @ self.basis
        return gradients.project(self.projection, dtype=self.basis.dtype) @ self.basis


def decompose_parameters(curvature: CurvatureRows) -> CoordinateSpectrum:
    """Decompose ``F + diag(penalty)`` of all parameters.

    Parameters
    ----------
    curvature : CurvatureRows
        Rows whose weighted outer products sum to the data's curvature.

    Returns
    -------
    CoordinateSpectrum
        A :class:`ParameterSpectrum`; on sparse inputs one that holds no training coordinates.

    Notes
    -----
    Cost ``O(N p² + p³)`` for N curvature rows, memory ``O(p²)``.
    """
    # F + R with F = Σ_r ω_r b_r b_rᵀ, (p, p)
    matrix = curvature.rows.covariance(curvature.weights)
    penalty = curvature.problem.penalty.to(matrix)
    matrix.diagonal().add_(penalty)
    return _decompose(curvature, matrix, penalty, projection=None)


def decompose_projected(curvature: CurvatureRows, projection: Any) -> CoordinateSpectrum:
    """Decompose the curvature of projected gradients, ``P F Pᵀ + r I``.

    A random projection keeps inner products of gradients, and in the sample space the curvature
    acts only through inner products. So a constant penalty ``r`` stays ``r`` times the identity. If
    the penalty differs between parameters, its mean is used.
    """
    k = projection.dim
    penalty, weights = curvature.problem.penalty, curvature.weights
    matrix = torch.zeros(k, k, dtype=torch.float64, device=penalty.device)
    gradients = _room_for_gradients(curvature, k)
    given = weights[None]
    if gradients is not None:
        coordinates = present(curvature.gradient_coordinates, "coordinates")
        given = torch.stack([weights, coordinates.flatten()])
    for own, (product, sums) in curvature.rows.results(partial(_projected, projection), given):
        # P F Pᵀ = Σ_r ω_r (P b_r) (P b_r)ᵀ
        matrix += product
        if gradients is not None:
            gradients[own] = sums
    # P F Pᵀ + r I, with the mean penalty r
    constant = torch.full_like(matrix[0], float(penalty.mean()))
    matrix.diagonal().add_(constant)
    return _decompose(curvature, matrix, constant, projection, gradients)


def _projected(
    projection: Any, features: GradientFeatures, given: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Weighted outer products of a batch's projected rows, and its projected loss gradients.

    ``given`` are the weights of the rows, and their coordinates if gradients are wanted.
    """
    rows, sums = features.project(projection), None
    if len(given) > 1:
        by_example = rows.unflatten(0, (-1, features.rows_per_example))
        # P g_i = Σ_r c_ir P b_ir
        sums = torch.bmm(given[1].view(by_example.shape[:2])[:, None].to(rows), by_example)[:, 0]
    rows = rows.to(torch.float64)
    return rows.mT @ (rows * given[0][:, None]), sums


def _room_for_gradients(curvature: CurvatureRows, k: int) -> Tensor | None:
    """Space for the projected loss gradients, if they are sums of the curvature's rows."""
    if curvature.gradient_coordinates is None:
        return None
    train = curvature.problem.train
    return train.empty(k, train.engine.task.dtype)


def _decompose(
    curvature: CurvatureRows,
    matrix: Tensor,
    penalty: Tensor,
    projection: Any,
    gradients: Tensor | None = None,
) -> CoordinateSpectrum:
    # A = V diag(s) Vᵀ
    eigenvalues, basis = torch.linalg.eigh(matrix)
    # v_kᵀ F v_k = s_k - v_kᵀ R v_k
    data = eigenvalues - penalty @ basis.square()
    dtype = curvature.problem.engine.task.dtype
    spectrum = ParameterSpectrum(
        eigenvalues=eigenvalues.clamp_min(0.0),
        data_eigenvalues=data.clamp_min(0.0),
        train_coordinates=torch.empty(0),
        tolerance=curvature.tolerance,
        problem=curvature.problem,
        basis=basis.to(dtype),
        projection=projection,
    )
    if projection is None:
        return with_train(spectrum)
    if gradients is not None:
        # G V in the place of G: both have k columns
        for rows in chunks(len(gradients), 1, 4096):
            gradients[rows] = gradients[rows] @ spectrum.basis
        spectrum.train_coordinates = gradients
    else:
        spectrum.train_coordinates = spectrum.coordinates(curvature.problem.train)
    return spectrum
