"""Exact decomposition through the Gram matrix of the curvature rows, for p larger than N.

The curvature ``A = B̃ᵀB̃ + R`` is a multiple of the identity outside the span of its rows and of
the parameters whose penalty differs from the rest (such as an unpenalized intercept). Inside that
span it is a small matrix, built from inner products alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureRows, nonuniform_penalty
from influencekit.curvature._spectrum import CoordinateSpectrum
from influencekit.gradients._gradients import Gradients
from influencekit.utils.validation import present

__all__ = [
    "SampleSpectrum",
    "decompose_samples",
    "loss_shares",
    "span_gram",
    "span_products",
]


@dataclass(repr=False)  # in one line, as all curvatures
class SampleSpectrum(CoordinateSpectrum):
    """Spectrum whose eigenvectors combine curvature rows and parameters with a different penalty.

    Attributes
    ----------
    rows : Gradients
        The curvature's rows.
    weights : Tensor of shape (N,), float64
        Weights of the rows.
    nonuniform : Tensor of shape (q,)
        Positions of the parameters whose penalty differs from the most common one.
    mixing : Tensor of shape (N + q, rank)
        ``M`` with eigenvectors ``V = [B̃; E]ᵀ M``.
    """

    rows: Gradients
    weights: Tensor
    nonuniform: Tensor
    mixing: Tensor

    def coordinates(self, gradients: Gradients) -> Tensor:
        # G V = G [B̃; E]ᵀ M
        return span_products(self.rows, self.weights, self.nonuniform, gradients) @ self.mixing


def decompose_samples(curvature: CurvatureRows, gram: Tensor | None = None) -> SampleSpectrum:
    """Decompose ``F + diag(penalty)`` on the span of the curvature rows.

    Parameters
    ----------
    curvature : CurvatureRows
        A curvature with known ``gradient_coordinates``.
    gram : Tensor of shape (N + q, N + q) or None, default=None
        The matrix that :func:`span_gram` returns, if it is known.

    Returns
    -------
    SampleSpectrum

    Notes
    -----
    Cost ``O(N³)`` after the Gram matrix, memory ``O(N²)``.
    """
    penalty = curvature.problem.penalty
    constant, nonuniform = nonuniform_penalty(penalty)
    n = curvature.rows.n_rows
    # [B̃; E] = S Uᵀ with orthonormal columns U = [B̃; E]ᵀ M
    gram = span_gram(curvature, nonuniform) if gram is None else gram.clone()
    spread, mixing = _orthonormal_span(gram, curvature.tolerance)
    del gram  # at most seven matrices of order N at a time, of which three are workspace of eigh
    excess = (penalty[nonuniform] - constant)[:, None]
    # Uᵀ F U = S_Bᵀ S_B
    inside = spread[:n].mT @ spread[:n]
    # Uᵀ (F + R) U = S_Bᵀ S_B + S_Eᵀ diag(r - c) S_E + c I
    small = (spread[n:].mT @ (excess * spread[n:])).add_(inside)
    small.diagonal().add_(constant)
    # = W diag(s) Wᵀ
    eigenvalues, rotation = torch.linalg.eigh(small)
    del small
    # v_kᵀ F v_k
    data = (inside @ rotation).mul_(rotation).sum(0).clamp_min(0.0)
    del inside
    # V = U W = [B̃; E]ᵀ M W, and B̃ V = S_B W
    mixing, rows = mixing @ rotation, spread[:n] @ rotation
    eigenvalues = eigenvalues.clamp_min(0.0)
    return SampleSpectrum(
        eigenvalues=eigenvalues,
        data_eigenvalues=data,
        train_coordinates=_loss_coordinates(curvature, rows),
        tolerance=curvature.tolerance,
        problem=curvature.problem,
        rows=curvature.rows,
        weights=curvature.weights,
        nonuniform=nonuniform,
        mixing=mixing,
    )


def _orthonormal_span(gram: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Rows in an orthonormal basis of their span, and that basis as mixtures of the rows.

    Rows are scaled to unit length first: whether a direction is missing depends on its angle to the
    others, not on the length of its rows relative to the longest one.  ``gram`` is overwritten.
    """
    norms = gram.diagonal().clamp_min(0.0).sqrt()
    unit = torch.where(norms > 0, 1 / torch.where(norms > 0, norms, 1.0), 0.0)
    # K = [B̃; E] [B̃; E]ᵀ; D⁻¹ K D⁻¹ = Q diag(l) Qᵀ with the lengths D of the rows
    lengths, directions = torch.linalg.eigh(gram.mul_(unit[:, None]).mul_(unit))
    keep = lengths > tolerance * lengths[-1]
    roots, directions = lengths[keep].sqrt(), directions[:, keep]
    # S = D Q √l and M = D⁻¹ Q / √l
    spread = (norms[:, None] * directions).mul_(roots)
    return spread, directions.mul_(unit[:, None]).div_(roots)


def _loss_coordinates(curvature: CurvatureRows, rows: Tensor) -> Tensor:
    """Coordinates of the loss gradients ``Σ_r c_ir b_ir`` from those of the rows ``√ω b``.

    ``rows`` is overwritten.
    """
    # Vᵀ g_i = Σ_r (c_ir / √ω_ir) (√ω_ir Vᵀ b_ir)
    scaled = rows.mul_(loss_shares(curvature)[:, None])
    return scaled.unflatten(0, (len(curvature.rows), -1)).sum(1)


def loss_shares(curvature: CurvatureRows) -> Tensor:
    """Shares ``c_ir / √ω_ir`` of the rows ``√ω b`` in the loss gradients, (N,)."""
    weights = curvature.weights
    coordinates = present(curvature.gradient_coordinates, "coordinates of the gradients")
    scale = coordinates.reshape(-1) / weights.sqrt()
    return torch.where(weights > 0, scale, 0.0)


def span_gram(curvature: CurvatureRows, nonuniform: Tensor) -> Tensor:
    """Gram matrix of the rows of ``[B̃; E]``, float64, (N + q, N + q)."""
    n, q = curvature.rows.n_rows, len(nonuniform)
    gram = span_products(curvature.rows, curvature.weights, nonuniform, curvature.rows)
    # B̃ [B̃; E]ᵀ, with B̃ = √ω B
    gram.mul_(curvature.weights.sqrt()[:, None])
    if q:
        # E B̃ᵀ; E Eᵀ = I
        identity = torch.eye(q, dtype=gram.dtype, device=gram.device)
        gram = torch.cat([gram, torch.cat([gram[:, n:].mT, identity], dim=1)])
    return (gram + gram.mT).div_(2)


def span_products(
    rows: Gradients, weights: Tensor, nonuniform: Tensor, gradients: Gradients
) -> Tensor:
    """Inner products of gradients with the rows of ``[B̃; E]``, float64, (n_rows, N + q)."""
    # G B̃ᵀ = G Bᵀ √ω, followed by G Eᵀ
    if len(nonuniform) == 0:
        return gradients.dot(rows).mul_(weights.sqrt())
    engine = rows.engine
    gradients = gradients.held(engine.held_memory // 4, spill=True)
    products = gradients.dot(rows).mul_(weights.sqrt())
    selector = torch.zeros(
        engine.task.n_parameters, len(nonuniform), dtype=engine.task.dtype, device=products.device
    )
    selector[nonuniform, torch.arange(len(nonuniform), device=nonuniform.device)] = 1.0
    entries = (gradients @ selector).to(products.dtype)
    return torch.cat([products, entries], dim=1)
