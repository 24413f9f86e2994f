"""Derivatives of explained outputs with respect to leaf values, from the last tree to the first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from influencekit.attributors.trees._replay import Replay, Stage
from influencekit.models.trees._ensemble import offsets

__all__ = ["LeafSlopes", "leaf_slopes", "row_factors"]

#: Number of adjoint entries processed at once, so that they stay in the CPU cache.
_BLOCK = 2**17


class LeafSlopes:
    """Derivatives of q explained outputs.

    Attributes
    ----------
    leaves : ndarray of shape (n_leaves, q)
        Derivatives by the numerator of each leaf's step, times -1: a row's gradient is multiplied
        by them.
    base : ndarray of shape (k, q)
        Derivatives by the score before the first tree.
    """

    def __init__(self, leaves: np.ndarray, base: np.ndarray):
        self.leaves, self.base = leaves, base


def leaf_slopes(
    replay: Replay, query_leaves: np.ndarray, seeds: np.ndarray, *, later: bool = True
) -> LeafSlopes:
    """Sweep over the trees from the last to the first.

    Parameters
    ----------
    replay : Replay
    query_leaves : ndarray of int of shape (n_trees, q)
    seeds : ndarray of shape (n_stages or 1, k, q)
        Derivative of each explained output by the scores of its own row; one for all stages, or one
        for each stage.
    later : bool, default=True
        Whether a leaf also affects later trees, through the scores of the training rows.

    Returns
    -------
    LeafSlopes
    """
    n, k = replay.targets.shape
    q, first = query_leaves.shape[1], offsets(replay.trees.sizes)
    found = np.zeros((int(replay.trees.sizes.sum()), q))
    adjoint = [np.zeros((n, q)) for _ in range(k)] if later else None  # by the rows' scores
    columns, number = np.arange(q), int(replay.trees.stages[-1])
    for stage in replay.backwards():
        seed = seeds[min(number, len(seeds) - 1)]
        steps = []
        for tree in stage.trees:
            output, size = replay.trees.outputs[tree], replay.trees.sizes[tree]
            slope = np.zeros((size, q))
            if adjoint is not None:
                slope += _leaf_sums(replay.leaves[tree], size, adjoint[output])
            slope[query_leaves[tree], columns] += seed[output]
            # times -rate / (H + l2): by the numerator G of the step
            slope *= -replay.shares[tree][:, None]
            found[first[tree] : first[tree] + size] = slope
            steps.append(slope)
        if adjoint is not None:
            _move_adjoint(adjoint, replay, stage, steps)
        number -= 1
    base = seeds[0].copy()
    if adjoint is not None:
        base += np.stack([rows.sum(0) for rows in adjoint])
    return LeafSlopes(found, base)


def _leaf_sums(leaf: np.ndarray, size: int, rows: np.ndarray) -> np.ndarray:
    """Sums of rows over each leaf, (size, q)."""
    n = len(leaf)
    picked = sparse.csc_array((np.ones(n), leaf, np.arange(n + 1)), shape=(size, n))
    # P X, where row l of P picks the rows in leaf l
    return picked @ rows


def _move_adjoint(
    adjoint: list[np.ndarray], replay: Replay, stage: Stage, steps: list[np.ndarray]
) -> None:
    """Move the adjoint from the scores after a stage to the scores before it."""
    size = max(1, _BLOCK // max(1, steps[0].shape[1]))
    factors = [
        [_factor(replay, stage, a, b) for b in range(len(adjoint))] for a in range(len(steps))
    ]
    for start in range(0, len(stage.weights), size):
        rows = slice(start, start + size)
        for a, (tree, step) in enumerate(zip(stage.trees, steps, strict=True)):
            reached = np.take(step, replay.leaves[tree][rows], axis=0)
            for b, of_rows in enumerate(adjoint):
                factor = factors[a][b][rows, None]
                # ∂f/∂z_b gains factor_ab ∂f/∂G_a, with the numerator G_a of the row's leaf
                of_rows[rows] += factor * reached


def _factor(replay: Replay, stage: Stage, a: int, b: int) -> np.ndarray:
    """Derivative of the leaf numerator of output a with respect to score b of each row, (n,)."""
    tree = stage.trees[a]
    step = replay.steps[tree][replay.leaves[tree]]
    # w_j (∂g_a/∂z_b + step ∂h_a/∂z_b)
    moved = stage.at.first_slope[:, a, b] + step * stage.at.second_slope[:, a, b]
    return stage.weights * moved


def row_factors(replay: Replay) -> Iterator[tuple[int, np.ndarray]]:
    """For each tree, the change of the leaf numerator for one unit of each row's weight.

    Parameters
    ----------
    replay : Replay

    Yields
    ------
    tree : int
    factor : ndarray of shape (n,)
        Change for each row; 0 for rows that the tree did not see.
    """
    for stage in replay.backwards():
        for a, tree in enumerate(stage.trees):
            step = replay.steps[tree][replay.leaves[tree]]
            seen = stage.weights > 0
            # g_j + step h_j of the rows that the tree saw
            yield tree, seen * (stage.at.first[:, a] + step * stage.at.second[:, a])
