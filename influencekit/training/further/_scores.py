"""What further training measured: scores at every horizon, with what tells their reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from influencekit.metrics._agreement import AgreementResult, attribution_agreement

__all__ = ["FurtherTrainingScores", "SeedMeans"]


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


@dataclass(frozen=True, eq=False)
class FurtherTrainingScores:
    """Measured effect of leaving rows out of further training.

    Made by :meth:`FurtherTraining.measure`.

    Attributes
    ----------
    scores : ndarray of shape (n_horizons, n_test, n_left_out)
        Mean over seeds; positive marks a proponent.
    halves : ndarray of shape (2, n_horizons, n_test, n_left_out) or None
        Means over the even and over the odd seeds; None with one seed.
    offset : ndarray of shape (n_horizons, n_test)
        Mean over the left-out rows of the change against the full-data run, whatever the
        adjustment of ``scores``.
    resolution : ndarray of shape (n_horizons, n_test)
        Rounding of the evaluated output: machine epsilon of its dtype times its size, or
        times 1 where it is smaller.
    left_out : ndarray of shape (n_left_out,)
        Rows of the training data, or labels of groups.
    removal_of_row : ndarray of shape (n_train,), int64
        Column that leaves a training row out; -1 where none does.
    horizons : ndarray of shape (n_horizons,), int64
        Amounts of further training, in ``unit``.
    steps : ndarray of shape (n_horizons,), int64
        The same in steps of the full-data run.
    unit : {"epochs", "steps"}
    seeds : ndarray of shape (n_repeats,), int64
    adjust : {"full", "center"} or None
    """

    scores: NDArray
    halves: NDArray | None
    offset: NDArray
    resolution: NDArray
    left_out: NDArray
    removal_of_row: NDArray
    horizons: NDArray
    steps: NDArray
    unit: str
    seeds: NDArray
    adjust: str | None

    def __repr__(self) -> str:
        n_horizons, n_test, n_left_out = self.scores.shape
        return (
            f"FurtherTrainingScores(n_horizons={n_horizons}, n_test={n_test}, "
            f"n_left_out={n_left_out}, n_repeats={len(self.seeds)}, adjust={self.adjust!r})"
        )

    def pick(self, scores: ArrayLike) -> NDArray:
        """Another method's scores for what was left out here: a row's, or a group's sum.

        Parameters
        ----------
        scores : array-like of shape (..., n_test, n_train)

        Returns
        -------
        ndarray of shape (..., n_test, n_left_out)

        Raises
        ------
        ValueError
            If it has neither n_train columns nor n_left_out.
        """
        table = np.asarray(scores, dtype=np.float64)
        n_train, n_left_out = len(self.removal_of_row), len(self.left_out)
        if table.ndim >= 2 and table.shape[-1] == n_train:
            rows = np.flatnonzero(self.removal_of_row >= 0)
            entries = np.ones(len(rows)), (rows, self.removal_of_row[rows])
            members = sparse.csr_array(entries, shape=(n_train, n_left_out))
            return (table.reshape(-1, n_train) @ members).reshape(*table.shape[:-1], n_left_out)
        if table.ndim >= 2 and table.shape[-1] == n_left_out:
            return table
        raise ValueError(
            f"scores: got shape {table.shape}; accepted is one column for each of the {n_train} "
            f"training rows, or for each of the {n_left_out} that were left out."
        )

    def agreement(self, scores: ArrayLike) -> AgreementResult:
        """How well another method's scores agree with these, at every horizon.

        Parameters
        ----------
        scores : array-like of shape (n_test, n_train) or (n_horizons, n_test, n_train)
            Or with one column for each left-out row or group.

        Returns
        -------
        AgreementResult
            See :func:`influencekit.metrics.attribution_agreement`.
        """
        return attribution_agreement(
            self.scores,
            self.pick(scores),
            halves=self.halves,
            resolution=self.resolution,
            offset=self.offset,
            horizons=self.horizons,
        )
