"""Value of training rows: their scores summed over examples that the model did not learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from influencekit.applications._fitting import fit_on, fold_list, is_frozen
from influencekit.applications._row_groups import fit_groups, row_shares
from influencekit.applications._suspicion import group_means
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.utils import chunks, progress

__all__ = ["held_out_values", "total_scores"]

#: Scores held at a time, in numbers.
_SCORES = 2**24


def total_scores(attributor: Any, X: Any, y: Any) -> np.ndarray:
    """Scores of each training row summed over examples, without holding the whole matrix.

    A group's rows have equal shares of its score.

    Parameters
    ----------
    attributor : fitted attributor
    X, y : array-like of n_test examples

    Returns
    -------
    ndarray of shape (n_train,)
    """
    total = np.zeros(attributor._columns()[0])
    for some in chunks(count_rows(X), attributor.n_train_, _SCORES):
        rows = np.arange(some.start, some.stop)
        total += attributor.score(take_rows(X, rows), take_rows(y, rows)).sum(axis=0)
    return row_shares(attributor, total)


def held_out_values(
    estimator: Any,
    attributor: Any,
    X: Any,
    y: Any,
    *,
    groups: np.ndarray | None = None,
    cv: Any = 5,
    seed: int = 0,
    verbose: int = 0,
) -> np.ndarray:
    """Mean predicted effect of each row on examples of the folds that it was not in.

    Examples of a class that the other folds do not hold are left out.

    Parameters
    ----------
    estimator : estimator
        Fitted anew for each fold, on the other folds.
    attributor : attributor
        Cloned for each fold.
    X, y : array-like of n rows
    groups : ndarray of int of shape (n,), default=None
        Of all rows, for an attributor of groups: the rows of one have their mean as value.
    cv : int or splitter, default=5
    seed : int, default=0
    verbose : int, default=0

    Returns
    -------
    ndarray of shape (n,)
        Positive for rows that help.
    """
    if is_frozen(estimator):
        raise ValueError(
            "estimator: a FrozenEstimator learned from all rows, so that none is held out to be "
            "explained. Give the unfitted estimator, or trusted rows (X_val, y_val)."
        )
    classifier, labels = is_classifier(estimator), np.asarray(y)
    folds = fold_list(cv, X, y, seed, classifier)
    n = count_rows(X)
    total, asked = np.zeros(n), np.zeros(n)
    for train, test in progress(folds, "folds", verbose):
        if classifier:  # nothing can be said of a class that the model never saw
            test = test[np.isin(labels[test], labels[train])]
        model = fit_on(estimator, X, y, train, seed)
        own = None if groups is None else groups[train]
        fitted = fit_groups(attributor, model, take_rows(X, train), take_rows(y, train), own)
        total[train] += total_scores(fitted, take_rows(X, test), take_rows(y, test))
        asked[train] += len(test)
    values = total / np.maximum(asked, 1)
    return values if groups is None else group_means(values, groups)
