"""Rows of an index in an approximate index of faiss, in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from influencekit._estimate import even_rows
from influencekit._top_k import smallest_k
from influencekit.index._scan import blocks
from influencekit.index._shards import Shard, dequantized
from influencekit.utils._optional import import_optional

__all__ = ["FaissRows", "rows_at"]

#: Rows that lists of an index are learned from, for each list.
ROWS_PER_LIST = 64


class FaissRows:
    """Rows of shards in an index of faiss for inner products.

    Parameters
    ----------
    shards : sequence of Shard
    n_rows : int
    factory : str or None
        See ``faiss.index_factory``; None is lists of about a quarter of √n rows.
    search : str or None
        Parameters of searches; None is a sixteenth of the lists, if ``factory`` is None.
    n_candidates : int
        Rows that are scored exactly, of each query.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        n_rows: int,
        factory: str | None,
        search: str | None,
        n_candidates: int,
    ):
        faiss = import_optional("faiss", "use_faiss", "faiss-cpu")
        self.shards, self.n_candidates = shards, n_candidates
        lists = max(1, int(4 * n_rows**0.5))
        if factory is None:
            factory, search = f"IVF{lists},Flat", search or f"nprobe={max(8, lists // 16)}"
        # a common factor changes no order
        self.largest = max(float(shard.scales.max()) for shard in shards) or 1.0
        try:
            dim = shards[0].coordinates.shape[1]
            self.found = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
            if not self.found.is_trained:
                most = ROWS_PER_LIST * getattr(self.found, "nlist", lists)
                self.found.train(self._numbers(rows_at(shards, even_rows(n_rows, most))))
            if search is not None:
                faiss.ParameterSpace().set_index_parameters(self.found, search)
        except RuntimeError as error:
            raise ValueError(
                f"factory: got {factory!r} with search={search!r}; accepted are texts of faiss, "
                f"such as 'HNSW32' with 'efSearch=64', or 'IVF1024,Flat' with 'nprobe=16', with "
                f"fewer lists than rows. faiss says: {error}"
            ) from error
        for _, shard, own in blocks(shards):
            self.found.add(self._numbers(dequantized(shard.coordinates[own], shard.scales[own])))

    def _numbers(self, rows: Tensor) -> np.ndarray:
        return (rows / self.largest).float().numpy()

    def best(
        self, queries: Tensor, k: int, sign: float, kept: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (m, k) and their scores, and which queries have found enough of them.

        Parameters
        ----------
        queries : Tensor of shape (m, dim), float64
        k : int
        sign : float
            -1 for the smallest scores.
        kept : ndarray of bool of shape (n_rows,)
        """
        sizes = queries.abs().amax(1, keepdim=True)
        asked = sign * queries / torch.where(sizes > 0, sizes, 1.0)
        most = min(max(k, self.n_candidates), len(kept))
        candidates = np.sort(self.found.search(asked.float().numpy(), most)[1], axis=1)
        there = (candidates >= 0) & kept[candidates]
        costs = np.full(candidates.shape, np.inf)
        for i, (query, own) in enumerate(zip(queries, there, strict=True)):
            found = rows_at(self.shards, candidates[i, own])
            costs[i, own] = -sign * (found @ query).numpy()
        best = smallest_k(costs, k)
        rows, costs = (np.take_along_axis(one, best, axis=1) for one in (candidates, costs))
        return rows, -sign * costs, there.sum(1) >= k


def rows_at(shards: Sequence[Shard], places: np.ndarray) -> Tensor:
    """Rows of shards at ascending places, float64."""
    parts, start = [], 0
    for shard in shards:
        first, last = np.searchsorted(places, (start, start + len(shard)))
        own = torch.from_numpy(places[first:last] - start)
        parts.append(dequantized(shard.coordinates[own], shard.scales[own]))
        start += len(shard)
    return torch.cat(parts)
