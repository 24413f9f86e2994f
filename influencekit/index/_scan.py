"""The flat scan: products of queries with all rows, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from influencekit._top_k import smallest_k
from influencekit.index._products import Products
from influencekit.index._shards import Shard
from influencekit.utils._long_work import chunks

__all__ = ["all_scores", "best_rows", "self_products"]

#: Bytes of a block of rows in float32.
BLOCK = 2**23


def blocks(shards: Sequence[Shard]) -> Iterator[tuple[slice, Shard, slice]]:
    """Blocks of rows: their places in the index, their shard, and their places in it.

    They depend on the shards alone, so every reader computes the same products.
    """
    start = 0
    for shard in shards:
        for own in chunks(len(shard), 4 * shard.coordinates.shape[1], BLOCK):
            yield slice(start + own.start, start + own.stop), shard, own
        start += len(shard)


def block_scores(products: Products, shard: Shard, own: slice) -> np.ndarray:
    """Scores (m, n_own) of queries with some rows of a shard, except for the queries' sizes."""
    return products(shard.coordinates[own]).mul_(shard.scales[own]).numpy()


def all_scores(queries: Tensor, shards: Sequence[Shard], n_rows: int) -> np.ndarray:
    """Scores of queries with all rows.

    Parameters
    ----------
    queries : Tensor of shape (m, dim), float64
    shards : sequence of Shard
    n_rows : int

    Returns
    -------
    ndarray of shape (m, n_rows)
    """
    products = _products(queries, shards)
    scores = np.empty((len(queries), n_rows))
    for rows, shard, own in blocks(shards):
        scores[:, rows] = block_scores(products, shard, own) * products.sizes
    return scores


def best_rows(
    queries: Tensor, shards: Sequence[Shard], k: int, sign: float, among: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the largest scores, without holding all of them.

    Parameters
    ----------
    queries : Tensor of shape (m, dim), float64
    shards : sequence of Shard
    k : int
    sign : float
        -1 for the smallest scores.
    among : ndarray of bool of shape (n_rows,) or None
        Rows that count.

    Returns
    -------
    rows : ndarray of int of shape (m, k)
        Equal scores in row order.
    scores : ndarray of shape (m, k)
    """
    products = _products(queries, shards)
    costs = np.full((len(queries), k), np.inf)
    places = np.full((len(queries), k), -1, dtype=np.intp)
    for rows, shard, own in blocks(shards):
        counted = slice(None) if among is None else np.flatnonzero(among[rows])
        positions = np.arange(rows.start, rows.stop)[counted]
        if len(positions) == 0:
            continue
        found = block_scores(products, shard, own)[:, counted]
        found *= -sign
        better = np.flatnonzero((found < costs[:, -1:]).any(1))
        for i in better:  # earlier rows first, so that equal scores stay in row order
            some = np.flatnonzero(found[i] < costs[i, -1])
            joined = np.concatenate([costs[i], found[i, some]])
            kept = smallest_k(joined[None], k)[0]
            places[i] = np.concatenate([places[i], positions[some]])[kept]
            costs[i] = joined[kept]
    return places, -sign * costs * products.sizes


def _products(queries: Tensor, shards: Sequence[Shard]) -> Products:
    return Products(queries, shards[0].coordinates.dtype)


def self_products(shards: Sequence[Shard], metric: Tensor) -> np.ndarray:
    """Weighted squares of all rows, (n_rows,).

    Parameters
    ----------
    shards : sequence of Shard
    metric : Tensor of shape (n_blocks, dim), float64
    """
    parts = []
    for _, shard, own in blocks(shards):
        squares = shard.coordinates[own].double().square() @ metric.mT
        # Σ_blocks ratio Σ_k m_k c_k²
        found = (squares * shard.ratios[own]).sum(1) * shard.scales[own].square()
        parts.append(found.numpy())
    return np.concatenate(parts)
