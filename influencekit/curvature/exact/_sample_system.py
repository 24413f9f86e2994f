"""A linear model's curvature on the span of its rows, solved for one λ without eigenvalues."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureRows, nonuniform_penalty
from influencekit.curvature._spectrum import SMALLEST_ORDER, DampingPath, Spectrum
from influencekit.curvature.exact._sample_space import (
    SampleSpectrum,
    decompose_samples,
    loss_shares,
    span_gram,
    span_products,
)
from influencekit.gradients._gradients import Gradients

__all__ = ["SampleSystem"]

#: Penalty plus λ, in units of the largest curvature, from which a solution loses no digits that
#: count.
LEAST_SHIFT = 1e-9


class _Solved(NamedTuple):
    """Factors of one damping; ``E`` are the parameters of another penalty."""

    factor: Tensor  # L with L Lᵀ = K + c I
    beside: Tensor  # (K + c I)⁻¹ B Eᵀ
    inverse: Tensor  # of the Schur complement of E
    shift: float  # c


class SampleSystem(Spectrum):
    """Curvature ``A = B̃ᵀB̃ + R`` of a linear model with fewer curvature rows than parameters.

    Products at one λ are those of a Cholesky decomposition of order N; eigenvalues are found when
    they are asked for.

    Parameters
    ----------
    curvature : CurvatureRows
        Its ``gradient_coordinates`` must be known.

    Notes
    -----
    With parameters w of the common penalty r, and those of another one, b, beside them,
    ``c = r + λ`` and ``Q = B̃_w B̃_wᵀ + c I``: rows g and ``h = B̃ᵀ t`` have the product
    ``g_w B̃_wᵀ Q⁻¹ t + (g_b - g_w B̃_wᵀ Q⁻¹ B̃_b) S⁻¹ c B̃_bᵀ Q⁻¹ t`` with the Schur complement
    ``S = r_b + λ + c B̃_bᵀ Q⁻¹ B̃_b``.
    """

    def __init__(self, curvature: CurvatureRows):
        self.curvature = curvature
        self.problem = curvature.problem
        self.tolerance = curvature.tolerance
        self.constant, self.nonuniform = nonuniform_penalty(self.problem.penalty)
        self.gram = span_gram(curvature, self.nonuniform)
        self._last: tuple[float, _Solved | None] | None = None

    @cached_property
    def decomposed(self) -> SampleSpectrum:
        """The same curvature with eigenvalues."""
        return decompose_samples(self.curvature, self.gram)

    @property
    def eigenvalues(self) -> Tensor:  # type: ignore[override]
        return self.decomposed.eigenvalues

    @property
    def data_eigenvalues(self) -> Tensor:  # type: ignore[override]
        return self.decomposed.data_eigenvalues

    @property
    def bounds(self) -> Tensor:
        # the largest eigenvalue of B̃B̃ᵀ is at most its largest sum of a row
        n = self.curvature.rows.n_rows
        return self.gram[:n, :n].abs().sum(1) + self.problem.penalty.max()

    @property
    def least_damping(self) -> float:
        size = max(SMALLEST_ORDER, len(self.gram))
        floor = size * torch.finfo(torch.float64).eps * float(self.bounds.max())
        return 0.0 if self.constant > floor else super().least_damping

    def products(self, queries: Gradients, damping: float) -> Tensor:
        solved = self._solved(damping)
        if solved is None:
            return self.decomposed.products(queries, damping)
        curvature = self.curvature
        found = span_products(curvature.rows, curvature.weights, self.nonuniform, queries)
        return self._with_train(found, solved)

    def _with_train(self, found: Tensor, solved: _Solved) -> Tensor:
        """Products with the training gradients, (m, n), from those ``found`` with [B̃; E]."""
        n, curvature = self.curvature.rows.n_rows, self.curvature
        entries, bias = found[:, n:], self.gram[:n, n:]
        # G_w B̃_wᵀ Q⁻¹, (m, N)
        inside = torch.cholesky_solve((found[:, :n] - entries @ bias.mT).mT, solved.factor).mT
        # G_b - G_w B̃_wᵀ Q⁻¹ B̃_b
        left = entries - inside @ bias
        inside.addmm_(left @ solved.inverse, solved.beside.mT, alpha=solved.shift)
        # Σ_r (c_jr / √ω_jr) of the rows r of example j
        scaled = inside * loss_shares(curvature)
        return scaled.unflatten(1, (len(curvature.rows), -1)).sum(2)

    def _solved(self, damping: float) -> _Solved | None:
        """Factors at one damping, those of the last one kept; None where eigenvalues are needed."""
        if self._last is None or self._last[0] != damping:
            self._last = damping, self._solve(damping)
        return self._last[1]

    def _solve(self, damping: float) -> _Solved | None:
        n, shift = self.curvature.rows.n_rows, self.constant + damping
        if shift <= LEAST_SHIFT * float(self.bounds.max()):
            return None
        bias = self.gram[:n, n:]
        # Q = B̃_w B̃_wᵀ + c I = L Lᵀ
        system = torch.addmm(self.gram[:n, :n], bias, bias.mT, alpha=-1)
        system.diagonal().add_(shift)
        factor, failed = torch.linalg.cholesky_ex(system)
        if int(failed):
            return None
        # Q⁻¹ B̃_b
        beside = torch.cholesky_solve(bias, factor)
        # S = r_b + λ + c B̃_bᵀ Q⁻¹ B̃_b
        complement = shift * bias.mT @ beside
        complement.diagonal().add_(self.problem.penalty[self.nonuniform] + damping)
        inverse = torch.linalg.pinv(complement, rtol=self.tolerance, hermitian=True)
        return _Solved(factor, beside, inverse, shift)

    def self_products(self, damping: float) -> Tensor:
        solved = self._solved(damping)
        if solved is None:
            return self.decomposed.self_products(damping)
        n, curvature = self.curvature.rows.n_rows, self.curvature
        # ∇loss_j [B̃; E]ᵀ = Σ_r (c_jr / √ω_jr) b̃_jr [B̃; E]ᵀ
        found = self.gram[:n] * loss_shares(curvature)[:, None]
        found = found.unflatten(0, (len(curvature.rows), -1)).sum(1)
        return self._with_train(found, solved).diagonal()

    # -- what needs eigenvalues --------------------------------------------------------------

    def path(self, queries: Gradients) -> DampingPath:
        return self.decomposed.path(queries)

    def train_path(self, rows: Tensor) -> DampingPath:
        return self.decomposed.train_path(rows)

    def restrict(self, columns: Tensor) -> Spectrum:
        return self.decomposed.restrict(columns)
