"""Agreement of scores with a measured, noisy gold standard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._checks import check_finite, check_same_shape
from influencekit.metrics._correlation import row_correlation, standardize_rows
from influencekit.metrics._text import short_array

__all__ = ["AgreementResult", "attribution_agreement", "by_horizon", "mean_of_tests", "row_cosine"]


@dataclass(frozen=True)
class AgreementResult:
    """Agreement per horizon, and the highest agreement that the noise of the gold standard allows.

    Attributes
    ----------
    horizons : ndarray of shape (n_horizons,)
    cosine, spearman : ndarray of shape (n_horizons,)
        Means over the test examples whose gold scores are resolved and not constant.
    cosine_se, spearman_se : ndarray of shape (n_horizons,)
        Standard deviation over those test examples / √(their number).
    cosine_ceiling, spearman_ceiling : ndarray of shape (n_horizons,)
        Expected agreement of the gold standard's own noise-free expectation; NaN without halves,
        and where they disagree.
    split_half : ndarray of shape (n_horizons,)
        Mean cosine between the two halves of the seeds; NaN without halves.
    halves_disagree : ndarray of shape (n_horizons,), bool
        Where that mean is not above 0 by two of its standard errors over test examples: the
        halves share too little to tell a ceiling, and more seeds are needed.
    unresolved_share : ndarray of shape (n_horizons,)
        Share of test examples without a gold score above the resolution.
    offset_share : ndarray of shape (n_horizons,)
        Share of the gold scores' squared sum in an offset common to all left-out rows.
    n_undefined : ndarray of shape (n_horizons,), int64
        Number of resolved test examples with an undefined cosine, because all scores are 0.
    cosine_per_query, spearman_per_query, split_half_per_query : ndarray (n_horizons, n_test)
        Values per test example, NaN if unresolved or undefined.
    """

    horizons: NDArray
    cosine: NDArray
    cosine_se: NDArray
    cosine_ceiling: NDArray
    spearman: NDArray
    spearman_se: NDArray
    spearman_ceiling: NDArray
    split_half: NDArray
    halves_disagree: NDArray
    unresolved_share: NDArray
    offset_share: NDArray
    n_undefined: NDArray
    cosine_per_query: NDArray
    spearman_per_query: NDArray
    split_half_per_query: NDArray

    def __repr__(self) -> str:
        shown = [
            "horizons",
            "cosine",
            "cosine_se",
            "cosine_ceiling",
            "spearman",
            "unresolved_share",
        ]
        if np.isnan(self.split_half).all():
            shown.remove("cosine_ceiling")
        if self.halves_disagree.any():
            shown.append("halves_disagree")
        numbers = (f"{name}={short_array(getattr(self, name))}" for name in shown)
        return f"AgreementResult({', '.join(numbers)})"


def attribution_agreement(
    gold: ArrayLike,
    scores: ArrayLike,
    *,
    halves: ArrayLike | None = None,
    resolution: ArrayLike = 0.0,
    offset: ArrayLike | None = None,
    horizons: ArrayLike | None = None,
) -> AgreementResult:
    """Cosine and Spearman correlation of scores with measured ones, per test example.

    Parameters
    ----------
    gold : array-like of shape (n_test, n_left_out) or (n_horizons, n_test, n_left_out)
        Measured scores, mean over seeds.
    scores : array-like of the same shape, or (n_test, n_left_out) for every horizon
        Scores of a method. They are compared without centering.
    halves : array-like of shape (2, ...), default=None
        Two tables of the shape of ``gold``: means of two disjoint halves of the seeds, for
        the ceiling.
    resolution : float or array-like of shape (n_horizons, n_test), default=0.0
        Gold scores up to this size count as rounding errors. A test example with only such gold
        scores is unresolved, and left out of the means.
    offset : array-like of shape (n_horizons, n_test), default=None
        Mean over left-out rows of the gold scores before they were centered; None computes it from
        `gold`.
    horizons : array-like of shape (n_horizons,), default=None
        Names of the horizons; None numbers them from 1.

    Returns
    -------
    AgreementResult

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than 3 left-out rows, or values are NaN.

    Notes
    -----
    With ``r`` the mean cosine between two halves, the mean of both has reliability
    ``2 r / (1 + r)`` (Spearman-Brown) and is expected to have the cosine √reliability with its
    own expectation, which no score can be expected to exceed.  The mean over test examples is
    taken before the formula.  Where r is not above 0 by two standard errors there is no ceiling:
    a number near 0 would say that no method can agree, which two halves cannot tell.  For
    Spearman's correlation the formula is an approximation, and so it is where the halves hold
    unequal numbers of seeds.

    The offset's share of the squared sum is ``Σ_i L m_i² / Σ_i (L m_i² + Σ_j (a_ij - ā_i)²)`` with
    m the offset, a the gold scores and L left-out rows.

    Examples
    --------
    >>> import numpy as np
    >>> from influencekit.metrics import attribution_agreement
    >>> gold = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 0.2]])
    >>> attribution_agreement(gold, 3 * gold).cosine
    array([1.])
    """
    target = by_horizon(gold, "gold")
    table = by_horizon(scores, "scores", target.shape)
    if target.shape[-1] < 3:
        raise ValueError(
            f"`gold` has {target.shape[-1]} left-out rows; a correlation needs at least 3."
        )
    names = np.arange(1, len(target) + 1) if horizons is None else np.asarray(horizons)
    check_same_shape(names, "horizons", (len(target),), "(n_horizons,)")
    floor = _per_query(resolution, "resolution", target)
    if (floor < 0).any():
        raise ValueError(
            f"`resolution`: got {resolution!r}; accepted are numbers that are not negative."
        )
    resolved = np.abs(target).max(axis=-1) > floor
    cosine = np.where(resolved, row_cosine(target, table), np.nan)
    spearman = np.where(resolved, _spearman(target, table), np.nan)
    first, second = _check_halves(halves, target)
    half_cosine = np.where(resolved, row_cosine(first, second), np.nan)
    half_spearman = np.where(resolved, _spearman(first, second), np.nan)
    return AgreementResult(
        horizons=names,
        cosine=mean_of_tests(cosine),
        cosine_se=_standard_error(cosine),
        cosine_ceiling=_ceiling(half_cosine),
        spearman=mean_of_tests(spearman),
        spearman_se=_standard_error(spearman),
        spearman_ceiling=_ceiling(half_spearman),
        split_half=mean_of_tests(half_cosine),
        halves_disagree=_disagree(half_cosine),
        unresolved_share=1 - resolved.mean(axis=-1),
        offset_share=_offset_share(target, offset),
        n_undefined=(resolved & np.isnan(cosine)).sum(axis=-1),
        cosine_per_query=cosine,
        spearman_per_query=spearman,
        split_half_per_query=half_cosine,
    )


def row_cosine(first: NDArray, second: NDArray) -> NDArray:
    """Cosine along the last axis; NaN if a row is all zeros."""
    a, b = _unit(first), _unit(second)
    return np.clip(np.einsum("...n,...n->...", a, b), -1.0, 1.0)


def _unit(rows: NDArray) -> NDArray:
    """Rows scaled to length 1; first to maximum 1, as squares may overflow or underflow."""
    size = np.abs(rows).max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows / size
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _spearman(first: NDArray, second: NDArray) -> NDArray:
    a, b = standardize_rows(first, "spearman"), standardize_rows(second, "spearman")
    return row_correlation(a, b)


def by_horizon(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> NDArray:
    """Array (n_horizons, n_test, n_left_out), of a given shape: one table is for all horizons."""
    axes = "(n_test, n_left_out) or (n_horizons, n_test, n_left_out)"
    array = check_finite(values, name, (2, 3), axes)
    array = array[None] if array.ndim == 2 else array
    if shape is not None:
        array = np.broadcast_to(array, (shape[0], *array.shape[1:])) if len(array) == 1 else array
        check_same_shape(array, name, shape, "(n_horizons, n_test, n_left_out)")
    return array


def _check_halves(halves: ArrayLike | None, target: NDArray) -> tuple[NDArray, NDArray]:
    if halves is None:
        nothing = np.full(target.shape, np.nan)
        return nothing, nothing
    array = check_finite(halves, "halves", (3, 4), "(2, n_horizons, n_test, n_left_out)")
    array = array[:, None] if array.ndim == 3 else array
    check_same_shape(array, "halves", (2, *target.shape), "(2, n_horizons, n_test, n_left_out)")
    return array[0], array[1]


def _per_query(values: ArrayLike, name: str, target: NDArray) -> NDArray:
    array = check_finite(values, name, (0, 1, 2), "() or (n_horizons, n_test)")
    try:
        return np.broadcast_to(array, target.shape[:-1])
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a number or have shape (n_horizons, n_test) = "
            f"{target.shape[:-1]}; got {array.shape}."
        ) from error


def mean_of_tests(per_query: NDArray) -> NDArray:
    """Mean over defined test examples; NaN if there is none."""
    n = (~np.isnan(per_query)).sum(axis=-1)
    return np.where(n > 0, np.nansum(per_query, axis=-1) / np.maximum(n, 1), np.nan)


def _standard_error(per_query: NDArray) -> NDArray:
    n = (~np.isnan(per_query)).sum(axis=-1)
    spread = np.nansum(np.square(per_query - mean_of_tests(per_query)[:, None]), axis=-1)
    return np.where(n > 1, np.sqrt(spread / np.maximum(n - 1, 1) / np.maximum(n, 1)), np.nan)


def _ceiling(half: NDArray) -> NDArray:
    """√reliability of the mean of both halves; NaN where they disagree."""
    shared = np.where(_disagree(half), np.nan, mean_of_tests(half))
    return np.sqrt(2 * shared / (1 + shared))


def _disagree(half: NDArray) -> NDArray:
    """Whether two halves share nothing that two standard errors could tell from 0."""
    error = np.nan_to_num(_standard_error(half))  # of one test example there is none
    return mean_of_tests(half) <= 2 * error


def _offset_share(target: NDArray, offset: ArrayLike | None) -> NDArray:
    own = target.mean(axis=-1)
    common = own if offset is None else _per_query(offset, "offset", target)
    within = np.square(target - own[..., None]).sum(axis=(-1, -2))
    energy = target.shape[-1] * np.square(common).sum(axis=-1)
    total = energy + within
    return np.where(total > 0, energy / np.where(total > 0, total, 1.0), np.nan)
