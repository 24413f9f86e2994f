"""Sums over trees of a row's contribution to its leaf times the leaf's effect on each query."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from influencekit.models.trees._ensemble import offsets
from influencekit.utils._long_work import chunks

__all__ = ["marked_leaves", "own_products", "row_products"]

#: Number of sparse-matrix entries held in memory at once.
_CHUNK = 2**22


def row_products(
    leaves: np.ndarray, factors: np.ndarray, sizes: np.ndarray, slopes: Any
) -> np.ndarray:
    """Products of all rows and queries, ``Σ_t factors[t, j] slopes[leaf of j in t, i]``.

    Parameters
    ----------
    leaves : ndarray of int of shape (n_trees, n)
    factors : ndarray of shape (n_trees, n)
    sizes : ndarray of int of shape (n_trees,)
    slopes : ndarray or sparse array of shape (n_leaves, q)

    Returns
    -------
    ndarray of shape (q, n)
    """
    (n_trees, n), first = leaves.shape, offsets(sizes)[:, None]
    found = np.empty((slopes.shape[1], n))
    for rows in chunks(n, n_trees, _CHUNK):
        count = rows.stop - rows.start
        places = (leaves[:, rows] + first).T.ravel()
        parts = (factors[:, rows].T.ravel(), places, np.arange(count + 1) * n_trees)
        # S slopes, with S[j, leaf of j in t] = factors[t, j]
        products = sparse.csr_array(parts, shape=(count, int(sizes.sum()))) @ slopes
        found[:, rows] = (products.toarray() if sparse.issparse(products) else products).T
    return found


def own_products(
    leaves: np.ndarray, factors: np.ndarray, sizes: np.ndarray, slopes: np.ndarray
) -> np.ndarray:
    """The same for row j with query j only, (n,)."""
    places = leaves + offsets(sizes)[:, None]
    # Σ_t factors[t, j] slopes[leaf of j in t, j]
    return (factors * slopes[places, np.arange(leaves.shape[1])]).sum(0)


def marked_leaves(leaves: np.ndarray, sizes: np.ndarray, marks: np.ndarray) -> sparse.csr_array:
    """Sparse (n_leaves, q): each query's mark in each of its leaves.

    Parameters
    ----------
    leaves : ndarray of int of shape (n_trees, q)
    sizes : ndarray of int of shape (n_trees,)
    marks : ndarray of shape (q,)
    """
    n_trees, q = leaves.shape
    places = (leaves + offsets(sizes)[:, None]).T.ravel()
    parts = (np.repeat(marks, n_trees), places, np.arange(q + 1) * n_trees)
    return sparse.csc_array(parts, shape=(int(sizes.sum()), q)).tocsr()
