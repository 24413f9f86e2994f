"""Exact Pearson LDS over all subsets of one size, for small problems.

For A uniform among the subsets of size a of n examples, with S_A = Σ_{i∈A} τ_i,

    Cov(f_A, S_A) = -q·τ           with q_i = -Cov(f_A, 1[i ∈ A])
    Var(S_A)      = a (n - a) / (n (n - 1)) · Σ_i (τ_i - mean τ)²

so that the correlation needs only q and Var(f_A), for any scores τ.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._checks import check_finite, check_masks, check_same_shape
from influencekit.metrics._correlation import (
    CONSTANT_SPREAD,
    LDSResult,
    correlate,
    reported,
    standardize_rows,
)

__all__ = [
    "PopulationMoments",
    "enumerate_subsets",
    "population_moments",
    "population_pearson_lds",
    "population_pearson_lds_by_enumeration",
]


class PopulationMoments(NamedTuple):
    """All that population Pearson LDS needs to know about retraining.

    Attributes
    ----------
    q : ndarray of shape (n_query, n_train)
        ``-Cov_A(f_A, 1[i in A])``.
    output_variance : ndarray of shape (n_query,)
        ``Var_A(f_A)``.
    subset_size : int
    """

    q: NDArray
    output_variance: NDArray
    subset_size: int


def enumerate_subsets(
    n_examples: int, subset_size: int, *, max_subsets: int = 200_000
) -> NDArray[np.bool_]:
    """Masks of all subsets of one size.

    Parameters
    ----------
    n_examples : int
    subset_size : int
        From 1 to n_examples - 1.
    max_subsets : int, default=200_000
        Limit that prevents an endless enumeration.

    Returns
    -------
    ndarray of bool of shape (n_examples choose subset_size, n_examples)
        Masks in the order of `itertools.combinations`.

    Raises
    ------
    ValueError
        If the size is out of range or there are more than `max_subsets` subsets.
    """
    if not 0 < subset_size < n_examples:
        raise ValueError(
            f"`subset_size` must be from 1 to n_examples - 1 = {n_examples - 1}; got {subset_size}."
        )
    n_subsets = comb(n_examples, subset_size)
    if n_subsets > max_subsets:
        raise ValueError(
            f"{n_examples} choose {subset_size} = {n_subsets:,} subsets are more than "
            f"`max_subsets` = {max_subsets:,}. Use fewer examples, or sample subsets and use "
            "linear_datamodeling_score(..., correlation='pearson')."
        )
    members = np.array(list(combinations(range(n_examples), subset_size)))
    masks = np.zeros((n_subsets, n_examples), dtype=bool)
    np.put_along_axis(masks, members, True, axis=1)
    return masks


def population_moments(outputs: ArrayLike, masks: ArrayLike) -> PopulationMoments:
    """Moments of the outputs of all subsets of one size.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query)
        Output of the model retrained on each subset, higher is better.
    masks : array-like of shape (n_subsets, n_train)
        All subsets of one size, each once, in any order (see `enumerate_subsets`).

    Returns
    -------
    PopulationMoments

    Raises
    ------
    ValueError
        If shapes disagree, values are NaN, or `masks` is not the whole population.
    """
    values, members, size = _check_population(outputs, masks)
    centered = values - values.mean(axis=0)
    # q_ij = -mean over subsets of (y_i - mean y_i) [j in subset]
    q = -centered.T @ members.astype(np.float64) / len(values)
    spread = np.ptp(values, axis=0)
    constant = spread <= CONSTANT_SPREAD * np.abs(values).max(axis=0)
    variance = np.where(constant, 0.0, np.square(centered).mean(axis=0))
    return PopulationMoments(q, variance, size)


def population_pearson_lds(scores: ArrayLike, moments: PopulationMoments) -> LDSResult:
    """Pearson LDS over all subsets of one size, in closed form.

    Parameters
    ----------
    scores : array-like of shape (n_query, n_train)
        Positive = proponent.
    moments : PopulationMoments
        From `population_moments`, or built from a known q, output variance and subset size.

    Returns
    -------
    LDSResult
        Exact value for each query; undefined (NaN) if scores or outputs are constant.

    Raises
    ------
    ValueError
        If shapes disagree or values are NaN.

    Warns
    -----
    UndefinedCorrelationWarning
        If scores or outputs of some query are constant.
    """
    q = check_finite(moments.q, "moments.q", 2, "(n_query, n_train)")
    variance = check_finite(moments.output_variance, "moments.output_variance", 1, "(n_query,)")
    table = check_finite(scores, "scores", 2, "(n_query, n_train)")
    check_same_shape(table, "scores", q.shape, "(n_query, n_train)")
    check_same_shape(variance, "moments.output_variance", q.shape[:1], "(n_query,)")
    n, a = q.shape[1], moments.subset_size
    if not 0 < a < n:
        raise ValueError(f"`moments.subset_size` must be from 1 to {n - 1}; got {a}.")
    sum_deviation = np.sqrt(a * (n - a) / (n * (n - 1)))  # of S_A, for centered τ of norm 1
    # Cov(y_i, Σ_{j in subset} τ_ij) = -<q_i, τ_i>
    covariance = -np.einsum("ij,ij->i", q, standardize_rows(table, "pearson"))
    deviation = np.sqrt(np.where(variance > 0, variance, np.nan))
    per_query = np.clip(covariance / (sum_deviation * deviation), -1.0, 1.0)
    return reported(per_query, deviation, "pearson")


def population_pearson_lds_by_enumeration(
    outputs: ArrayLike, masks: ArrayLike, scores: ArrayLike
) -> LDSResult:
    """Pearson LDS over all subsets of one size, by summing the scores of every subset.

    The slow definition of `population_pearson_lds`.

    Parameters
    ----------
    outputs : array-like of shape (n_subsets, n_query)
    masks : array-like of shape (n_subsets, n_train)
        All subsets of one size, each once, in any order.
    scores : array-like of shape (n_query, n_train)

    Returns
    -------
    LDSResult

    Raises
    ------
    ValueError
        See `population_moments`.
    """
    values, members, _ = _check_population(outputs, masks)
    table = check_finite(scores, "scores", 2, "(n_query, n_train)")
    expected = (values.shape[1], members.shape[1])
    check_same_shape(table, "scores", expected, "(n_query, n_train)")
    sums = table @ members.T.astype(np.float64)
    return correlate(standardize_rows(values.T, "pearson"), sums, "pearson")


def _check_population(outputs: ArrayLike, masks: ArrayLike) -> tuple[NDArray, NDArray, int]:
    values = check_finite(outputs, "outputs", 2, "(n_subsets, n_query)")
    members = check_masks(masks, len(values))
    sizes = np.unique(members.sum(axis=1))
    n = members.shape[1]
    whole = len(sizes) == 1 and 0 < sizes[0] < n and len(members) == comb(n, int(sizes[0]))
    if not whole or len(np.unique(np.packbits(members, axis=1), axis=0)) < len(members):
        raise ValueError(
            "`masks` must be all subsets of one size, each once (see enumerate_subsets); got "
            f"{len(members)} masks of {n} examples with sizes {sizes.tolist()[:5]}."
        )
    return values, members, int(sizes[0])
