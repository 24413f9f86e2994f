"""Correlation of scores with the measured effect of removing single examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from influencekit.metrics._checks import check_finite, check_same_shape
from influencekit.metrics._correlation import (
    LDSResult,
    check_method,
    row_correlation,
    standardise_rows,
    summarise,
    warn_undefined,
)

__all__ = ["leave_one_out_correlation"]


def leave_one_out_correlation(
    loo_changes: ArrayLike,
    scores: ArrayLike,
    *,
    removed: ArrayLike | None = None,
    method: str = "pearson",
) -> LDSResult:
    """Correlation, over removed examples, of scores with leave-one-out retraining.

    Parameters
    ----------
    loo_changes : array-like of shape (n_query, n_removed)
        Output with all examples − output without the removed one, so that a proponent has
        a positive change, as it has a positive score.
    scores : array-like of shape (n_query, n_removed), or (n_query, n_train) with `removed`
    removed : array-like of int of shape (n_removed,), default=None
        Training positions of the removed examples, which picks those columns of `scores`.
    method : {"spearman", "pearson"}, default="pearson"

    Returns
    -------
    LDSResult
        One correlation a query; `noise_ceiling` is None.

    Raises
    ------
    ValueError
        If shapes disagree, fewer than 3 examples were removed, or values are NaN.

    Warns
    -----
    UndefinedCorrelationWarning
        If changes or scores of some query are constant.
    """
    check_method(method)
    changes = check_finite(loo_changes, "loo_changes", 2, "(n_query, n_removed)")
    if changes.shape[1] < 3:
        raise ValueError(
            f"`loo_changes` has {changes.shape[1]} removed examples; a correlation needs 3."
        )
    table = check_finite(scores, "scores", 2, "(n_query, n_removed)")
    if removed is not None:
        table = table[:, _check_positions(removed, table.shape[1])]
    check_same_shape(table, "scores", changes.shape, "(n_query, n_removed)")
    truth = standardise_rows(changes, method)
    per_query = row_correlation(truth, standardise_rows(table, method))
    warn_undefined(per_query, truth)
    return summarise(per_query, method)


def _check_positions(removed: ArrayLike, n_train: int) -> np.ndarray:
    positions = np.asarray(removed)
    integral = positions.ndim == 1 and np.issubdtype(positions.dtype, np.integer)
    if not integral or (positions < 0).any() or (positions >= n_train).any():
        raise ValueError(
            "`removed` must be a 1-d array of integer positions from 0 to n_train - 1 = "
            f"{n_train - 1}, the columns of `scores`; got {removed!r}."
        )
    return positions
