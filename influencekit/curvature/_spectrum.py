"""Factorised curvatures with eigenvalues: every damping after one decomposition."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._damping import auto_damping
from influencekit.curvature._path import CoordinatePath, DampingPath
from influencekit.curvature._problem import CurvatureProblem

__all__ = ["CoordinateSpectrum", "Spectrum", "damped_inverse", "positive_inverse"]


class Spectrum(FittedCurvature):
    """Eigendecomposition ``A = V diag(s) Vᵀ`` of a curvature ``A = F + R`` without damping.

    With coordinates ``c = Vᵀg`` of gradients, ``<g, (A + λI)⁻¹ h> = Σ_k c_k d_k / (s_k + λ)``
    for every λ from the one decomposition.  V is orthonormal, and the training gradients, or the
    projected ones, lie in its span.

    Attributes
    ----------
    eigenvalues : Tensor of shape (rank,), float64
        ``s``, ascending unless said otherwise.
    data_eigenvalues : Tensor of shape (rank,), float64
        ``v_kᵀ F v_k``: the data's share of each eigenvalue.
    tolerance : float
        Eigenvalues up to ``tolerance * max`` count as zero when the damping is 0.
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    tolerance: float

    @abstractmethod
    def path(self, queries, cotangent) -> DampingPath:
        """Scores, surrogate indicator and subset sums of queries at any damping."""

    @abstractmethod
    def train_path(self, rows: Tensor) -> DampingPath:
        """The same path with some training examples as queries and their loss as output."""

    def narrowed(self, columns: Tensor) -> Spectrum:
        """The same curvature with scores for some of the training examples only.

        Parameters
        ----------
        columns : Tensor of shape (n_columns,), int64

        Returns
        -------
        Spectrum
        """
        return self

    def products(self, queries, cotangent, damping):
        return self.path(queries, cotangent).products(damping)

    def auto_damping(self):
        return auto_damping(self)

    def inverse(self, damping: float) -> Tensor:
        """Eigenvalues of the damped inverse, float64, shaped as ``eigenvalues``."""
        return damped_inverse(self.eigenvalues, damping, self.tolerance)


@dataclass
class CoordinateSpectrum(Spectrum):
    """Spectrum of so low a rank that coordinates of gradients are kept as dense rows.

    Attributes
    ----------
    eigenvalues, data_eigenvalues : Tensor of shape (rank,), float64
    train_coordinates : Tensor of shape (n_train, rank)
        ``Vᵀ ∇loss_j`` of every training example.
    tolerance : float
    problem : CurvatureProblem
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    train_coordinates: Tensor
    tolerance: float
    problem: CurvatureProblem

    @abstractmethod
    def coordinates(self, examples, cotangent) -> Tensor:
        """``Vᵀ g`` of the gradients that a cotangent function asks for, (n_rows, rank)."""

    def path(self, queries, cotangent):
        coordinates = self.coordinates(queries, cotangent).to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def train_path(self, rows):
        coordinates = self.train_coordinates[rows].to(torch.float64)
        return CoordinatePath(self, coordinates, self.problem.example_weights)

    def narrowed(self, columns):
        return replace(
            self,
            train_coordinates=self.train_coordinates[columns],
            problem=self.problem.take(columns),
        )

    def self_products(self, damping):
        return self.train_coordinates.to(torch.float64).square() @ self.inverse(damping)


def damped_inverse(eigenvalues: Tensor, damping: float, tolerance: float) -> Tensor:
    """``1 / (s + λ)``; without damping, the pseudo-inverse at a relative tolerance.

    Examples
    --------
    >>> import torch
    >>> damped_inverse(torch.tensor([0.0, 2.0]), 0.0, 1e-12)
    tensor([0.0000, 0.5000])
    """
    if eigenvalues.numel() == 0:
        return eigenvalues.clone()
    floor = tolerance * eigenvalues.abs().max() if damping == 0 else 0.0
    total = eigenvalues + damping
    return torch.where(total > floor, 1 / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)


def positive_inverse(eigenvalues: Tensor, damping: float, tolerance: float) -> Tensor:
    """``1 / (s + λ)``, and 0 in directions of negative curvature.

    Examples
    --------
    >>> import torch
    >>> positive_inverse(torch.tensor([-1.0, 0.0, 3.0]), 1.0, 1e-12)
    tensor([0.0000, 1.0000, 0.2500])
    """
    if eigenvalues.numel() == 0:
        return eigenvalues.clone()
    negative = eigenvalues < -tolerance * eigenvalues.abs().max()
    inverse = damped_inverse(eigenvalues.clamp_min(0.0), damping, tolerance)
    return torch.where(negative, 0.0, inverse)
