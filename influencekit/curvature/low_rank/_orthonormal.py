"""Orthonormal rows in the place of others: wide matrices without copies of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from influencekit.utils._long_work import chunks

__all__ = ["mix_rows", "orthonormalize", "right_singular_rows"]

#: Bytes of the columns that are copied to float64 at a time.
_COLUMNS = 2**21


def mix_rows(mixing: Tensor, rows: Tensor) -> None:
    """``rows[:m] = mixing @ rows`` in place, in float64: mixing (m, k), rows (k, p), m up to k."""
    for columns in _columns(rows):
        mixed = mixing @ rows[:, columns].to(torch.float64)
        rows[: len(mixing), columns] = mixed.to(rows.dtype)


def orthonormalize(rows: Tensor) -> Tensor:
    """Make rows (k, p) orthonormal in place, for k up to p.

    Parameters
    ----------
    rows : Tensor of shape (k, p)
        Linearly independent: the ratio of their singular values is below 1e7.

    Returns
    -------
    Tensor of shape (k, k), float64
        ``T``: the rows that were given are ``T`` times those that are left.

    Notes
    -----
    Two rounds of ``Q = G^-½ rows`` by the eigenvalues of the Gram matrix, which is accumulated in
    float64: the first leaves an error of the squared ratio's rounding, the second none of it.
    """
    given = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
    for _ in range(2):
        gram = torch.zeros_like(given)
        for columns in _columns(rows):
            part = rows[:, columns].to(torch.float64)
            gram.addmm_(part, part.mT)
        # G = M diag(g) Mᵀ; rows = (M diag(g)^½) (diag(g)^-½ Mᵀ rows)
        lengths, mixing = torch.linalg.eigh((gram + gram.mT) / 2)
        least = float(lengths[-1]) * torch.finfo(torch.float64).eps
        root = lengths.clamp_min(max(least, torch.finfo(torch.float64).tiny)).sqrt()
        mix_rows(mixing.mT / root[:, None], rows)
        given = given @ (mixing * root)
    return given


def right_singular_rows(rows: Tensor) -> Tensor:
    """Put the right singular vectors of rows (k, p) in their place, by ascending singular value.

    Parameters
    ----------
    rows : Tensor of shape (k, p)
        As for :func:`orthonormalize`.

    Returns
    -------
    Tensor of shape (k,), float64
        Singular values in ascending order.
    """
    # rows = T Q, T = U diag(σ) Wᵀ: the right singular vectors are Wᵀ Q
    _, singular, directions = torch.linalg.svd(orthonormalize(rows))
    mix_rows(directions.flip(0), rows)
    return singular.flip(0)


def _columns(rows: Tensor) -> Iterator[slice]:
    """Slices of columns whose copies in float64 are small, whatever memory there is."""
    return chunks(rows.shape[1], 8 * len(rows), _COLUMNS)
