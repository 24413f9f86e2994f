"""Forests and single trees: rows by the leaves that they share with a query."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit.attributors.trees._products import marked_leaves, row_products
from influencekit.attributors.trees._replay import other_leaves
from influencekit.attributors.trees._rows import leaves_of, loss_slopes, output_slopes, scores_of
from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.models import Task
from influencekit.models.trees._ensemble import AveragedTrees, offsets
from influencekit.models.trees._task import trees_of

__all__ = ["FittedAveraged"]

#: Relative error of scikit-learn's own sums.
_TOLERANCE = 1e-6


class FittedAveraged(Fitted):
    """Scores of the rows that averaged trees were trained on.

    Parameters
    ----------
    task : Task
    leaves : ndarray of int of shape (n_trees, n)
    matrix : ndarray of shape (n, k)
        Targets as numbers, or zeros and ones.
    weights : list of ndarray of shape (n,)
        Candidate weights of the rows in the leaf means; the first that gives the leaf values is
        used.
    targets : Tensor
        In the form that the task's loss takes.
    method : {"leaf", "kernel", "axil"}
    output : str or callable
    check : bool
        Whether the leaf values must equal the means of the given rows.

    Attributes
    ----------
    factors : ndarray of shape (n_trees, n)
        Share of each row in its leaf's mean, divided by the number of trees.
    """

    def __init__(
        self,
        task: Task,
        leaves: np.ndarray,
        matrix: np.ndarray,
        weights: list[np.ndarray],
        targets: torch.Tensor,
        method: str,
        output: Any,
        check: bool,
    ):
        self.task, self.trees, self.leaves = task, trees_of(task), leaves
        self.matrix, self.targets, self.method, self.output = matrix, targets, method, output
        counts = drawn(self.trees, leaves.shape[1], task.name)
        if counts is not None:
            # recent scikit-learn draws by weight, and counts each draw once
            weights = [*weights, np.ones_like(weights[0])]
        for likely in weights:
            self.factors = leaf_shares(self.trees, leaves, likely, counts)
            if self._error() <= _TOLERANCE:
                break
        if check:
            self._check_means()
        elif counts is not None:
            self._check_draws(counts * (weights[0] > 0))
        self.expected = self._expected(counts)

    def _error(self) -> float:
        """Largest difference of leaf values from row means, relative to the largest leaf value."""
        first, worst = offsets(self.trees.sizes), 0.0
        for tree, (leaf, size) in enumerate(zip(self.leaves, self.trees.sizes, strict=True)):
            own = self.trees.values[first[tree] : first[tree] + size]
            worst = max(worst, float(np.abs(self._means(tree, leaf, size) - own).max()))
        return worst / max(float(np.abs(self.trees.values).max()), 1e-300)

    def _means(self, tree: int, leaf: np.ndarray, size: int) -> np.ndarray:
        """Mean target of each leaf's rows, (size, k)."""
        shares = self.factors[tree] * len(self.leaves)
        return np.stack([np.bincount(leaf, shares * column, size) for column in self.matrix.T], 1)

    def _check_means(self) -> None:
        """Check that the leaf values are the means of the given rows."""
        if self.trees.refusal is not None:
            raise UnsupportedModelError(
                f"model: the leaf values of {self.task.name} are not the means of its rows: "
                f"{self.trees.refusal}. Use method='kernel'."
            )
        if not self._error() <= _TOLERANCE:
            raise other_leaves(self.task.name, self._error())

    def _check_draws(self, counts: np.ndarray) -> None:
        """Check that each leaf gets as many drawn rows as the forest counted there."""
        rows = [
            np.bincount(leaf, count > 0, size)
            for leaf, count, size in zip(self.leaves, counts, self.trees.sizes, strict=True)
        ]
        if self.trees.leaf_rows is not None and (
            np.abs(np.concatenate(rows) - self.trees.leaf_rows).max() > 0.5
        ):
            raise UnsupportedModelError(
                f"model: the rows that {self.task.name} drew for its trees do not fall into their "
                "leaves as it counted them. Give X, y and sample_weight exactly as the model's "
                "fit got them, in the same order: the rows drawn for a tree are found by their "
                "position."
            )

    def _expected(self, counts: np.ndarray | None) -> np.ndarray:
        """Prediction of the forest for each row without that row, (n, k).

        The mean over the trees that did not draw the row. For trees that drew all rows, the row is
        removed from its leaf; if it was alone there, the neighboring leaf replaces it.
        """
        n, k = self.matrix.shape
        first, total, seen = offsets(self.trees.sizes), np.zeros((n, k)), np.zeros(n)
        for tree, leaf in enumerate(self.leaves):
            places = first[tree] + leaf
            if counts is not None:
                out = counts[tree] == 0
                total[out] += self.trees.values[places[out]]
                seen += out
            else:
                total += self._without(tree, leaf, places)
                seen += 1
        mean = self.matrix.mean(0)
        return np.where(seen[:, None] > 0, total / np.maximum(seen, 1)[:, None], mean)

    def _without(self, tree: int, leaf: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Mean of each row's leaf without the row; leaf values may be medians, or clipped."""
        means = self._means(tree, leaf, self.trees.sizes[tree])[leaf]
        share = (self.factors[tree] * len(self.leaves))[:, None]
        left = np.maximum(1 - share, 1e-12)
        # (m - s y) / (1 - s), with the share s of the row in the mean m of its leaf
        others = (means - share * self.matrix) / left
        return np.where(share > 1 - 1e-9, self.trees.siblings[places], others)

    def scores(self, queries: Examples) -> np.ndarray:
        leaves = leaves_of(queries)
        outputs = scores_of(self.task, leaves)
        slopes = output_slopes(self.task, self.output, queries.targets, outputs)
        if self.method == "leaf":
            parts = (self._leaf_part(leaves, slopes[k], k) for k in range(len(slopes)))
            return sum(parts, np.zeros(()))
        # weight_ij Σ_k ∂f_i/∂z_k (y_jk - expected_jk)
        return self.label_weights(queries) * (slopes.T @ (self.matrix - self.expected).T)

    def _leaf_part(self, leaves: np.ndarray, slope: np.ndarray, k: int) -> np.ndarray:
        """Effect of the weights through one output."""
        marked = marked_leaves(leaves, self.trees.sizes, slope)
        return row_products(self.leaves, self._moved(k), self.trees.sizes, marked)

    def _moved(self, k: int) -> np.ndarray:
        """Contribution of a row to output k of its leaf's mean, (n_trees, n)."""
        first = offsets(self.trees.sizes)[:, None]
        # share_tj (y_jk - value of the leaf)
        return self.factors * (self.matrix[:, k] - self.trees.values[first + self.leaves, k])

    @property
    def has_weights(self) -> bool:
        """Whether labels have exact weights in the prediction."""
        return self.method != "leaf" and self.trees.refusal is None

    def label_weights(self, queries: Examples) -> np.ndarray:
        """Weight (n_queries, n) of every row's target in the prediction."""
        leaves = leaves_of(queries)
        marked = marked_leaves(leaves, self.trees.sizes, np.ones(leaves.shape[1]))
        return row_products(self.leaves, self.factors, self.trees.sizes, marked)

    def self_scores(self) -> np.ndarray:
        outputs = scores_of(self.task, self.leaves)
        slopes = loss_slopes(self.task, self.targets, outputs)
        if self.method == "leaf":
            moved = (self._moved(k).sum(0) for k in range(len(slopes)))
            return sum(slope * own for slope, own in zip(slopes, moved, strict=True))
        # the same for each row with itself
        return self.factors.sum(0) * (slopes.T * (self.matrix - self.expected)).sum(1)


def leaf_shares(
    trees: AveragedTrees, leaves: np.ndarray, weights: np.ndarray, counts: np.ndarray | None
) -> np.ndarray:
    """Share of each row in its leaf's mean, divided by the number of trees, (n_trees, n)."""
    shares = np.broadcast_to(weights, leaves.shape) * (1.0 if counts is None else counts)
    for leaf, size, share in zip(leaves, trees.sizes, shares, strict=True):
        total = np.bincount(leaf, share, size)[leaf]
        # w_j / Σ_{i in leaf} w_i, over the number of trees
        share /= np.where(total > 0, total, 1.0) * len(leaves)
    return shares


def drawn(trees: AveragedTrees, n: int, name: str) -> np.ndarray | None:
    """How often each tree drew each row, (n_trees, n); None if every tree used all rows once."""
    if trees.row_counts is None:
        return None
    counts = trees.row_counts(n)
    if counts is None:
        raise UnsupportedModelError(
            f"model: {name} drew its bootstraps from more rows than the {n} of X. Give X and y "
            "exactly as the model's fit got them."
        )
    return counts
