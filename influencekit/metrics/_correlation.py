"""Correlation of many rows at once, with ties handled and constant rows undefined."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.exceptions import UndefinedMetricWarning

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.utils._suggest import check_choice

__all__ = [
    "LDSResult",
    "UndefinedCorrelationWarning",
    "check_correlation",
    "row_correlation",
    "standardize_rows",
    "summarize",
    "warn_undefined",
]


# A row whose spread is below this share of its size is constant up to rounding.  A sum of
# n equal float64 numbers errs by about sqrt(n) * 2e-16 of its size.
CONSTANT_SPREAD = 1e-13


class UndefinedCorrelationWarning(InfluenceKitWarning, UndefinedMetricWarning):
    """The correlation of some queries is undefined, because one side is constant.

    They are NaN in ``per_query``, counted in ``n_undefined`` and left out of the mean.
    Usual causes: all scores of the query are 0 (its gradient vanished), or the model's output on it
    is the same for every training subset.
    """


def check_correlation(correlation: str) -> str:
    """Return `correlation` if it names a correlation, else raise ValueError."""
    check_choice("correlation", correlation, ("spearman", "pearson"))
    return correlation


def standardize_rows(rows: NDArray, correlation: str) -> NDArray:
    """Rows centered and scaled to norm 1, after average ranking if `correlation` is "spearman".

    Parameters
    ----------
    rows : ndarray of shape (..., n)
    correlation : {"spearman", "pearson"}

    Returns
    -------
    ndarray of shape (..., n)
        Rows that are constant up to rounding are NaN.
    """
    low, high = rows.min(axis=-1), rows.max(axis=-1)
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore"):
        constant = high - low <= CONSTANT_SPREAD * size
    if correlation == "spearman":
        rows = _rank_rows(rows)
    else:  # to size 1 first: squares of very large or small numbers overflow or underflow
        rows = rows / np.where(size > 0, size, 1.0)[..., None]
    centered = rows - rows.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(centered, axis=-1)
    norms[constant] = np.nan
    return centered / norms[..., None]


def _rank_rows(rows: NDArray) -> NDArray:
    """Average ranks along the last axis; rows without ties need only sorting."""
    order = np.argsort(rows, axis=-1)
    ordered = np.take_along_axis(rows, order, axis=-1)
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, rows.shape[-1] + 1), axis=-1)
    tied = (ordered[..., 1:] == ordered[..., :-1]).any(axis=-1)
    if tied.any():
        ranks[tied] = rankdata(rows[tied], axis=-1)
    return ranks


def row_correlation(first: NDArray, second: NDArray) -> NDArray:
    """Inner products of standardized rows, clipped to [-1, 1]; NaN stays NaN."""
    return np.clip(np.einsum("...n,...n->...", first, second), -1.0, 1.0)


def warn_undefined(per_query: NDArray, truth: NDArray) -> None:
    """Warn if some correlations are NaN; ``truth`` (n_query, ...) is NaN where it is constant."""
    n_undefined = int(np.isnan(per_query).sum())
    if n_undefined:
        constant = int(np.isnan(truth.reshape(len(truth), -1)).any(axis=1).sum())
        reasons = []
        if constant:
            reasons.append(
                f"the measured outputs of {constant} are constant (the loss of a row that is "
                f"always classified correctly is 0; output='margin' still varies)"
            )
        if n_undefined > constant:
            reasons.append(f"the summed scores of {n_undefined - constant} are constant")
        warn_user(
            f"The correlation is undefined for {n_undefined} of {per_query.size} queries: "
            f"{'; '.join(reasons)}. They are NaN and left out of the mean.",
            UndefinedCorrelationWarning,
        )


@dataclass(frozen=True)
class LDSResult:
    """Correlations per query and their mean.

    Attributes
    ----------
    mean : float
        Mean over the queries whose correlation is defined; NaN if there is none.
    standard_error : float
        Standard deviation over those queries / √(their number).  All queries share the same
        subsets, so it measures variation over queries, not over subsets. NaN with fewer than two
        defined queries.
    n_undefined : int
        Number of queries with constant scores or constant outputs.
    correlation : {"spearman", "pearson"}
    noise_ceiling : float or None
        Attainable correlation: the expected correlation of a perfect prediction of the expected
        output, see `noise_ceiling`. None without repeats.
    per_query : ndarray of shape (n_query,)
        Correlation of each query, NaN if undefined.
    """

    mean: float
    standard_error: float
    n_undefined: int
    correlation: str
    noise_ceiling: float | None = None
    per_query: NDArray = field(kw_only=True)

    def __repr__(self) -> str:
        ceiling = "" if self.noise_ceiling is None else f", noise_ceiling={self.noise_ceiling:.3g}"
        return (
            f"LDSResult(mean={self.mean:.3g}, standard_error={self.standard_error:.2g}{ceiling}, "
            f"n_query={len(self.per_query)}, n_undefined={self.n_undefined}, "
            f"correlation={self.correlation!r})"
        )


def correlate(
    truth: NDArray, table: NDArray, correlation: str, noise_ceiling: float | None = None
) -> LDSResult:
    """Correlation of each row of a table with the same row of a standardized table."""
    per_query = row_correlation(truth, standardize_rows(table, correlation))
    return reported(per_query, truth, correlation, noise_ceiling)


def reported(
    per_query: NDArray, truth: NDArray, correlation: str, noise_ceiling: float | None = None
) -> LDSResult:
    """Correlations as a result, with a warning if some are undefined."""
    warn_undefined(per_query, truth)
    return summarize(per_query, correlation, noise_ceiling)


def summarize(
    per_query: NDArray, correlation: str, noise_ceiling: float | None = None
) -> LDSResult:
    """Gather correlations (n_query,) into an LDSResult."""
    defined = per_query[~np.isnan(per_query)]
    n = defined.size
    return LDSResult(
        mean=float(defined.mean()) if n else float("nan"),
        standard_error=float(defined.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
        n_undefined=int(per_query.size - n),
        correlation=correlation,
        noise_ceiling=noise_ceiling,
        per_query=per_query,
    )
