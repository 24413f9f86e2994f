"""Scores against retraining: linear datamodeling score (LDS), noise ceiling, leave-one-out."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._checks import check_finite, check_masks, check_outputs, check_same_shape
from influencekit.metrics._correlation import (
    LDSResult,
    check_correlation,
    correlate,
    reported,
    row_correlation,
    standardize_rows,
)

__all__ = [
    "NoiseCeiling",
    "PreparedOutputs",
    "lds_from_subset_sums",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "noise_ceiling",
]


class NoiseCeiling(NamedTuple):
    """Reliability of retrained outputs.

    Attributes
    ----------
    repeat_correlation : float
        Mean correlation between two repeats, over all pairs of repeats and all queries.
    reliability : float
        Expected correlation between the mean of these repeats and the mean of as many new ones
        (Spearman-Brown).
    attainable_correlation : float
        √reliability: expected correlation between the mean of these repeats and the noise-free
        expected output.  No score can be expected to exceed it.
    """

    repeat_correlation: float
    reliability: float
    attainable_correlation: float


def noise_ceiling(outputs: ArrayLike, *, correlation: str = "spearman") -> NoiseCeiling:
    """Attainable correlation with subset outputs that were measured several times.

    With ``r`` repeats (other seeds, same subset) and mean correlation ``c`` between two of
    them, the mean of all repeats has reliability ``r c / (1 + (r - 1) c)`` (Spearman-Brown). Its
    correlation with its own noise-free expectation is the square root of that. The correlation is
    pooled over queries before the formula, which is concave: if some queries are far noisier than
    others, the ceiling is somewhat too high, never too low. For rank correlations Spearman-Brown is
    an approximation.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_repeats, n_query)
    correlation : {"spearman", "pearson"}, default="spearman"

    Returns
    -------
    NoiseCeiling
        The ceiling. If the mean correlation is 0 or less, the reliability is 0.
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
    return ceiling_from_repeats(repeats, check_correlation(correlation))


def ceiling_from_repeats(repeats: NDArray, correlation: str) -> NoiseCeiling:
    """`noise_ceiling` of checked outputs (n_subsets, n_repeats >= 2, n_query)."""
    n_repeats = repeats.shape[1]
    rows = standardize_rows(repeats.transpose(1, 2, 0), correlation)
    pairs = combinations(range(n_repeats), 2)
    correlations = np.stack([row_correlation(rows[i], rows[j]) for i, j in pairs])
    defined = correlations[~np.isnan(correlations)]
    if not defined.size:
        return NoiseCeiling(float("nan"), float("nan"), float("nan"))
    mean = float(defined.mean())
    shared = max(mean, 0.0)
    reliability = n_repeats * shared / (1 + (n_repeats - 1) * shared)
    return NoiseCeiling(mean, reliability, float(np.sqrt(reliability)))


class PreparedOutputs:
    """Outputs of retrained models, ranked once for a quick comparison with many predictions.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query) or (n_subsets, n_repeats, n_query)
        Output of each retrained model on each query, higher is better.  Repeats are
        averaged before ranking.
    correlation : {"spearman", "pearson"}, default="spearman"

    Attributes
    ----------
    shape : tuple of int
        (n_query, n_subsets), the shape of a prediction.
    correlation : str
    noise_ceiling : float or None
        Attainable correlation, None without repeats; see
        :func:`influencekit.metrics.noise_ceiling`.

    Raises
    ------
    ValueError
        If `outputs` has another shape, fewer than 3 subsets, or NaN.
    """

    def __init__(self, outputs: ArrayLike, correlation: str = "spearman"):
        repeats = check_outputs(outputs)
        self.correlation = check_correlation(correlation)
        self._rows = standardize_rows(repeats.mean(axis=1).T, correlation)
        self.shape = self._rows.shape
        self.noise_ceiling: float | None = None
        if repeats.shape[1] > 1:
            self.noise_ceiling = ceiling_from_repeats(repeats, correlation).attainable_correlation

    def correlations(self, predicted: ArrayLike) -> NDArray:
        """Correlation of each query, without warnings.

        Parameters
        ----------
        predicted : array-like of shape (n_query, n_subsets) or (n_dampings, n_query, n_subsets)

        Returns
        -------
        ndarray of shape (n_query,) or (n_dampings, n_query)
            Correlations; NaN if the outputs or the prediction are constant.
        """
        axes = "(n_query, n_subsets) or (n_dampings, n_query, n_subsets)"
        array = check_finite(predicted, "predicted", (2, 3), axes)
        expected = (*array.shape[:-2], *self.shape)
        check_same_shape(array, "predicted", expected, "(..., n_query, n_subsets)")
        return row_correlation(standardize_rows(array, self.correlation), self._rows)

    def score(self, predicted: ArrayLike) -> LDSResult:
        """LDS of one prediction (n_query, n_subsets), see `lds_from_subset_sums`."""
        return lds_from_subset_sums(self, predicted)


