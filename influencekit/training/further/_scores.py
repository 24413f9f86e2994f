"""What further training measured: scores at every horizon, with what tells their reliability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from influencekit.metrics import AgreementResult, attribution_agreement

__all__ = ["FurtherTrainingScores"]


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
    owner : ndarray of shape (n_train,), int64
        Column that leaves a training row out; -1 where none does.
    horizons : ndarray of shape (n_horizons,), int64
        Amounts of further training, in ``unit``.
    steps : ndarray of shape (n_horizons,), int64
        The same in steps of the full-data run.
    unit : {"epochs", "steps"}
    seeds : ndarray of shape (n_seeds,), int64
    adjust : {"full", "center"} or None
    """

    scores: NDArray
    halves: NDArray | None
    offset: NDArray
    resolution: NDArray
    left_out: NDArray
    owner: NDArray
    horizons: NDArray
    steps: NDArray
    unit: str
    seeds: NDArray
    adjust: str | None

    def __repr__(self) -> str:
        n_horizons, n_test, n_left_out = self.scores.shape
        return (
            f"FurtherTrainingScores(n_horizons={n_horizons}, n_test={n_test}, "
            f"n_left_out={n_left_out}, n_seeds={len(self.seeds)}, adjust={self.adjust!r})"
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
        n_train, n_left_out = len(self.owner), len(self.left_out)
        if table.ndim >= 2 and table.shape[-1] == n_train:
            rows = np.flatnonzero(self.owner >= 0)
            entries = np.ones(len(rows)), (rows, self.owner[rows])
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
