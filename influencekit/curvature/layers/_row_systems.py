"""Eigenvectors of sums of few outer products, from the products of the rows with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.utils._long_work import chunks

__all__ = ["eigenvectors_of_rows", "sum_of_rows"]

#: Rows for each column up to which the smaller system takes less time.
_FEW = 0.75
#: Entries of rows that are in float64 at a time, where they are summed.
_ENTRIES = 2**22


def eigenvectors_of_rows(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and all eigenvectors of ``A = Σ_i w_i c_i c_iᵀ``.

    Of few rows they come from ``B Bᵀ`` with ``B = √w C``: ``A = BᵀB`` has the same eigenvalues and
    the vectors ``Bᵀu / √s``, and a basis of what is left has eigenvalue 0. QR makes all
    orthonormal, those of large eigenvalues first, so none of them loses digits to smaller ones.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
    weights : Tensor of shape (n,), float64
        Not negative.

    Returns
    -------
    eigenvalues : Tensor of shape (d,), float64
        Ascending.
    eigenvectors : Tensor of shape (d, d), float64
    """
    n, d = rows.shape
    if n > _FEW * d:
        eigenvalues, vectors = torch.linalg.eigh(sum_of_rows(rows, weights))
        return eigenvalues, vectors
    scaled = rows.to(torch.float64) * weights.sqrt()[:, None]
    # B Bᵀ = U diag(s) Uᵀ, from the largest on
    found = torch.linalg.eigh(scaled @ scaled.mT)
    values, left = found.eigenvalues.flip(0), found.eigenvectors.flip(1)
    kept = int((values > d * torch.finfo(torch.float64).eps * values[:1]).sum())
    values, left = values[:kept], left[:, :kept]
    vectors = scaled.mT @ (left / values.sqrt())
    eigenvalues = scaled.new_zeros(d)
    eigenvalues[d - kept :] = values.flip(0)
    return eigenvalues, torch.linalg.qr(vectors, mode="complete").Q.flip(1)


def sum_of_rows(rows: Tensor, weights: Tensor) -> Tensor:
    """``Σ_i w_i c_i c_iᵀ`` in float64, some rows at a time."""
    matrix = weights.new_zeros(rows.shape[1], rows.shape[1])
    for some in chunks(len(rows), rows.shape[1], _ENTRIES):
        own = rows[some].to(torch.float64)
        matrix.addmm_((own * weights[some, None]).mT, own)
    return matrix
