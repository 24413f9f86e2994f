"""Linear datamodeling score (LDS): how well sums of scores rank retrained outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._checks import check_finite, check_masks, check_outputs, check_same_shape
from influencekit.metrics._correlation import (
    LDSResult,
    check_method,
    row_correlation,
    standardise_rows,
    summarise,
    warn_undefined,
)
from influencekit.metrics._noise import ceiling_from_repeats

__all__ = ["PreparedOutputs", "lds_from_subset_sums", "linear_datamodeling_score"]


class PreparedOutputs:
    """Outputs of retrained models, ranked once so that many predictions are scored quickly.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query) or (n_subsets, n_repeats, n_query)
        Output of each retrained model on each query, higher is better.  Repeats are
        averaged before ranking.
    method : {"spearman", "pearson"}, default="spearman"

    Attributes
    ----------
    shape : tuple of int
        (n_query, n_subsets), the shape of a prediction.
    method : str
    noise_ceiling : float or None
        Attainable correlation, None without repeats; see
        :func:`influencekit.metrics.noise_ceiling`.

    Raises
    ------
    ValueError
        If `outputs` has another shape, fewer than 3 subsets, or NaN.
    """

    def __init__(self, outputs: ArrayLike, method: str = "spearman"):
        repeats = check_outputs(outputs)
        self.method = check_method(method)
        self._rows = standardise_rows(repeats.mean(axis=1).T, method)
        self.shape = self._rows.shape
        self.noise_ceiling: float | None = None
        if repeats.shape[1] > 1:
            self.noise_ceiling = ceiling_from_repeats(repeats, method).attainable_correlation

    def correlations(self, predicted: ArrayLike) -> NDArray:
        """Correlation of each query, with no warning.

        Parameters
        ----------
        predicted : array-like of shape (n_query, n_subsets) or (n_dampings, n_query, n_subsets)

        Returns
        -------
        ndarray of shape (n_query,) or (n_dampings, n_query)
            NaN where the outputs or the prediction are constant.
        """
        axes = "(n_query, n_subsets) or (n_dampings, n_query, n_subsets)"
        array = check_finite(predicted, "predicted", (2, 3), axes)
        expected = (*array.shape[:-2], *self.shape)
        check_same_shape(array, "predicted", expected, "(..., n_query, n_subsets)")
        return row_correlation(standardise_rows(array, self.method), self._rows)

    def score(self, predicted: ArrayLike) -> LDSResult:
        """LDS of one prediction (n_query, n_subsets), see `lds_from_subset_sums`."""
        return lds_from_subset_sums(self, predicted)


def lds_from_subset_sums(
    outputs: ArrayLike | PreparedOutputs, predicted: ArrayLike, method: str | None = None
) -> LDSResult:
    """LDS of predictions that were already summed over each subset.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query) or (n_subsets, n_repeats, n_query), \
            or PreparedOutputs
        Give `PreparedOutputs` where many predictions are compared with the same outputs.
    predicted : array-like of shape (n_query, n_subsets)
        ``scores @ masks.T``: sum of the scores of the examples in each subset.
    method : {"spearman", "pearson"}, default=None
        None is "spearman", or the method of the PreparedOutputs.

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
        outputs = PreparedOutputs(outputs, method or "spearman")
    elif method not in (None, outputs.method):
        raise ValueError(
            f"`method` is {method!r}, but the outputs were prepared for {outputs.method!r}. "
            "Leave `method` out, or prepare them again."
        )
    sums = check_finite(predicted, "predicted", 2, "(n_query, n_subsets)")
    per_query = outputs.correlations(sums)
    warn_undefined(per_query, outputs._rows)
    return summarise(per_query, outputs.method, outputs.noise_ceiling)


def linear_datamodeling_score(
    outputs: ArrayLike, masks: ArrayLike, scores: ArrayLike, *, method: str = "spearman"
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
    method : {"spearman", "pearson"}, default="spearman"

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
    prepared = PreparedOutputs(outputs, method)
    n_query, n_subsets = prepared.shape
    members = check_masks(masks, n_subsets)
    table = check_finite(scores, "scores", 2, "(n_query, n_train)")
    check_same_shape(table, "scores", (n_query, members.shape[1]), "(n_query, n_train)")
    per_query = prepared.correlations(table @ members.T.astype(np.float64))
    warn_undefined(per_query, prepared._rows)
    return summarise(per_query, method, prepared.noise_ceiling)
