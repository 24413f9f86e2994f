"""The flat scan: products of queries with all rows, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from influencekit.index._products import Products
from influencekit.index._shards import Shard, dequantized
from influencekit.utils._long_work import chunks

__all__ = ["all_scores", "best_rows", "dense_blocks", "self_products"]

#: Bytes of a block of rows in float32, and of its scores: those stay in the processor's cache.
BLOCK, CACHE = 2**24, 2**19
#: Fewest rows of a block that many queries are asked of.
FEWEST = 256
#: Share that some operations in float32 add to a number at most.
ROUNDING = 1e-6


def blocks(shards: Sequence[Shard], n_queries: int = 1) -> Iterator[tuple[slice, Shard, slice]]:
    """Blocks of rows: their places in the index, their shard, and their places in it.

    They depend on the shards and the number of queries alone, so every reader computes the same
    products.
    """
    start, most = 0, max(FEWEST, CACHE // (4 * max(1, n_queries)))
    for shard in shards:
        size = max(1, min(most, BLOCK // (4 * shard.coordinates.shape[1])))
        for own in chunks(len(shard), 1, size):
            yield slice(start + own.start, start + own.stop), shard, own
        start += len(shard)


def dense_blocks(shards: Sequence[Shard], kept: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Places of the kept rows, and the rows (n, dim) in float64, a block at a time."""
    for rows, shard, own in blocks(shards):
        some = np.flatnonzero(kept[rows])
        block = dequantized(shard.coordinates[own], shard.scales[own])
        yield rows.start + some, block[torch.from_numpy(some)]


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
    for rows, shard, own in blocks(shards, len(queries)):
        scores[:, rows] = block_scores(products, shard, own) * products.sizes
    return scores


def best_rows(
    queries: Tensor, shards: Sequence[Shard], k: int, sign: float, among: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the largest scores, without holding all of them.

    Estimates with a known error pass over most rows. The scores of the others are computed in
    float64, so that the rows are those that float64 finds.

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
    products, best = _products(sign * queries, shards), _Best(len(queries), k)
    slack = (products.slack * (1 + ROUNDING)).float()
    for rows, shard, own in blocks(shards, len(queries)):
        block, scales = shard.coordinates[own], shard.scales[own]
        estimates, shares = products.estimates(block), shard.shares[own]
        needed = best.least * (products.steps / shard.largest)
        counted = None if among is None else torch.from_numpy(among[rows])
        asked, above = _may_be_best(estimates, slack, shares, needed, counted, k)
        if len(above):
            places, at = np.unique(above, return_inverse=True)
            found = np.full((len(queries), len(places)), -np.inf)
            found[asked, at] = products.of_pairs(block, asked, above) * scales.numpy()[above]
            best.take(found, rows.start + places)
    return best.places, sign * best.scores * products.sizes


def _may_be_best(
    estimates: Tensor,
    slack: Tensor,
    shares: Tensor,
    needed: Tensor,
    counted: Tensor | None,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Queries and rows of scores that may exceed what is needed, and be of the k largest here.

    Parameters
    ----------
    estimates : Tensor of shape (m, n), float32
        Is overwritten.
    slack : Tensor of shape (m, 1), float32
        What estimates are off at most.
    shares : Tensor of shape (n,), float32
        What they are multiplied by.
    needed : Tensor of shape (m, 1), float64
    counted : Tensor of bool of shape (n,) or None
        Rows that count.
    k : int

    Returns
    -------
    asked, rows : ndarray of int of shape (n_pairs,)
    """
    upper = estimates.add_(slack).mul_(shares)
    if counted is not None:
        upper.masked_fill_(~counted, -torch.inf)
    above = upper > _less(needed).float()
    pairs = np.flatnonzero(above.numpy())
    if len(pairs) > k * len(upper) and k <= upper.shape[1]:
        lower = upper - 2 * slack * shares
        above &= upper >= _less(lower.topk(k).values[:, -1:])
        pairs = np.flatnonzero(above.numpy())
    return np.divmod(pairs, upper.shape[1])


def _less(scores: Tensor) -> Tensor:
    """Scores less what float32 may have added."""
    return scores - ROUNDING * scores.abs()


class _Best:
    """The largest scores so far, of each query.

    Parameters
    ----------
    m, k : int
    """

    def __init__(self, m: int, k: int):
        self.scores = np.full((m, k), -np.inf)
        self.places = np.full((m, k), -1, dtype=np.intp)

    @property
    def least(self) -> Tensor:
        """Score that a row has to exceed, (m, 1), float64."""
        return torch.from_numpy(self.scores[:, -1:])

    def take(self, found: np.ndarray, rows: np.ndarray) -> None:
        """Keep scores (m, n) of later rows that are larger; of equal ones the first rows."""
        better = (found > self.scores[:, -1:]).any(1)
        scores = np.concatenate([self.scores[better], found[better]], axis=1)
        places = np.broadcast_to(rows, (int(better.sum()), len(rows)))
        places = np.concatenate([self.places[better], places], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.scores.shape[1]]
        self.scores[better] = np.take_along_axis(scores, best, axis=1)
        self.places[better] = np.take_along_axis(places, best, axis=1)


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
