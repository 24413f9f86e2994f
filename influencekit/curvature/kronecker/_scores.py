"""Products ``Σ_kl b_ik a_il M_kl b'_jk a'_jl`` of rank-one coordinates of all pairs of examples.

``M = 1 / (s + λ)`` is a smooth function of eigenvalues that are nearly products ``β_k α_l``, so
tiles of it have a low numerical rank r.  With ``M ≈ Σ_r u_r v_rᵀ`` the sum is
``Σ_r [(u_r b_i)·b'_j] [(v_r a_i)·a'_j]``: r (d_out + d_in) operations per pair in place of d_out
d_in.  The tiles of large β and α hold most of the rank and are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature.kronecker._bases import BlockBasis, MatrixBasis
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.utils._long_work import chunks
from influencekit.utils.validation import present

__all__ = ["Tile", "add_products", "plan_tiles", "scaled"]

#: Side length of the first tile; each later one is as long as all before it together.
_FIRST_SIDE = 64
#: Layers with fewer parameters times examples than this are multiplied exactly.
_SMALLEST_WORK = 5e7
#: Moments are at least this share of the mean moment, for directions that only queries have.
_FLOOR = 1e-2
#: Extra operations per pair for one more rank, in addition to those of the matrix products.
_RANK_OVERHEAD = 40
#: Number of rows of left factors and columns of training examples multiplied at once.
_LEFT_ROWS, _RIGHT_ROWS = 512, 1_024
#: Queries are few if this times their number is at most the longer side of a tile; and bytes of
#: their products with some rows, which stay in cache.
_FEW, _FEW_BYTES = 2, 2**21


@dataclass(frozen=True)
class Tile:
    """A part of ``M``, stored exactly or in low rank.

    Attributes
    ----------
    rows, columns : slice
    table : Tensor of shape (n_rows, n_columns) or None
        The entries themselves.
    left, right : Tensor of shape (rank, n_rows or n_columns), or None
        Factors, if they are cheaper.
    """

    rows: slice
    columns: slice
    table: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None


# -- plans ------------------------------------------------------------------------------------


def plan_tiles(
    bases: dict[str, BlockBasis], inverse: Tensor, n_train: int, tolerance: float
) -> dict[str, list[Tile]]:
    """How to multiply every layer with one position per example, at one damping.

    Parameters
    ----------
    bases : dict of str to BlockBasis
    inverse : Tensor of shape (p,), float64
        ``1 / (s + λ)`` of all blocks.
    n_train : int
        Number of training examples.
    tolerance : float
        Root-mean-square error of the scores over their root mean square; 0 is exact.

    Returns
    -------
    dict of str to list of Tile

    Notes
    -----
    Entry kl of a layer's ``M`` is weighted by the second moments of the coordinates on both
    sides, so that its square is that entry's share of the mean squared score (coordinates being
    uncorrelated in the eigenbasis).  The smallest singular values of all weighted tiles are dropped
    until ``tolerance²`` of the total is reached.
    """
    plans: dict[str, list[Tile]] = {}
    weighted: list[_Weighted] = []
    energy = torch.zeros((), dtype=torch.float64, device=inverse.device)
    for name, basis in bases.items():
        if not isinstance(basis, MatrixBasis):
            continue
        table = inverse[basis.columns].unflatten(0, (basis.place.d_out, basis.place.d_in))
        plans[name] = []
        left, right = _weights(basis.output_moments), _weights(basis.input_moments)
        # Σ_kl (β_k M_kl α_l)² with the moments β, α of both sides
        energy += (left[:, None] * table * right).square().sum()
        if tolerance == 0 or not basis.single or n_train * table.numel() < _SMALLEST_WORK:
            plans[name].append(Tile(slice(0, len(left)), slice(0, len(right)), table=table))
            continue
        for rows in _sides(len(left)):
            for columns in _sides(len(right)):
                own = table[rows, columns]
                weighted.append(_Weighted.of(name, rows, columns, own, left[rows], right[columns]))
    if weighted:
        threshold = _threshold(weighted, tolerance**2 * float(energy))
        for tile in weighted:
            plans[tile.name] += tile.cut(threshold)
    return plans


@dataclass(frozen=True)
class _Weighted:
    """A tile with the singular value decomposition of its weighted entries."""

    name: str
    rows: slice
    columns: slice
    table: Tensor
    left: Tensor
    right: Tensor
    u: Tensor
    values: Tensor
    vt: Tensor

    @classmethod
    def of(
        cls, name: str, rows: slice, columns: slice, table: Tensor, left: Tensor, right: Tensor
    ) -> _Weighted:
        # diag(β) M diag(α) = U diag(σ) Vᵀ
        svd = torch.linalg.svd(left[:, None] * table * right, full_matrices=False)
        return cls(name, rows, columns, table, left, right, *svd)

    def cut(self, threshold: float) -> list[Tile]:
        rank = int((self.values > threshold).sum())
        if rank == 0:
            return []
        height, width = self.table.shape
        if rank * (height + width + _RANK_OVERHEAD) >= height * width:
            return [Tile(self.rows, self.columns, table=self.table)]
        roots = self.values[:rank].sqrt()
        # M ≈ leftᵀ right with left = √σ Uᵀ / β and right = √σ Vᵀ / α
        left = (self.u[:, :rank] * roots).mT / self.left
        right = self.vt[:rank] * roots[:, None] / self.right
        return [Tile(self.rows, self.columns, left=left, right=right)]


def _weights(moments: Tensor) -> Tensor:
    """Product of the root-mean-square coordinates of both sides, over training examples."""
    return moments + _FLOOR * moments.mean()


def _sides(length: int) -> Iterator[slice]:
    start, size = 0, _FIRST_SIDE
    while start < length:
        yield slice(start, min(length, start + size))
        start, size = start + size, max(size, start + size)


def _threshold(weighted: list[_Weighted], allowed: float) -> float:
    """Largest singular value up to which all may be dropped."""
    squares = torch.cat([tile.values for tile in weighted]).square().sort().values
    dropped = int((squares.cumsum(0) <= allowed).sum())
    return float(squares[dropped - 1].sqrt()) if dropped else 0.0


# -- products ---------------------------------------------------------------------------------


def add_products(
    query: Block,
    train: Block,
    inverse: Tensor,
    tiles: list[Tile] | None,
    out: Tensor,
    workspace: int,
) -> None:
    """Add ``Σ_k c_ik inverse_k d_jk`` of all pairs of one block's rows to ``out``.

    Parameters
    ----------
    query, train : Block
        Coordinates, one row for each example.
    inverse : Tensor of shape (width,), float64
    tiles : list of Tile or None
        Plan of the block, used if both sides have one position per example.
    out : Tensor of shape (n_query, n_train)
    workspace : int
        Bytes for intermediates.
    """
    if isinstance(query, _Scaled):
        query.add_dot(train, out, workspace, "dense")
    elif isinstance(query, IndexBlock) and isinstance(train, IndexBlock):
        table = inverse.view(query.spec.d_out, -1).to(query.dtype)
        # b_it times the row e_it of M, the entry of position t
        scaled = query.b * table[query.index][:, None]
        IndexBlock(query.spec, query.index, scaled).add_dot(train, out, workspace)
    elif tiles is not None and query.is_single and train.is_single:
        for tile in tiles:
            _add_tile(tile, _factors(query), _factors(train), out, workspace)
    else:
        _add_dense(query, train, inverse, out, workspace)


class _Scaled(DenseBlock):
    """Dense coordinates of queries that are already multiplied with ``1 / (s + λ)``."""


def scaled(query: Block, inverse: Tensor) -> Block:
    """A block of queries for which :func:`add_products` makes no more dense rows."""
    return _Scaled(query.spec, (query.dense() * inverse.to(query.dtype))[:, None])


def _factors(block: Any) -> tuple[Tensor, Tensor]:
    """Output and input sides of rank-one coordinates."""
    return block.b[:, 0, 0], block.a[:, 0]


def _add_dense(query: Block, train: Block, inverse: Tensor, out: Tensor, workspace: int) -> None:
    scale = inverse.to(query.dtype)
    for rows in chunks(query.n_examples, query.dense_bytes, 2 * workspace):
        # C_f diag(1 / (s + λ)), and its dot products with C
        dense = query[rows].dense() * scale
        DenseBlock(query.spec, dense[:, None]).add_dot(train, out[rows], workspace, "dense")


def _add_tile(
    tile: Tile,
    query: tuple[Tensor, Tensor],
    train: tuple[Tensor, Tensor],
    out: Tensor,
    workspace: int,
) -> None:
    query, train = ((b[:, tile.rows], a[:, tile.columns]) for b, a in (query, train))
    if tile.table is None:
        left, right = present(tile.left, "left factor"), present(tile.right, "right factor")
        _add_low_rank(left, right, query, train, out)
    else:
        _add_table(tile.table.to(out.dtype), query, train, out, workspace)


def _add_low_rank(
    left: Tensor,
    right: Tensor,
    query: tuple[Tensor, Tensor],
    train: tuple[Tensor, Tensor],
    out: Tensor,
) -> None:
    (b, a), (b_train, a_train), rank = query, train, len(left)
    for rows in chunks(len(b), rank, _LEFT_ROWS):
        # Σ_q <b_i ∘ left_q, b_j> <a_i ∘ right_q, a_j>
        outputs, inputs = _scaled(b[rows], left), _scaled(a[rows], right)
        for columns in chunks(len(b_train), 1, _RIGHT_ROWS):
            products = outputs @ b_train[columns].mT
            products *= inputs @ a_train[columns].mT
            out[rows, columns] += products.unflatten(0, (-1, rank)).sum(1)


def _scaled(rows: Tensor, factors: Tensor) -> Tensor:
    """Every row times every factor, (n_rows * rank, side): in float64, then cast."""
    return (rows.to(factors.dtype)[:, None] * factors).to(rows.dtype).flatten(0, 1)


def _add_table(
    table: Tensor,
    query: tuple[Tensor, Tensor],
    train: tuple[Tensor, Tensor],
    out: Tensor,
    workspace: int,
) -> None:
    (b, a), (b_train, a_train) = query, train
    each = table.numel() * table.element_size()
    few = _FEW * len(b) <= max(table.shape)
    for rows in chunks(len(b), each, 2 * workspace):
        # Σ_kl b_ik M_kl a_il b_jk a_jl
        left = b[rows, :, None] * table * a[rows, None, :]
        if few:
            _add_few(left, train, out[rows], workspace)
            continue
        for columns in chunks(len(b_train), each, workspace // 4):
            right = (b_train[columns, :, None] * a_train[columns, None, :]).flatten(1)
            out[rows, columns].addmm_(left.flatten(1), right.mT)


def _add_few(left: Tensor, train: tuple[Tensor, Tensor], out: Tensor, workspace: int) -> None:
    """Add ``b_jᵀ W_i a_j`` for every matrix W_i of ``left``: no outer products are made."""
    short, long = train
    if short.shape[1] > long.shape[1]:
        left, short, long = left.mT, long, short
    each = left.shape[0] * left.shape[1] * left.element_size()
    for columns in chunks(len(short), each, min(_FEW_BYTES, workspace // 4)):
        # W_i a_j, (n, m, d)
        moved = (long[columns] @ left.flatten(0, 1).mT).unflatten(1, left.shape[:2])
        out[:, columns] += torch.bmm(moved, short[columns, :, None])[:, :, 0].mT
