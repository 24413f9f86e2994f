"""Means over seeds as they come: two halves, never all seeds at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SeedMeans"]


class SeedMeans:
    """Running means of the differences between the full-data run and the others.

    Even and odd seeds are kept apart, so that the reliability of their mean can be told.

    Parameters
    ----------
    n_horizons, n_queries, n_columns : int
    """

    def __init__(self, n_horizons: int, n_queries: int, n_columns: int):
        self.counts = np.zeros(2, dtype=np.int64)
        self.differences = np.zeros((2, n_horizons, n_queries, n_columns))
        self.drift = np.zeros((2, n_horizons, n_queries))
        self.size = np.zeros((n_horizons, n_queries))

    def add(self, outputs: NDArray, start: NDArray) -> None:
        """Take in one seed.

        Parameters
        ----------
        outputs : ndarray of shape (n_runs, n_horizons, n_queries)
            The full-data run first.
        start : ndarray of shape (n_queries,)
            Outputs of the fitted model.
        """
        half = int(self.counts.sum() % 2)
        self.counts[half] += 1
        change = differences(outputs)
        self.differences[half] += (change - self.differences[half]) / self.counts[half]
        self.drift[half] += (start - outputs[0] - self.drift[half]) / self.counts[half]
        np.maximum(self.size, np.abs(outputs[0]), out=self.size)

    def halves(self, adjust: str | None) -> NDArray | None:
        """Adjusted means of even and odd seeds (2, H, T, L); None with one seed."""
        if self.counts[1] == 0:
            return None
        return adjusted(self.differences, self.drift, adjust)

    def mean(self, adjust: str | None) -> NDArray:
        """Adjusted means over all seeds (H, T, L)."""
        return adjusted(self._whole(self.differences), self._whole(self.drift), adjust)

    def offset(self) -> NDArray:
        """Mean over left-out rows of the differences to the full-data run (H, T)."""
        return self._whole(self.differences).mean(axis=-1)

    def _whole(self, halves: NDArray) -> NDArray:
        shares = self.counts / self.counts.sum()
        return shares[0] * halves[0] + shares[1] * halves[1]


def differences(outputs: NDArray) -> NDArray:
    """Full-data run minus each other run, (H, T, L) from (1 + L, H, T)."""
    return np.moveaxis(outputs[:1] - outputs[1:], 0, -1)


def adjusted(change: NDArray, drift: NDArray, adjust: str | None) -> NDArray:
    """Differences (..., T, L) to the full-data run in another form.

    Parameters
    ----------
    change : ndarray of shape (..., n_queries, n_columns)
    drift : ndarray of shape (..., n_queries)
        Fitted model minus full-data run.
    adjust : {"full", "center"} or None
    """
    if adjust == "center":
        return change - change.mean(axis=-1, keepdims=True)
    return change + drift[..., None] if adjust is None else change
