"""Block Lanczos with full reorthogonalization: eigenpairs of a symmetric operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from influencekit.curvature.low_rank._orthonormal import mix_rows
from influencekit.utils._long_work import return_freed

__all__ = ["RitzPairs", "extreme_eigenvalues", "lanczos", "normal_rows"]

#: Rows shorter than this share of their length before orthogonalization are rounding errors.
_LOST = 1e3


@dataclass
class RitzPairs:
    """Approximate eigenpairs of a symmetric operator.

    Attributes
    ----------
    values : Tensor of shape (rank,), float64
        Eigenvalues in ascending order.
    vectors : Tensor of shape (rank, p)
        Orthonormal rows.
    residuals : Tensor of shape (rank,), float64
        ``‖A u - θ u‖``: ``A`` has an eigenvalue within this distance of ``θ``.
    n_products : int
        Number of vectors that the operator was applied to.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    n_products: int


def normal_rows(n: int, like: Tensor, seed: int) -> Tensor:
    """Standard normal rows (n, p) in the dtype and on the device of a vector, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, like.shape[-1], generator=generator, dtype=torch.float64)
    return rows.to(like)


def lanczos(
    multiply: Callable[[Tensor], Tensor],
    start: Tensor,
    rank: int,
    size: int,
    tolerance: float = 0.0,
    seed: int | None = 0,
) -> RitzPairs:
    """Eigenpairs of largest absolute value of a symmetric operator, by Rayleigh and Ritz.

    Parameters
    ----------
    multiply : callable
        ``(k, p) -> (k, p)``.
    start : Tensor of shape (block, p)
        Random rows; their number is the number of products at once.
    rank : int
        Number of pairs to compute.
    size : int
        Largest dimension of the Krylov space.
    tolerance : float, default=0.0
        Stop when the pairs' residuals are below this share of the largest eigenvalue.
    seed : int or None, default=0
        Seed for new rows if the Krylov space is exhausted before ``size``; None stops there.

    Returns
    -------
    RitzPairs
    """
    size = min(size, start.shape[1])
    basis = start.new_empty(size, start.shape[1])
    small = torch.zeros(size, size, dtype=torch.float64, device=start.device)
    block, n, products = _orthonormal(start, basis[:0])[:size], 0, 0
    while True:
        columns = slice(n, n + len(block))
        basis[columns], n, products = block, columns.stop, products + len(block)
        # q A of the newest rows q of the basis Q, (block, p)
        image = multiply(block)
        # q A = (Q A qᵀ)ᵀ Q + left, with left orthogonal to the rows of Q
        inner, left = _split(image, basis[:n])
        # T = Q A Qᵀ, (n, n)
        small[:n, columns], small[columns, :n] = inner, inner.mT
        # T = Y diag(θ) Yᵀ
        values, mixing = torch.linalg.eigh((small[:n, :n] + small[:n, :n].mT) / 2)
        order = values.abs().argsort(descending=True)[:rank].sort().values
        # A u - θ u = leftᵀ y, with the rows y of Y that belong to q; as long as R y, leftᵀ = Q R
        triangle = torch.linalg.qr(left.mT.to(torch.float64), mode="r").R
        residuals = (triangle @ mixing[columns][:, order]).norm(dim=0)
        done = len(order) == rank and bool(
            (residuals <= tolerance * values.abs().max()).all() and tolerance > 0
        )
        if n == size or done:
            break
        block = _orthonormal(left, basis[:n], like=image)[: size - n]
        if len(block) == 0:
            if seed is None:
                break
            # an invariant subspace: go on outside it
            fresh = normal_rows(len(start), start, seed + n)
            block = _orthonormal(fresh, basis[:n])[: size - n]
    # u = Yᵀ Q, (rank, p), in the place of Q
    mix_rows(mixing[:, order].mT, basis[:n])
    return_freed(basis.nbytes // 2)  # before the most memory is needed
    return RitzPairs(values[order], basis[: len(order)].clone(), residuals, products)


def _split(rows: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (n, block) of rows in an orthonormal basis, and the rest of the rows."""
    # Q rᵀ, and what is left: r - (Q rᵀ)ᵀ Q
    inner = basis @ rows.mT
    left = rows - inner.mT @ basis
    again = basis @ left.mT  # the second pass of Gram and Schmidt
    return (inner + again).to(torch.float64), left - again.mT @ basis


def _orthonormal(rows: Tensor, basis: Tensor, like: Tensor | None = None) -> Tensor:
    """Orthonormal rows that span the part of rows outside the basis, without lost directions."""
    scale = (rows if like is None else like).norm(dim=1).max()
    if len(basis):
        rows = _split(rows, basis)[1]
    # rows = U diag(l) Vᵀ, and Vᵀ spans them
    _, lengths, directions = torch.linalg.svd(rows, full_matrices=False)
    kept = directions[lengths > _LOST * torch.finfo(rows.dtype).eps * scale]
    if len(basis) and len(kept):
        # outside the basis once more, and orthonormal: keptᵀ = Q R
        kept = torch.linalg.qr(_split(kept, basis)[1].mT).Q.mT
    return kept


def extreme_eigenvalues(
    multiply: Callable[[Tensor], Tensor], like: Tensor, size: int = 32, seed: int = 0
) -> tuple[float, float]:
    """Smallest and largest eigenvalue, from inside: Ritz values of a few products.

    Parameters
    ----------
    multiply : callable
    like : Tensor of shape (p,)
        Tensor with the length, dtype and device.
    size : int, default=32
        Number of products.
    seed : int, default=0
    """
    found = lanczos(multiply, normal_rows(2, like, seed), rank=size, size=size)
    return float(found.values.min()), float(found.values.max())
