"""One format for all ensembles of trees: the leaf of each row, and the leaf values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError

__all__ = ["AveragedTrees", "BoostedTrees", "LeafSum", "TreeEnsemble", "offsets", "other_loss"]


def other_loss(model: Any, why: str | None) -> UnsupportedModelError:
    """What is said of trees that were, or would be, fitted with a loss that is not known."""
    return UnsupportedModelError(
        f"model: this {type(model).__name__} is not supported: {why}. Accepted are squared error "
        "for regression, and log loss (logistic, softmax) for classes."
    )


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """Trees whose structure is held fixed.

    Parameters
    ----------
    leaves : callable
        ``leaves(X) -> (n, n_trees) int32``: position of each row's leaf within each tree.
    sizes : ndarray of int of shape (n_trees,)
        Number of leaves of each tree.
    values : ndarray of shape (n_leaves, ...)
        Values of the leaves of all trees, one tree after the other.
    n_outputs : int
    loss : {"squared", "logistic", "softmax", "probability", "other"}
        Training loss.  "probability": outputs are the shares of classes.
    refusal : str or None
        Why leaf values cannot be computed again from rows and weights; None if they can.
    """

    leaves: Callable[[Any], np.ndarray]
    sizes: np.ndarray
    values: np.ndarray
    n_outputs: int
    loss: str
    refusal: str | None = field(default=None, kw_only=True)

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.sizes)


@dataclass(frozen=True, eq=False)
class BoostedTrees(TreeEnsemble):
    """Trees that each correct the sum of the earlier trees.

    The value of a leaf is ``-rate G / (H + l2)``, where G and H are the sums of the first and
    second derivatives of the loss over the leaf's rows, and G is shrunk by ``l1``.

    Parameters
    ----------
    leaves, sizes, values, n_outputs, loss, refusal
        As :class:`TreeEnsemble` has them.
    outputs : ndarray of int of shape (n_trees,)
        The output that each tree adds to.
    stages : ndarray of int of shape (n_trees,)
        Stage of each tree; the trees of one stage are fitted to the same scores.
    rate : float
        Learning rate, including all other constant factors of the step.
    base : ndarray of shape (n_outputs,)
        Score before the first tree.
    base_rule : {"fixed", "mean", "log_odds", "log_share", "centered_log_share"}
        Rule by which the base was estimated.
    l2, l1 : float, default=0.0
    curvature : float, default=1.0
        Factor of the second derivative.
    stage_rows : callable or None, default=None
        ``stage_rows(n) -> (n_stages, n) bool``: rows that a stage was fitted to; None is all.
    sampled : float, default=1.0
        Share of the rows that a stage was fitted to, if the rows are not known.
    base_in_trees : bool, default=False
        Whether the first tree of each output holds the base, as LightGBM's does.
    stumps_move : bool, default=True
        Whether the leaf of a tree without splits depends on its rows, or is constant.
    tolerance : float, default=1e-4
        Relative error of the library's own arithmetic.
    """

    outputs: np.ndarray
    stages: np.ndarray
    rate: float
    base: np.ndarray
    base_rule: str
    l2: float = 0.0
    l1: float = 0.0
    curvature: float = 1.0
    stage_rows: Callable[[int], np.ndarray] | None = None
    sampled: float = 1.0
    base_in_trees: bool = False
    stumps_move: bool = True
    tolerance: float = 1e-4


@dataclass(frozen=True, eq=False)
class AveragedTrees(TreeEnsemble):
    """Trees whose outputs are averaged; a leaf value is the mean target of its rows.

    Parameters
    ----------
    leaves, sizes, values, n_outputs, loss, refusal
        As :class:`TreeEnsemble` has them.
    row_counts : callable or None, default=None
        ``row_counts(n) -> (n_trees, n)``: how often a row was drawn for a tree, or None if the
        trees drew from more rows. Without it, each tree used each row once.
    siblings : ndarray of shape (n_leaves, n_outputs) or None, default=None
        Value of the sibling node of each leaf: used if the leaf becomes empty.
    leaf_rows : ndarray of int of shape (n_leaves,) or None, default=None
        Number of different rows that each leaf was fitted to.
    """

    row_counts: Callable[[int], np.ndarray | None] | None = None
    siblings: np.ndarray | None = None
    leaf_rows: np.ndarray | None = None


def offsets(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Position of each tree's first leaf among the leaves of all trees."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


class LeafSum(nn.Module):
    """Outputs of the trees, from the leaf of each row in each tree.

    Its only parameter holds the leaf values: with fixed structure, the model is linear in them.

    Parameters
    ----------
    trees : TreeEnsemble
    """

    first: Tensor
    outputs: Tensor
    base: Tensor

    def __init__(self, trees: TreeEnsemble):
        super().__init__()
        self.trees = trees
        self.values = nn.Parameter(torch.as_tensor(trees.values, dtype=torch.float64).clone())
        self.register_buffer("first", torch.as_tensor(offsets(trees.sizes)))
        if isinstance(trees, BoostedTrees):
            self.register_buffer("outputs", torch.as_tensor(trees.outputs, dtype=torch.long))
            self.register_buffer("base", torch.as_tensor(trees.base, dtype=torch.float64))

    def forward(self, leaves: Tensor) -> Tensor:
        """Outputs (n, n_outputs) of rows in the given leaves (n, n_trees)."""
        found = self.values[leaves.long() + self.first]
        if not isinstance(self.trees, BoostedTrees):
            return found.mean(1)
        start = self.base.expand(len(leaves), -1)
        return start.index_add(1, self.outputs, found)
