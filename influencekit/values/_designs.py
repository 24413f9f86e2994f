"""Which subsets of the training rows to train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_masks", "coin_pairs", "sized_pairs"]

#: Steps of this length around the unit circle come evenly near every point.
GOLDEN = (np.sqrt(5) - 1) / 2


def balanced_masks(
    n_subsets: int, counts: NDArray, size: int, rng: np.random.RandomState
) -> NDArray:
    """Random subsets of one size; no row is in two more of them than another.

    Each subset takes the rows that were in the fewest so far, ties at random.  Halves of an even
    number of rows are therefore pairs of complements.

    Parameters
    ----------
    n_subsets : int
    counts : ndarray of int of shape (n_train,)
        Subsets that each row was in before.
    size : int
    rng : RandomState

    Returns
    -------
    ndarray of bool of shape (n_subsets, n_train)
    """
    counts = counts.copy()
    masks = np.zeros((n_subsets, len(counts)), dtype=bool)
    for mask in masks:
        order = np.lexsort((rng.permutation(len(counts)), counts))
        mask[order[:size]] = True
        counts += mask
    return masks


def coin_pairs(n_pairs: int, n_train: int, rng: np.random.RandomState) -> NDArray:
    """Subsets that each row joins with probability 1/2, each followed by its complement.

    Nothing can be trained on no rows: there the whole set stands alone.

    Parameters
    ----------
    n_pairs, n_train : int
    rng : RandomState

    Returns
    -------
    ndarray of bool of shape (n_subsets, n_train)
    """
    masks = rng.randint(2, size=(n_pairs, n_train)).astype(bool)
    both = np.stack([masks, ~masks], axis=1).reshape(-1, n_train)
    return both[both.any(axis=1)]


def sized_pairs(
    first: int, n_pairs: int, n_train: int, start: float, rng: np.random.RandomState
) -> NDArray:
    """Subsets of all sizes alike, each followed by its complement.

    Parameters
    ----------
    first : int
        Pairs that were drawn before.
    n_pairs, n_train : int
    start : float
        Where the sequence of sizes starts, in [0, 1).
    rng : RandomState

    Returns
    -------
    ndarray of bool of shape (2 * n_pairs, n_train)
    """
    places = (start + GOLDEN * np.arange(first, first + n_pairs)) % 1
    masks = np.zeros((2 * n_pairs, n_train), dtype=bool)
    for i, size in enumerate(1 + (places * (n_train - 1)).astype(int)):
        masks[2 * i, rng.permutation(n_train)[:size]] = True
        masks[2 * i + 1] = ~masks[2 * i]
    return masks
