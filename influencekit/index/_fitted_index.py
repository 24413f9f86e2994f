"""What an index answers from: the map of its models, and its rows on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit._fitted import Fitted, check_scores
from influencekit.data._examples import Examples, ExamplesList
from influencekit.index._coordinates import Coordinates
from influencekit.index._scan import all_scores, best_rows, dense_blocks, self_products
from influencekit.index._shards import Shard

__all__ = ["FittedIndex"]


class FittedIndex(Fitted):
    """The map of an index, with its rows on disk.

    Parameters
    ----------
    coordinates : Coordinates
    shards : list of Shard
    n_rows : int
    """

    def __init__(self, coordinates: Coordinates, shards: Sequence[Shard], n_rows: int):
        self.coordinates, self.shards, self.n_rows = coordinates, shards, n_rows
        self.kept = np.ones(n_rows, dtype=bool)
        self.changed = False
        #: Finds candidates of few queries without a scan, if a user asked for it.
        self.finder: Any = None

    def scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        found = all_scores(self._asked(queries), self.shards, self.n_rows)
        found[:, ~self.kept] = 0.0
        return found

    def best(self, queries: Any, k: Any, sign: float, among: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows with the largest scores; see :meth:`AttributionIndex.top_k`."""
        kept = self.kept if among is None else self.kept & _mask(among, self.n_rows)
        if among is not None and not kept.any():
            raise ValueError("among: no row is left (got 0 of them); accepted is one row or more.")
        n, whole = int(kept.sum()), isinstance(k, Integral) and not isinstance(k, bool)
        if not whole or not 1 <= k <= n:
            raise ValueError(f"k: got {k!r}; accepted are integers from 1 to {n}, the rows left.")
        asked = self._asked(queries)
        found = self._best(asked, int(k), sign, kept, among is None)
        check_scores(found[1])
        return found

    def _best(
        self, asked: Tensor, k: int, sign: float, kept: np.ndarray, everywhere: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """By a scan of all rows, or of those that the finder has too few candidates for."""
        counted = None if kept.all() else kept
        if self.finder is None or not everywhere or not asked.isfinite().all():
            return best_rows(asked, self.shards, k, sign, counted)
        rows, scores, enough = self.finder.best(asked, k, sign, kept)
        if not enough.all():
            some = asked[torch.from_numpy(~enough)]
            rows[~enough], scores[~enough] = best_rows(some, self.shards, k, sign, counted)
        return rows, scores

    def _asked(self, queries: Examples | ExamplesList) -> Tensor:
        """Numbers of queries, (m, dim), float64."""
        asked = self.coordinates.queries(queries)
        return self.coordinates.at_length(asked, self.grams) if self.coordinates.is_unit else asked

    @cached_property
    def grams(self) -> list[Tensor]:
        """``Σ_j r_j r_jᵀ`` over the rows that count, for each map: one pass over the files."""
        found = [
            torch.zeros(one.dim, one.dim, dtype=torch.float64)
            for maps in self.coordinates.models
            for one in maps
        ]
        for _, rows in dense_blocks(self.shards, self.kept):
            for gram, own in zip(found, self.coordinates.by_block(rows), strict=True):
                gram.addmm_(own.mT, own)
        return found

    def _unit_self_scores(self) -> np.ndarray:
        """A row asked about its own loss has its own numbers, times a positive factor."""
        found = np.zeros(self.n_rows)
        for places, rows in dense_blocks(self.shards, self.kept):
            found[places] = (self.coordinates.at_length(rows, self.grams) * rows).sum(1).numpy()
        return found

    def self_scores(self) -> np.ndarray:
        if self.coordinates.is_unit:
            return self._unit_self_scores()
        if self.changed:
            found = self_products(self.shards, self.coordinates.metric())
        else:
            found = np.concatenate([shard.selves.numpy() for shard in self.shards])
        return np.where(self.kept, found, 0.0)

    def at(self, damping: float) -> FittedIndex:
        """The same index at another damping."""
        if any(self.coordinates.runs):
            raise NotImplementedError("set_damping: an index of RunAverage keeps that of its build")
        return self._with(coordinates=self.coordinates.at(damping), changed=True)

    def holding(self, shards: Sequence[Shard]) -> FittedIndex:
        """The same index on files that were mapped again; on none to be pickled."""
        return self._with(shards=shards, finder=None)

    def explaining(self, output: Any) -> FittedIndex:
        return self._with(coordinates=self.coordinates.explaining(output))


def _mask(among: Any, n: int) -> np.ndarray:
    mask = np.asarray(among)
    if mask.dtype != bool or mask.shape != (n,):
        raise ValueError(
            f"among: got {mask.dtype} of shape {mask.shape}; accepted is a mask of bool, ({n},)."
        )
    return mask
