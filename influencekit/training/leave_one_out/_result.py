"""The result of trajectory-specific leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._correlation import LDSResult
from influencekit.metrics._lds import leave_one_out_correlation
from influencekit.metrics._text import not_finite_text

__all__ = ["TrajectoryLeaveOneOut"]


@dataclass(frozen=True, eq=False)
class TrajectoryLeaveOneOut:
    """Outputs of reruns that leave out one example each.

    Made by :func:`trajectory_leave_one_out`.

    Attributes
    ----------
    outputs : ndarray of shape (n_left_out, n_test)
        Explained output of the run without each example; NaN for a diverged run with on_nan="keep".
    reference : ndarray of shape (n_test,)
        Output of the run with all examples.
    left_out : ndarray of shape (n_left_out,), int64
        Rows of X_train.
    n_train : int
        Rows of X_train.
    noise : ndarray of shape (n_test,)
        Change of the reference if every parameter is rounded differently after each step: the
        largest change over a few such runs, at least the machine epsilon times the output's size.
    """

    outputs: NDArray
    reference: NDArray
    left_out: NDArray
    n_train: int
    noise: NDArray

    def __repr__(self) -> str:
        n_left_out, n_test = self.outputs.shape
        return (
            f"TrajectoryLeaveOneOut(n_left_out={n_left_out}, n_test={n_test}, "
            f"unresolved={self.unresolved:.2g}{not_finite_text(self.reference, self.outputs)})"
        )

    @property
    def changes(self) -> NDArray:
        """Output without the example minus the reference, (n_left_out, n_test)."""
        return self.outputs - self.reference

    @property
    def scores(self) -> NDArray:
        """Reference minus output without the example, (n_test, n_left_out).

        The sign of an attributor's scores: positive marks a proponent.
        """
        return -self.changes.T

    @property
    def unresolved(self) -> float:
        """Share of changes that are not larger than ``noise``; NaN is not."""
        return float((~(np.abs(self.changes) > self.noise)).mean())

    def pick(self, scores: ArrayLike) -> NDArray:
        """Columns of an attributor's scores that belong to the examples left out here.

        Parameters
        ----------
        scores : array-like of shape (n_test, n_train) or (n_test, n_left_out)

        Returns
        -------
        ndarray of shape (n_test, n_left_out)

        Raises
        ------
        ValueError
            If the shape is neither of these.
        """
        table = np.asarray(scores, dtype=np.float64)
        if table.shape == (len(self.reference), self.n_train):
            return table[:, self.left_out]
        if table.shape == (len(self.reference), len(self.left_out)):
            return table
        raise ValueError(
            f"scores: got shape {table.shape}; accepted are ({len(self.reference)}, "
            f"{self.n_train}), a column for each training row, or ({len(self.reference)}, "
            f"{len(self.left_out)}), one for each row that was left out."
        )

    def spearman(self, scores: ArrayLike) -> LDSResult:
        """Rank correlation of another method's scores with these, over the examples left out.

        Parameters
        ----------
        scores : array-like of shape (n_test, n_train) or (n_test, n_left_out)

        Returns
        -------
        LDSResult
            One correlation a test example, their mean and its standard error over the test
            examples.  They share one run and its left-out examples, so the error does not cover
            other runs: repeat with several seeds.
        """
        return leave_one_out_correlation(self.scores, self.pick(scores), correlation="spearman")
