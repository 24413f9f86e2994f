"""The k smallest numbers of every row, without sorting the rows."""

from __future__ import annotations

import numpy as np

__all__ = ["smallest_k"]


def smallest_k(rows: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k smallest numbers of each row, ascending; equal ones in row order.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n)
    k : int

    Returns
    -------
    ndarray of shape (n_rows, k)

    Examples
    --------
    >>> smallest_k(np.array([[3.0, 1.0, 2.0, 1.0]]), 3)
    array([[1, 3, 2]])
    """
    found = np.empty((len(rows), k), dtype=np.intp)
    for row, positions in zip(rows, found, strict=True):
        candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
        positions[:] = candidates[np.argsort(row[candidates], kind="stable")[:k]]
    return found
