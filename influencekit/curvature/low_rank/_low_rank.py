"""Spectra of low rank whose complement is kept: outside the span, the curvature is only λ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem, nonuniform_penalty
from influencekit.curvature._spectrum import (
    CoordinatePath,
    CoordinateSpectrum,
    DampingPath,
    SubsetSums,
    check_masks,
    positive_inverse,
)
from influencekit.gradients._gradients import Gradients

__all__ = ["LowRankSpectrum", "low_rank_spectrum", "require_room", "with_penalty"]


@dataclass(repr=False)  # in one line, as all curvatures
class LowRankSpectrum(CoordinateSpectrum):
    """Spectrum ``F ≈ U diag(s) Uᵀ`` of a few eigenvectors, plus an exact penalty.

    Outside the span the curvature is ``constant``, the most common penalty, so
    ``(A + λI)⁻¹ = U diag(1/(s+λ)) Uᵀ + (I - U Uᵀ) / (constant + λ)``.  Directions of negative
    curvature in the span are left out.

    Attributes
    ----------
    basis : Tensor of shape (p, rank)
        Orthonormal columns ``U``.
    constant : float
        Penalty outside the span.
    outside : bool
        Whether the part of gradients outside the span counts; else it is dropped.
    cutoff : float
        Size of the smallest eigenvalue kept: those left out may be as large.
    missing : float
        Amount by which eigenvalues may be too small.
    residuals : Tensor of shape (rank,) or None
        ``‖F u - s u‖`` of the data's eigenpairs, if known.
    """

    basis: Tensor
    constant: float
    outside: bool
    cutoff: float
    missing: float = 0.0
    residuals: Tensor | None = None

    def inverse(self, damping: float) -> Tensor:
        return positive_inverse(self.eigenvalues, damping, self.tolerance)

    def coordinates(self, gradients: Gradients) -> Tensor:
        # G U
        return gradients @ self.basis

    @property
    def floor(self) -> float:  # type: ignore[override]
        """Size of the smallest eigenvalue kept."""
        return self.cutoff

    def outside_inverse(self, damping: float) -> float:
        """``1 / (constant + λ)``, or 0 if that is not positive or the rest is dropped."""
        total = self.constant + damping
        return 1 / total if self.outside and total > 0 else 0.0

    def path(self, queries: Gradients) -> DampingPath:
        coordinates = self.coordinates(queries).to(torch.float64)
        return LowRankPath(self, coordinates, self.problem.example_weights, queries)

    def train_path(self, rows: Tensor) -> DampingPath:
        coordinates = self.train_coordinates[rows].to(torch.float64)
        queries = self.problem.train.take(rows)
        return LowRankPath(self, coordinates, self.problem.example_weights, queries)

    def self_products(self, damping: float) -> Tensor:
        inside = super().self_products(damping)
        outside = self.outside_inverse(damping)
        if outside == 0:
            return inside
        norms = self.problem.train.squared_norms()
        # Σ_k c_jk² / (s_k + λ) + (‖g_j‖² - ‖Uᵀg_j‖²) / (constant + λ)
        return inside + outside * (norms - self.train_coordinates.double().square().sum(1))


@dataclass
class LowRankPath(CoordinatePath):
    """Path of a low-rank spectrum: dot products of gradients are computed once for all λ.

    Attributes
    ----------
    spectrum : LowRankSpectrum
    queries : Gradients
        Gradients of the explained output.
    """

    spectrum: LowRankSpectrum
    queries: Gradients

    @cached_property
    def outside_products(self) -> Tensor:
        """``<g_i, h_j>`` minus the part inside the span, float64, (n_query, n_train)."""
        train = self.spectrum.train_coordinates
        dots = self.queries.dot(self.spectrum.problem.train)
        # <g_i, h_j> - <Uᵀg_i, Uᵀh_j>
        return dots.addmm_(self.query_coordinates, train.to(torch.float64).mT, alpha=-1)

    def products(self, damping: float) -> Tensor:
        inside, outside = super().products(damping), self.spectrum.outside_inverse(damping)
        if outside == 0:
            return inside
        # inside + (<g_i, h_j> - <Uᵀg_i, Uᵀh_j>) / (constant + λ)
        return inside.to(torch.float64).add_(self.outside_products, alpha=outside)

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        inside = super().subset_sums(masks)
        if not self.spectrum.outside:
            return inside
        checked = check_masks(masks, len(self.spectrum.train_coordinates))
        weighted = torch.as_tensor(checked, device=self.train_weights.device) * self.train_weights
        # -Σ_{j in subset} w_j/W (<g_i, h_j> - <Uᵀg_i, Uᵀh_j>)
        outside = -(self.outside_products @ weighted.mT)
        return LowRankSums(inside, outside.cpu().numpy(), self.spectrum)


@dataclass
class LowRankSums(SubsetSums):
    """Subset sums of a low-rank path.

    Attributes
    ----------
    inside : SubsetSums
    outside : ndarray of shape (n_query, n_subsets)
        Sums of the products outside the span, before the division by ``constant + λ``.
    spectrum : LowRankSpectrum
    """

    inside: SubsetSums
    outside: np.ndarray
    spectrum: LowRankSpectrum

    def at(self, damping: ArrayLike) -> np.ndarray:
        dampings = np.asarray(damping, dtype=np.float64)
        inverses = np.array([self.spectrum.outside_inverse(float(d)) for d in dampings.ravel()])
        shares = inverses.reshape(*dampings.shape, 1, 1) if dampings.ndim else inverses
        # inside + outside / (constant + λ)
        return self.inside.at(damping) + shares * self.outside


def require_room(problem: CurvatureProblem, n_vectors: int, what: str, instead: str) -> None:
    """Raise ResourceError unless n_vectors vectors of all parameters fit into memory.

    Parameters
    ----------
    problem : CurvatureProblem
    n_vectors : int
    what : str
        What the vectors are for.
    instead : str
        What makes them fewer, as the beginning of a sentence.
    """
    task = problem.engine.task
    needed = n_vectors * task.n_parameters * torch.empty(0, dtype=task.dtype).element_size()
    vectors = f"the {n_vectors:,} vectors of {task.n_parameters:,} parameters of {what}"
    problem.engine.require(needed, vectors, instead)


def low_rank_spectrum(
    problem: CurvatureProblem,
    vectors: Tensor,
    values: Tensor,
    *,
    outside: bool = True,
    short: bool = False,
) -> LowRankSpectrum:
    """Spectrum of ``U diag(s) Uᵀ + R`` for a data curvature of low rank.

    Parameters
    ----------
    problem : CurvatureProblem
    vectors : Tensor of shape (rank, p)
        Orthonormal rows ``Uᵀ``.
    values : Tensor of shape (rank,), float64
    outside : bool, default=True
    short : bool, default=False
        Whether eigenvalues are too small by about the smallest of them.

    Returns
    -------
    LowRankSpectrum

    Notes
    -----
    Parameters whose penalty differs from the most common one (such as unpenalized biases) are added
    to the span, and the sum is decomposed again there; so the penalty is exact.
    """
    basis, eigenvalues, data = with_penalty(problem, vectors, values)
    cutoff = float(values.abs().min()) if len(values) < vectors.shape[1] else 0.0
    spectrum = LowRankSpectrum(
        eigenvalues=eigenvalues,
        data_eigenvalues=data.clamp_min(0.0),
        train_coordinates=torch.empty(0),
        tolerance=_tolerance(problem),
        problem=problem,
        basis=basis,
        constant=nonuniform_penalty(problem.penalty)[0],
        outside=outside,
        cutoff=cutoff,
        missing=cutoff if short else 0.0,
    )
    spectrum.train_coordinates = spectrum.coordinates(problem.train)
    return spectrum


def with_penalty(
    problem: CurvatureProblem, vectors: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors (p, rank), eigenvalues of ``U diag(s) Uᵀ + R`` and the data's share of them."""
    constant, nonuniform = nonuniform_penalty(problem.penalty)
    basis, data = vectors.mT, values.to(torch.float64)
    if len(nonuniform) == 0:
        return basis.contiguous(), data + constant, data
    needed = 2 * (len(nonuniform) + len(values))
    require_room(problem, needed, "A penalty that differs between parameters", "Lower the rank")
    basis = _extended(basis, nonuniform)
    data = torch.nn.functional.pad(data, (0, basis.shape[1] - len(data)))
    rows = basis[nonuniform].to(torch.float64)
    excess = (problem.penalty[nonuniform] - constant)[:, None]
    # Uᵀ (F + R - c I) U = diag(s) + U_Eᵀ diag(r - c) U_E
    small = torch.diag(data) + rows.mT @ (excess * rows)
    # = W diag(e) Wᵀ, so that the eigenvectors are U W
    eigenvalues, rotation = torch.linalg.eigh((small + small.mT) / 2)
    basis = (basis @ rotation.to(basis.dtype)).contiguous()
    # e + c, and the data's share w_kᵀ diag(s) w_k
    return basis, eigenvalues + constant, rotation.square().mT @ data


def _tolerance(problem: CurvatureProblem) -> float:
    task = problem.engine.task
    size = task.n_parameters if task.dtype == torch.float64 else 1
    return size * torch.finfo(task.dtype).eps


def _extended(basis: Tensor, nonuniform: Tensor) -> Tensor:
    """Orthonormal basis of the span of some columns and of some coordinates."""
    axes = torch.zeros(len(basis), len(nonuniform), dtype=basis.dtype, device=basis.device)
    axes[nonuniform, torch.arange(len(nonuniform), device=nonuniform.device)] = 1.0
    for _ in range(2):
        # (I - U Uᵀ) E
        axes = axes - basis @ (basis.mT @ axes)
    # = L diag(l) Rᵀ: L spans it
    left, lengths, _ = torch.linalg.svd(axes, full_matrices=False)
    kept = left[:, lengths > 1e3 * torch.finfo(basis.dtype).eps]
    kept = kept - basis @ (basis.mT @ kept)
    return torch.cat([basis, torch.linalg.qr(kept).Q], dim=1)
