"""How well any score could do, given the noise of retraining."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._checks import check_outputs
from influencekit.metrics._correlation import check_method, row_correlation, standardise_rows

__all__ = ["NoiseCeiling", "ceiling_from_repeats", "noise_ceiling"]


class NoiseCeiling(NamedTuple):
    """Reliability of retrained outputs.

    Attributes
    ----------
    repeat_correlation : float
        Mean correlation between two repeats, over all pairs of repeats and all queries.
    reliability : float
        Correlation expected between the mean of these repeats and the mean of as many
        fresh ones (Spearman-Brown).
    attainable_correlation : float
        √reliability: correlation expected between the mean of these repeats and the
        noise-free expected output.  No score can be expected to exceed it.
    """

    repeat_correlation: float
    reliability: float
    attainable_correlation: float


def noise_ceiling(outputs: ArrayLike, *, method: str = "spearman") -> NoiseCeiling:
    """Attainable correlation with subset outputs that were measured several times.

    With ``r`` repeats (other seeds, same subset) and mean correlation ``c`` between two of
    them, the mean of all repeats has reliability ``r c / (1 + (r - 1) c)`` (Spearman-Brown),
    and correlates with its own noise-free expectation by the square root of that.  The
    correlation is pooled over queries before the formula, which is concave: where some
    queries are far noisier than others the ceiling is somewhat too high, never too low.
    For rank correlations Spearman-Brown is an approximation.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_repeats, n_query)
    method : {"spearman", "pearson"}, default="spearman"

    Returns
    -------
    NoiseCeiling
        A mean correlation of 0 or less gives a reliability of 0: the repeats share nothing.
        NaN if every query is constant.

    Raises
    ------
    ValueError
        If there are fewer than two repeats, or NaN in `outputs`.
    """
    repeats = check_outputs(outputs)
    if repeats.shape[1] < 2:
        raise ValueError(
            "`outputs` has one repeat; a noise ceiling needs at least two, as an array of "
            "shape (n_subsets, n_repeats, n_query). Retrain with n_repeats=2 or more."
        )
    return ceiling_from_repeats(repeats, check_method(method))


def ceiling_from_repeats(repeats: NDArray, method: str) -> NoiseCeiling:
    """`noise_ceiling` of checked outputs (n_subsets, n_repeats >= 2, n_query)."""
    n_repeats = repeats.shape[1]
    rows = standardise_rows(repeats.transpose(1, 2, 0), method)
    pairs = [row_correlation(rows[i], rows[j]) for i, j in combinations(range(n_repeats), 2)]
    correlations = np.stack(pairs)
    defined = correlations[~np.isnan(correlations)]
    if not defined.size:
        return NoiseCeiling(float("nan"), float("nan"), float("nan"))
    correlation = float(defined.mean())
    shared = max(correlation, 0.0)
    reliability = n_repeats * shared / (1 + (n_repeats - 1) * shared)
    return NoiseCeiling(correlation, reliability, float(np.sqrt(reliability)))