def lds_from_subset_sums(
    outputs: ArrayLike | PreparedOutputs, predicted: ArrayLike, correlation: str | None = None
) -> LDSResult:
    """LDS of predictions that were already summed over each subset.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query) or (n_subsets, n_repeats, n_query), \
            or PreparedOutputs
        Use `PreparedOutputs` to compare many predictions with the same outputs.
    predicted : array-like of shape (n_query, n_subsets)
        ``scores @ masks.T``: sum of the scores of the examples in each subset.
    correlation : {"spearman", "pearson"}, default=None
        None is "spearman", or the correlation of the PreparedOutputs.

    Returns
    -------
    LDSResult

    Raises
    ------
    ValueError
        If shapes disagree or values are NaN.

    Warns
    -----
    UndefinedCorrelationWarning
        If outputs or predictions of some query are constant.
    """
    if not isinstance(outputs, PreparedOutputs):
        outputs = PreparedOutputs(outputs, correlation or "spearman")
    elif correlation not in (None, outputs.correlation):
        raise ValueError(
            f"`correlation` is {correlation!r}, but the outputs were prepared for "
            f"{outputs.correlation!r}. Leave `correlation` out, or prepare them again."
        )
    sums = check_finite(predicted, "predicted", 2, "(n_query, n_subsets)")
    per_query = outputs.correlations(sums)
    return reported(per_query, outputs._rows, outputs.correlation, outputs.noise_ceiling)


def linear_datamodeling_score(
    outputs: ArrayLike, masks: ArrayLike, scores: ArrayLike, *, correlation: str = "spearman"
) -> LDSResult:
    """Linear datamodeling score of an attribution.

    For each query, the correlation over subsets between the output of the model retrained
    on the subset and the sum of the scores of its examples; then the mean over queries.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query) or (n_subsets, n_repeats, n_query)
        Output of each retrained model on each query, higher is better.  Repeats (other
        seeds, same subset) are averaged, and give a noise ceiling.
    masks : array-like of shape (n_subsets, n_train)
        Booleans, or zeros and ones: is the example in the subset?
    scores : array-like of shape (n_query, n_train)
        Positive = proponent.
    correlation : {"spearman", "pearson"}, default="spearman"

    Returns
    -------
    LDSResult
        Mean, standard error over queries, value of each query, noise ceiling.

    Raises
    ------
    ValueError
        If shapes disagree, or if an array holds NaN or infinity.

    Warns
    -----
    UndefinedCorrelationWarning
        If outputs or summed scores of some query are constant.

    References
    ----------
    Park et al., "TRAK: Attributing Model Behavior at Scale", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from influencekit.metrics import linear_datamodeling_score
    >>> masks = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]])
    >>> scores = np.array([[0.3, -0.1, 0.2, 0.0]])
    >>> outputs = masks @ scores.T
    >>> round(linear_datamodeling_score(outputs, masks, scores).mean, 3)
    1.0
    """
    prepared = PreparedOutputs(outputs, correlation)
    n_query, n_subsets = prepared.shape
    members = check_masks(masks, n_subsets)
    table = check_finite(scores, "scores", 2, "(n_query, n_train)")
    check_same_shape(table, "scores", (n_query, members.shape[1]), "(n_query, n_train)")
    return lds_from_subset_sums(prepared, table @ members.T.astype(np.float64))


def leave_one_out_correlation(
    loo_changes: ArrayLike,
    scores: ArrayLike,
    *,
    left_out: ArrayLike | None = None,
    correlation: str = "pearson",
) -> LDSResult:
    """Correlation, over removed examples, of scores with leave-one-out retraining.

    Parameters
    ----------
    loo_changes : array-like of shape (n_query, n_removed)
        Output with all examples minus output without the removed one. A proponent has a positive
        change, and a positive score.
    scores : array-like of shape (n_query, n_removed), or (n_query, n_train) with `left_out`
    left_out : array-like of int of shape (n_removed,), default=None
        Training positions of the removed examples, which select columns of `scores`.
    correlation : {"spearman", "pearson"}, default="pearson"

    Returns
    -------
    LDSResult
        One correlation for each query; `noise_ceiling` is None.

    Raises
    ------
    ValueError
        If shapes disagree, fewer than 3 examples were removed, or values are NaN.

    Warns
    -----
    UndefinedCorrelationWarning
        If changes or scores of some query are constant.
    """
    check_correlation(correlation)
    changes = check_finite(loo_changes, "loo_changes", 2, "(n_query, n_removed)")
    if changes.shape[1] < 3:
        raise ValueError(
            f"`loo_changes` has {changes.shape[1]} removed examples; a correlation needs at least "
            f"3."
        )
    table = check_finite(scores, "scores", 2, "(n_query, n_removed)")
    if left_out is not None:
        table = table[:, _check_positions(left_out, table.shape[1])]
    check_same_shape(table, "scores", changes.shape, "(n_query, n_removed)")
    return correlate(standardize_rows(changes, correlation), table, correlation)


def _check_positions(left_out: ArrayLike, n_train: int) -> np.ndarray:
    positions = np.asarray(left_out)
    integral = positions.ndim == 1 and np.issubdtype(positions.dtype, np.integer)
    if not integral or (positions < 0).any() or (positions >= n_train).any():
        raise ValueError(
            "`left_out` must be a 1-d array of integer positions from 0 to n_train - 1 = "
            f"{n_train - 1}, the columns of `scores`; got {left_out!r}."
        )
    return positions
