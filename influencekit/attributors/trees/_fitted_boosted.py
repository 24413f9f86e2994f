"""Boosted trees: effects of rows on leaf values, with or without those through later trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from influencekit.attributors.trees._products import own_products, row_products
from influencekit.attributors.trees._replay import Replay
from influencekit.attributors.trees._rows import leaves_of, loss_slopes, output_slopes, scores_of
from influencekit.attributors.trees._sweep import LeafSlopes, leaf_slopes, row_factors
from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.models import Task
from influencekit.utils._long_work import chunks, progress

__all__ = ["FittedBoosted"]


class FittedBoosted(Fitted):
    """Scores of the rows that boosted trees were trained on.

    Parameters
    ----------
    task : Task
    replay : Replay
    targets : Tensor
        Targets of the training rows, in the form that the task's loss takes.
    method : {"leaf", "boostin", "axil", "kernel"}
    output : str or callable
    memory : int
        Bytes for the adjoints of the queries processed together.
    n_jobs : int or None
    verbose : int
    """

    def __init__(
        self,
        task: Task,
        replay: Replay,
        targets: torch.Tensor,
        method: str,
        output: Any,
        memory: int,
        n_jobs: int | None,
        verbose: int,
    ):
        self.task, self.replay, self.targets = task, replay, targets
        self.method, self.output = method, output
        self.memory, self.n_jobs, self.verbose = memory, n_jobs, verbose
        self.factors, self.base_factors = self._factors()

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Contribution of each row to its leaf in every tree, and to the base score."""
        replay, weights = self.replay, self.replay.weights
        if self.method in ("leaf", "boostin"):
            factors = np.empty(replay.leaves.shape)
            for tree, factor in row_factors(replay):
                # w_j (g_j + step h_j)
                factors[tree] = weights * factor
            return factors, replay.start_weights[:, None] * replay.base_slopes
        # a row's residual under the model: what its label adds to the other rows
        residual = weights[:, None] * replay.final_slopes()
        seen = 1.0 if replay.seen is None else replay.seen[replay.trees.stages]
        base = replay.base_slopes_by_label() * -replay.final_slopes()
        return residual.T[replay.trees.outputs] * seen, base

    def scores(self, queries: Examples) -> np.ndarray:
        slopes = self._output_slopes(queries)
        leaves, sizes = leaves_of(queries), self.replay.trees.sizes
        found = np.empty((len(queries), len(self.replay.targets)))

        def fill(rows: slice) -> None:
            swept = self._sweep(leaves[:, rows], slopes[..., rows])
            # Σ_t factors[t, j] slopes[leaf of j in t, i] + Σ_k base_factors[j, k] base[k, i]
            found[rows] = row_products(self.replay.leaves, self.factors, sizes, swept.leaves)
            found[rows] += (self.base_factors @ swept.base).T

        self._each(fill, len(queries))
        return found

    @property
    def has_weights(self) -> bool:
        """Whether labels have exact weights in the prediction."""
        return self.method == "axil"

    def label_weights(self, queries: Examples) -> np.ndarray:
        """Weight (n_queries, n) of every row's target in the prediction."""
        replay, leaves = self.replay, leaves_of(queries)
        seen = 1.0 if replay.seen is None else replay.seen[replay.trees.stages]
        factors = np.broadcast_to(-replay.weights, replay.leaves.shape) * seen
        found = np.empty((len(queries), len(replay.targets)))

        def fill(rows: slice) -> None:
            swept = self._sweep(leaves[:, rows], np.ones((1, 1, rows.stop - rows.start)))
            found[rows] = row_products(replay.leaves, factors, replay.trees.sizes, swept.leaves)
            found[rows] += (replay.base_slopes_by_label() @ swept.base).T

        self._each(fill, len(queries))
        return found

    def self_scores(self) -> np.ndarray:
        leaves, sizes = self.replay.leaves, self.replay.trees.sizes
        outputs = scores_of(self.task, leaves)
        slopes = self._staged(leaves, lambda z: loss_slopes(self.task, self.targets, z), outputs)
        found = np.empty(leaves.shape[1])

        def fill(rows: slice) -> None:
            swept = self._sweep(leaves[:, rows], slopes[..., rows])
            # the same products for each row with itself
            own = own_products(leaves[:, rows], self.factors[:, rows], sizes, swept.leaves)
            found[rows] = own + (self.base_factors[rows] * swept.base.T).sum(1)

        self._each(fill, leaves.shape[1])
        return found

    def _output_slopes(self, queries: Examples) -> np.ndarray:
        leaves = leaves_of(queries)
        outputs = scores_of(self.task, leaves)
        return self._staged(
            leaves, lambda z: output_slopes(self.task, self.output, queries.targets, z), outputs
        )

    def _staged(self, leaves: np.ndarray, slopes_at: Any, outputs: torch.Tensor) -> np.ndarray:
        """Slopes (n_stages or 1, k, q) at the final outputs, or for BoostIn before each stage."""
        if self.method != "boostin":
            return slopes_at(outputs)[None]
        trees, scores, found = self.replay.trees, self.replay.base[None], []
        scores = np.repeat(scores, leaves.shape[1], axis=0)
        for number in range(int(trees.stages[-1]) + 1):
            found.append(slopes_at(torch.as_tensor(scores)))
            for tree in np.flatnonzero(trees.stages == number):
                step = self.replay.steps[tree][leaves[tree]]
                scores[:, trees.outputs[tree]] += trees.rate * step
        return np.stack(found)

    def _sweep(self, leaves: np.ndarray, slopes: np.ndarray) -> LeafSlopes:
        later = self.method in ("leaf", "axil")
        return leaf_slopes(self.replay, leaves, slopes, later=later)

    def _each(self, fill: Any, n_queries: int) -> None:
        """Call a function for slices of the queries, in threads."""
        n, k = self.replay.targets.shape
        per_query = 8 * ((k + 2) * n + 3 * int(self.replay.trees.sizes.sum()))
        workers = Parallel(n_jobs=self.n_jobs, prefer="threads", require="sharedmem")
        room = self.memory // max(1, workers.n_jobs if workers.n_jobs > 0 else 4)
        parts = [*chunks(n_queries, per_query, min(room, per_query * 128))]
        workers(delayed(fill)(rows) for rows in progress(parts, "Queries", self.verbose))
