"""Rows that join a subset one at a time, in random orders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.values._empty_model import EmptyModel
from influencekit.values._trainings import Trainings

__all__ = ["follow_orders", "split_full"]

#: Share of the weight that the places left at the end of an order may have.
REST = 0.01
#: Parts of an order, after each of which it is looked whether it has come near its end.
PARTS = 20


def split_full(masks: NDArray, outputs: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Subsets after that of all rows, which stands first, and the mean output with all rows.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)
    outputs : ndarray of shape (n_subsets, n_query)

    Returns
    -------
    masks, outputs, full : ndarray

    Raises
    ------
    ValueError
        If no subset holds all rows.
    """
    whole = masks.sum(axis=1) == masks.shape[1]
    if not whole[0]:
        raise ValueError(
            "subset_outputs: the first subset does not hold all rows, as those of these values do. "
            "Accepted is subset_outputs_ of an earlier fit; leave it out to train on subsets of "
            "the right sizes. Random halves are for Datamodel and Banzhaf."
        )
    return masks[1:], outputs[1:], outputs[whole].mean(axis=0)


def follow_orders(
    trainings: Trainings,
    weights: NDArray,
    n_trainings: int,
    truncation: float,
    enough: Callable[[SubsetOutputs, EmptyModel], bool],
) -> SubsetOutputs:
    """Train along random orders and their reverses until the trainings are spent.

    Parameters
    ----------
    trainings : Trainings
    weights : ndarray of shape (n_train,)
        By place in the order.
    n_trainings : int
    truncation : float
    enough : callable
        Whether what there is so far is exact enough.

    Returns
    -------
    SubsetOutputs
        All rows first, then one order after the other.
    """
    n = len(weights)
    full = trainings(np.ones((1, n), dtype=bool))[0]
    near = truncation * np.abs(full - trainings.empty.outputs).mean()
    depth = n - int((np.cumsum(weights[::-1]) < REST * weights.sum()).sum())
    chains: list[NDArray] = []
    while True:
        before = trainings.n_trained
        order = trainings.rng.permutation(n)
        chains += _follow(trainings, [order, order[::-1]], depth, full, near)
        found = trainings.together(np.concatenate([[0], *chains]))
        spent = trainings.n_trained - before
        if enough(found, trainings.empty):
            return found
        if trainings.n_trained + spent > n_trainings or not spent:
            return found


def _follow(
    trainings: Trainings, orders: list[NDArray], depth: int, full: NDArray, near: float
) -> list[NDArray]:
    """Positions of the subsets of each order, trained a part of the order at a time."""
    n_query, step = len(full), max(1, -(-depth // PARTS))
    chains: list[list[int]] = [[] for _ in orders]
    going = list(range(len(orders)))
    for start in range(0, depth, step):
        ends = np.arange(start, min(start + step, depth)) + 1
        masks = np.concatenate([_prefixes(orders[o], ends) for o in going])
        first = len(trainings.masks)
        outputs = trainings(masks).reshape(len(going), len(ends), n_query)
        for k, o in enumerate(list(going)):
            chains[o] += range(first + k * len(ends), first + (k + 1) * len(ends))
            if np.abs(full - outputs[k, -1]).mean() <= near:
                going.remove(o)
        if not going:
            break
    return [np.array(chain, dtype=int) for chain in chains]


def _prefixes(order: NDArray, ends: NDArray) -> NDArray:
    """Masks of the first rows of an order, up to each end."""
    places = np.empty(len(order), dtype=int)
    places[order] = np.arange(len(order))
    return places[None] < ends[:, None]
