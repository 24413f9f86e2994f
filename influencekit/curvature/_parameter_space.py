"""Exact decomposition of the p×p curvature matrix, or of its k×k random projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._spectrum import CoordinateSpectrum

__all__ = ["ParameterSpectrum", "decompose_parameters", "decompose_projected"]


@dataclass
class ParameterSpectrum(CoordinateSpectrum):
    """Spectrum whose eigenvectors live in (possibly projected) parameter space.

    Attributes
    ----------
    basis : Tensor of shape (d, rank)
        Eigenvectors as columns.
    projection : Projection or None
        What maps gradients to the space of the basis.
    """

    basis: Tensor
    projection: Any = None

    def coordinates(self, examples, cotangent):
        if self.projection is None:
            return self.problem.engine.matmul(examples, cotangent, self.basis)
        rows = self.problem.engine.project(
            examples, cotangent, self.projection, dtype=self.basis.dtype
        )
        return rows @ self.basis


def decompose_parameters(curvature) -> ParameterSpectrum:
    """Decompose ``F + diag(penalty)`` of all parameters.

    Parameters
    ----------
    curvature : CurvatureRows
        Rows whose weighted outer products sum to the data's curvature.

    Returns
    -------
    ParameterSpectrum

    Notes
    -----
    Cost ``O(N p² + p³)`` for N curvature rows, memory ``O(p²)``.
    """
    matrix = curvature.engine.covariance(
        curvature.examples, curvature.cotangent, weights=curvature.row_weights
    )
    penalty = curvature.problem.penalty.to(matrix)
    matrix.diagonal().add_(penalty)
    return _decompose(curvature, matrix, penalty, projection=None)


def decompose_projected(curvature, projection) -> ParameterSpectrum:
    """Decompose the curvature of projected gradients, ``P F Pᵀ + r I``.

    A random projection keeps inner products of gradients, and in the sample space the
    curvature acts through inner products only; so a constant penalty ``r`` stays ``r`` times
    the identity.  Where the penalty differs between parameters its mean is taken.
    """
    k, r = projection.dim, curvature.rows_per_example
    penalty = curvature.problem.penalty
    device, dtype = penalty.device, curvature.engine.task.dtype
    matrix = torch.zeros(k, k, dtype=torch.float64, device=device)
    gradients = _room_for_gradients(curvature, k)
    start = 0
    for features in curvature.engine.batches(curvature.examples, curvature.cotangent):
        rows = features.project(projection)
        own = slice(start, start + len(features))
        if gradients is not None:
            shares = curvature.gradient_coordinates[own, None].to(dtype)
            torch.bmm(shares, rows.unflatten(0, (-1, r)), out=gradients[own, None])
        rows = rows.to(torch.float64)
        weights = curvature.row_weights[own.start * r : own.stop * r]
        matrix.addmm_(rows.mT, rows * weights[:, None])
        start = own.stop
    constant = torch.full((k,), float(penalty.mean()), dtype=torch.float64, device=device)
    matrix.diagonal().add_(constant)
    return _decompose(curvature, matrix, constant, projection, gradients)


def _room_for_gradients(curvature, k: int) -> Tensor | None:
    """Space for the projected loss gradients, where they are sums of the curvature's rows."""
    engine, n = curvature.engine, len(curvature.examples)
    like = torch.empty(0, dtype=engine.task.dtype, device=engine.task.device)
    if curvature.gradient_coordinates is None or n * k * like.element_size() > engine.max_memory:
        return None
    return like.new_empty(n, k)


def _decompose(
    curvature, matrix: Tensor, penalty: Tensor, projection, gradients: Tensor | None = None
) -> ParameterSpectrum:
    eigenvalues, basis = torch.linalg.eigh(matrix)
    data = eigenvalues - penalty @ basis.square()
    dtype = curvature.engine.task.dtype
    spectrum = ParameterSpectrum(
        eigenvalues=eigenvalues.clamp_min(0.0),
        data_eigenvalues=data.clamp_min(0.0),
        train_coordinates=torch.empty(0),
        tolerance=curvature.tolerance,
        problem=curvature.problem,
        basis=basis.to(dtype),
        projection=projection,
    )
    if gradients is not None:
        spectrum.train_coordinates = gradients @ spectrum.basis
    else:
        cotangent = curvature.make_train_cotangent(curvature.engine.task)
        spectrum.train_coordinates = spectrum.coordinates(curvature.examples, cotangent)
    return spectrum
