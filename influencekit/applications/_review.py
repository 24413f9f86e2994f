"""The rows of suspicious labels as a table for the person who looks at them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline

from influencekit.applications._fitting import predicted
from influencekit.training.estimator._rows import count_rows
from influencekit.utils._optional import import_optional

__all__ = ["review_table"]

#: Rows in the table where rows are only ranked.
_RANKED = 20
#: Neighbors of each row.
_NEIGHBORS = 5


def review_table(detector: Any, X: Any, y: np.ndarray) -> Any:
    """Suspected rows, most suspicious first, with what speaks for another label.

    Parameters
    ----------
    detector : fitted NoisyLabelDetector
    X, y : array-like of n rows
        What it was fitted on.

    Returns
    -------
    pandas.DataFrame
        With the row labels of X, if it has any, as its index.
    """
    pd = import_optional("pandas", "NoisyLabelDetector.review_table_")
    n_suspected = int(detector.suspected_.sum())
    rows = detector.ranking_[: n_suspected or _RANKED]
    likely, confidence = _likely(detector, X)
    columns = {"row": rows, "score": detector.label_scores_[rows], "given": y[rows]}
    columns["likely"] = likely[rows]
    if confidence is not None:
        columns["confidence"] = confidence[rows]
    near = _neighbors(_seen(detector, X), rows)
    if near is not None:
        columns["neighbors"] = pd.Series(list(near))
        if confidence is None:
            columns["neighbors_mean"] = y[near].mean(axis=1)
        else:
            columns["neighbors_given"] = (y[near] == y[rows][:, None]).sum(axis=1)
            columns["neighbors_likely"] = (y[near] == likely[rows][:, None]).sum(axis=1)
    table = pd.DataFrame(columns)
    return table.set_index(X.index[rows]) if hasattr(X, "iloc") else table


def _likely(detector: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Likely label of each row and its probability; a regressor's values and None."""
    classes = getattr(detector, "classes_", None)
    found = detector.probabilities_
    if found is None:
        if not hasattr(detector, "estimator_"):
            raise AttributeError(
                f"review_table_: method={detector.method_!r} with refit=False has no model to ask "
                "for the likely labels. Set refit=True and fit again."
            )
        found = predicted(detector.estimator_, X, classes)
    if classes is None:
        return found, None
    return classes[found.argmax(axis=1)], found.max(axis=1)


def _seen(detector: Any, X: Any) -> Any:
    """Rows as the last step of the estimator sees them."""
    fitted = getattr(detector, "estimator_", None)
    if isinstance(fitted, Pipeline) and len(fitted) > 1:
        return fitted[:-1].transform(X)
    return X


def _neighbors(X: Any, rows: np.ndarray) -> np.ndarray | None:
    """Positions of the rows nearest to some rows; None if inputs are not numbers.

    Columns of a table count in units of their standard deviation.
    """
    try:
        if sparse.issparse(X):
            Z = X.tocsr()
        else:
            Z = np.asarray(X, dtype=np.float64).reshape(count_rows(X), -1)
            spread = Z.std(axis=0) if np.ndim(X) == 2 else np.ones(Z.shape[1])
            Z = Z / np.where(spread > 0, spread, 1.0)
    except (TypeError, ValueError):
        return None
    if not sparse.issparse(Z) and not np.isfinite(Z).all():
        return None
    n_near = min(_NEIGHBORS + 1, Z.shape[0])
    near = (
        NearestNeighbors(n_neighbors=n_near, algorithm="brute")
        .fit(Z)
        .kneighbors(Z[rows], return_distance=False)
    )
    # the row itself is not among them, nor the last one where copies of it came first
    others = [own[own != row][: n_near - 1] for own, row in zip(near, rows, strict=True)]
    return np.array(others, dtype=np.int64).reshape(len(rows), n_near - 1)
