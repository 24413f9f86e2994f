"""The indicator on folds of the queries: means, and the results table of a search."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection import KFold, check_cv

from influencekit.exceptions import InfluenceKitWarning, warn_user

__all__ = ["USUAL_FOLDS", "query_folds", "results_table", "split_means", "with_row"]

#: Folds where the user says nothing.
USUAL_FOLDS = 5


def query_folds(n_queries: int, cv: Any, rng: Any) -> list[np.ndarray]:
    """Queries of each fold."""
    if isinstance(cv, Integral):
        if int(cv) > n_queries and cv != USUAL_FOLDS:
            warn_user(
                f"cv: got {cv} folds for {n_queries} queries; {n_queries} folds are used. Give cv "
                "a number of folds up to the number of queries, or more queries in X_query.",
                InfluenceKitWarning,
            )
        if n_queries < 2 or cv < 2:
            return [np.arange(n_queries)]
        cv = KFold(min(int(cv), n_queries), shuffle=True, random_state=rng)
    try:
        folds = list(check_cv(cv).split(np.zeros((n_queries, 1))))
        if not folds:
            raise ValueError("it makes no fold")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"cv: {cv!r} cannot split {n_queries} queries ({error}). Only the queries are split, "
            f"without labels or groups; accepted are an int, KFold, ShuffleSplit and similar "
            f"splitters."
        ) from error
    return [_checked(held, n_queries) for _, held in folds]


def _checked(held: Any, n_queries: int) -> np.ndarray:
    """Queries of one fold of the user's own, as positions."""
    found = np.asarray(held)
    if found.dtype == np.bool_ and found.shape == (n_queries,):
        return np.flatnonzero(found)
    whole = found.ndim == 1 and found.size > 0 and found.dtype.kind in "iu"
    if not whole or found.min() < -n_queries or found.max() >= n_queries:
        what = "an empty fold" if found.size == 0 else f"a fold of {found.tolist()!r:.60}"
        raise ValueError(
            f"cv: got {what} for {n_queries} queries; accepted are pairs of positions (seen, held "
            f"out) from 0 to {n_queries - 1}, with at least one held out."
        )
    return found


def split_means(xi: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Mean indicator over each fold of the queries, (n_splits, n_dampings)."""
    return np.stack([xi[:, held].mean(axis=1) for held in folds])


def with_row(
    dampings: np.ndarray, splits: np.ndarray, damping: float, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Dampings and fold means, with one more damping inserted in ascending order."""
    at = int(np.searchsorted(dampings, damping))
    if at < len(dampings) and dampings[at] == damping:
        return dampings, splits
    return np.insert(dampings, at, damping), np.insert(splits, at, column, axis=1)


def results_table(
    name: str, indicator: str, dampings: np.ndarray, splits: np.ndarray, threshold: float
) -> dict:
    """``cv_results_`` of a search.

    Parameters
    ----------
    name : str
        Parameter that was searched.
    indicator : str
        "xi" or "cosine", for column names.
    dampings : ndarray of shape (n_dampings,)
    splits : ndarray of shape (n_splits, n_dampings)
        Mean indicator of each fold.
    threshold : float

    Returns
    -------
    dict of ndarrays
    """
    mean = splits.mean(axis=0)
    distance = np.abs(mean - threshold)
    scores = -np.abs(splits - threshold)
    return {
        f"param_{name}": dampings,
        "params": np.array([{name: float(d)} for d in dampings], dtype=object),
        f"mean_{indicator}": mean,
        f"std_{indicator}": splits.std(axis=0),
        **{f"split{i}_{indicator}": row for i, row in enumerate(splits)},
        **{f"split{i}_test_score": row for i, row in enumerate(scores)},
        "mean_test_score": -distance,
        "std_test_score": scores.std(axis=0),
        "rank_test_score": rankdata(distance, method="min").astype(np.int32),
    }
