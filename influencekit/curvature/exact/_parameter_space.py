"""Exact decomposition of the p×p curvature matrix, or of its k×k random projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._coordinates import CoordinateSpectrum
from influencekit.gradients.blocks._base import row_slice

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

    def coordinates(self, gradients):
        if self.projection is None:
            return gradients @ self.basis
        return gradients.project(self.projection, dtype=self.basis.dtype) @ self.basis


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
    matrix = curvature.rows.covariance(curvature.weights)
    penalty = curvature.problem.penalty.to(matrix)
    matrix.diagonal().add_(penalty)
    return _decompose(curvature, matrix, penalty, projection=None)


def decompose_projected(curvature, projection) -> ParameterSpectrum:
    """Decompose the curvature of projected gradients, ``P F Pᵀ + r I``.

    A random projection keeps inner products of gradients, and in the sample space the
    curvature acts through inner products only; so a constant penalty ``r`` stays ``r`` times
    the identity.  Where the penalty differs between parameters its mean is taken.
    """
    k, r = projection.dim, curvature.rows.rows_per_example
    penalty, weights = curvature.problem.penalty, curvature.weights
    matrix = torch.zeros(k, k, dtype=torch.float64, device=penalty.device)
    gradients = _room_for_gradients(curvature, k)
    for own, features in curvature.rows:
        rows = features.project(projection)
        if gradients is not None:
            shares = curvature.gradient_coordinates[own, None].to(rows.dtype)
            torch.bmm(shares, rows.unflatten(0, (-1, r)), out=gradients[own, None])
        rows = rows.to(torch.float64)
        matrix.addmm_(rows.mT, rows * weights[row_slice(own, r), None])
    constant = torch.full_like(matrix[0], float(penalty.mean()))
    matrix.diagonal().add_(constant)
    return _decompose(curvature, matrix, constant, projection, gradients)


def _room_for_gradients(curvature, k: int) -> Tensor | None:
    """Space for the projected loss gradients, where they are sums of the curvature's rows."""
    engine, n = curvature.problem.engine, len(curvature.rows)
    like = torch.empty(0, dtype=engine.task.dtype, device=engine.task.device)
    if n * k * like.element_size() > engine.max_memory or curvature.gradient_coordinates is None:
        return None
    return like.new_empty(n, k)


def _decompose(
    curvature, matrix: Tensor, penalty: Tensor, projection, gradients: Tensor | None = None
) -> ParameterSpectrum:
    eigenvalues, basis = torch.linalg.eigh(matrix)
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
    if gradients is not None:
        spectrum.train_coordinates = gradients @ spectrum.basis
    else:
        spectrum.train_coordinates = spectrum.coordinates(curvature.problem.train)
    return spectrum
