"""scikit-learn's decision trees and forests."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.trees._ensemble import AveragedTrees
from influencekit.models.trees._sampling import Bootstraps

__all__ = ["NodeLeaves", "positions_of_leaves", "read_forest"]

#: Criteria for which leaf values are the means of the targets.
_MEANS = ("squared_error", "friedman_mse", "poisson", "gini", "entropy", "log_loss")


class NodeLeaves:
    """Leaf positions from the node numbers of a model's ``apply``.

    Parameters
    ----------
    model : fitted model with ``apply``
    positions : list of ndarray
        For each tree, the position of every node among the leaves; -1 for inner nodes.
    """

    def __init__(self, model: Any, positions: list[np.ndarray]):
        self.model, self.positions = model, positions

    def __call__(self, X: Any) -> np.ndarray:
        """Leaf positions (n, n_trees)."""
        nodes = np.asarray(self.model.apply(X))
        nodes = nodes.reshape(len(nodes), -1)
        found = np.empty(nodes.shape, dtype=np.int32)
        for column, positions in enumerate(self.positions):
            found[:, column] = positions[nodes[:, column].astype(np.int64)]
        return found


def positions_of_leaves(children: np.ndarray) -> np.ndarray:
    """Position of every node among the leaves, from the left children; -1 for inner nodes."""
    leaf = np.asarray(children) == -1
    return np.where(leaf, np.cumsum(leaf) - 1, -1)


def read_forest(model: Any) -> AveragedTrees:
    """Trees of a DecisionTree, ExtraTree, RandomForest or ExtraTrees model.

    Parameters
    ----------
    model : fitted estimator

    Returns
    -------
    AveragedTrees
    """
    check_is_fitted(model)
    model = copy.copy(model)
    if hasattr(model, "estimators_"):
        model.estimators_ = list(model.estimators_)
    trees = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
    classes = hasattr(model, "classes_")
    if classes and getattr(model, "n_outputs_", 1) > 1:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} was fitted with {model.n_outputs_} columns of labels; "
            "accepted is one. Fit one model for each column."
        )
    leaf = [tree.children_left == -1 for tree in trees]
    said = [tree.value[:, 0, :] if classes else tree.value[:, :, 0] for tree in trees]
    flat = [values[ends] for values, ends in zip(said, leaf, strict=True)]
    pairs = zip(said, trees, leaf, strict=True)
    return AveragedTrees(
        leaves=NodeLeaves(model, [positions_of_leaves(tree.children_left) for tree in trees]),
        sizes=np.array([len(v) for v in flat]),
        values=np.concatenate(flat).astype(np.float64),
        n_outputs=flat[0].shape[1],
        loss="probability" if classes else "squared",
        row_counts=Bootstraps(model) if getattr(model, "bootstrap", False) else None,
        siblings=np.concatenate([values[_sibling(tree)[ends]] for values, tree, ends in pairs]),
        leaf_rows=np.concatenate([t.n_node_samples[e] for t, e in zip(trees, leaf, strict=True)]),
        refusal=_refusal(model),
    )


def _sibling(tree: Any) -> np.ndarray:
    """The sibling of each node; the root is its own sibling."""
    left, right = tree.children_left, tree.children_right
    found, inner = np.zeros(tree.node_count, dtype=np.int64), left != -1
    found[left[inner]], found[right[inner]] = right[inner], left[inner]
    return found


def _refusal(model: Any) -> str | None:
    """Why leaf values are not weighted means of the targets."""
    if model.criterion not in _MEANS:
        return f"criterion={model.criterion!r} uses medians as leaf values, not means"
    if getattr(model, "class_weight", None) == "balanced_subsample" and model.bootstrap:
        return "class_weight='balanced_subsample' weights classes differently in each tree"
    return None
