"""Exact decomposition of the p×p curvature matrix, or of its k×k random projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._spectrum import Spectrum
from influencekit.gradients import GradientEngine, loss_cotangent

__all__ = ["ParameterSpectrum", "decompose_parameters", "decompose_projected"]


@dataclass
class ParameterSpectrum(Spectrum):
    """Spectrum whose eigenvectors live in (possibly projected) parameter space.

    Attributes
    ----------
    basis : Tensor of shape (d, rank)
        Eigenvectors as columns.
    projection : Projection or None
        What maps gradients to the space of the basis.
    """

    engine: GradientEngine
    basis: Tensor
    projection: Any = None

    def coordinates(self, examples, cotangent):
        if self.projection is None:
            return self.engine.matmul(examples, cotangent, self.basis)
        rows = self.engine.project(examples, cotangent, self.projection, dtype=self.basis.dtype)
        return rows @ self.basis


def decompose_parameters(curvature, penalty: Tensor) -> ParameterSpectrum:
    """Decompose ``F + diag(penalty)`` of all parameters.

    Parameters
    ----------
    curvature : CurvatureRows
        Rows whose weighted outer products sum to the data's curvature.
    penalty : Tensor of shape (p,)

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
    matrix = matrix.add_(torch.diag(penalty.to(matrix)))
    return _decompose(curvature, matrix, penalty.to(matrix), projection=None)


def decompose_projected(curvature, penalty: Tensor, projection) -> ParameterSpectrum:
    """Decompose the curvature of projected gradients, ``P F Pᵀ + r I``.

    A random projection keeps inner products of gradients, and in the sample space the
    curvature acts through inner products only; so a constant penalty ``r`` stays ``r`` times
    the identity.  Where the penalty differs between parameters its mean is taken.
    """
    k = projection.dim
    device = penalty.device
    matrix = torch.zeros(k, k, dtype=torch.float64, device=device)
    start = 0
    for features in curvature.engine.batches(curvature.examples, curvature.cotangent):
        rows = features.project(projection).to(torch.float64)
        weights = curvature.row_weights[start : start + len(rows)]
        matrix.addmm_(rows.mT, rows * weights[:, None])
        start += len(rows)
    constant = torch.full((k,), float(penalty.mean()), dtype=torch.float64, device=device)
    matrix.diagonal().add_(constant)
    return _decompose(curvature, matrix, constant, projection)


def _decompose(curvature, matrix: Tensor, penalty: Tensor, projection) -> ParameterSpectrum:
    eigenvalues, basis = torch.linalg.eigh(matrix)
    data = eigenvalues - penalty @ basis.square()
    dtype = curvature.engine.task.dtype
    spectrum = ParameterSpectrum(
        eigenvalues=eigenvalues.clamp_min(0.0),
        data_eigenvalues=data.clamp_min(0.0),
        train_coordinates=torch.empty(0),
        tolerance=curvature.tolerance,
        engine=curvature.engine,
        basis=basis.to(dtype),
        projection=projection,
    )
    cotangent = loss_cotangent(curvature.engine.task)
    spectrum.train_coordinates = spectrum.coordinates(curvature.examples, cotangent)
    return spectrum
