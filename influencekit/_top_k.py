"""The training examples with the strongest scores: their positions, and a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.utils._optional import import_optional

__all__ = ["check_k", "smallest_k", "top_frame"]


def check_k(k: Any, n_columns: int, columns: str) -> None:
    """Refuse a number of examples that there are not.

    Parameters
    ----------
    k : object
    n_columns : int
    columns : str
        What the columns are called in the message.

    Raises
    ------
    ValueError
    """
    whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
    if not whole or not 1 <= k <= n_columns:
        raise ValueError(f"k: got {k!r}; accepted are integers from 1 to {columns}={n_columns}.")


def smallest_k(rows: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k smallest numbers of each row, ascending; equal ones in row order.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n)
    k : int

    Returns
    -------
    ndarray of shape (n_rows, k)

    Examples
    --------
    >>> smallest_k(np.array([[3.0, 1.0, 2.0, 1.0]]), 3)
    array([[1, 3, 2]])
    """
    found = np.empty((len(rows), k), dtype=np.intp)
    for row, positions in zip(rows, found, strict=True):
        candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
        positions[:] = candidates[np.argsort(row[candidates], kind="stable")[:k]]
    return found


def top_frame(
    indices: np.ndarray,
    scores: np.ndarray,
    queries: Any,
    columns: Any,
    X: Any = None,
    y: Any = None,
) -> Any:
    """Table of the strongest training examples, one row for each query and rank.

    Parameters
    ----------
    indices, scores : ndarray of shape (n_queries, k)
        Positions among the columns of the scores, and their scores.
    queries, columns : array-like or pandas.Index or None
        Names of the queries and of what is scored; None uses positions.
    X, y : array-like or None
        Training data to show; None, or data from which rows cannot be taken, shows nothing.
        " (X)" is appended to a column name that is already in use.

    Returns
    -------
    pandas.DataFrame
        Columns ``query``, ``rank``, ``row``, ``score``, ``y``, then the columns of X.
    """
    pd = import_optional("pandas", "top_k(as_frame=True)")
    (n_queries, k), taken = indices.shape, indices.ravel()
    queries = pd.RangeIndex(n_queries) if queries is None else pd.Index(queries)
    facts = {
        "query": queries.repeat(k),
        "rank": np.tile(np.arange(1, k + 1), n_queries),
        "row": taken if columns is None else pd.Index(columns).take(taken),
        "score": scores.ravel(),
    }
    targets, rows = _rows_of(y, taken, "y", pd), _rows_of(X, taken, "x", pd)
    table = pd.concat([pd.DataFrame(facts), targets], axis=1)
    clashes = {name: f"{name} (X)" for name in rows.columns if name in table.columns}
    return pd.concat([table, rows.rename(columns=clashes)], axis=1)


def _rows_of(data: Any, rows: np.ndarray, name: str, pd: Any) -> Any:
    """Some rows as a DataFrame, without columns if rows cannot be taken from the data.

    Unnamed columns are called ``name`` with their number, or just ``name`` if there is only one.
    """
    data = data.to_pandas() if hasattr(data, "to_pandas") else data  # polars, pyarrow
    if hasattr(data, "iloc"):
        found = data.iloc[rows].reset_index(drop=True)
        return found.rename(name).to_frame() if found.ndim == 1 else found
    if not isinstance(data, (list, np.ndarray)) and not hasattr(data, "detach"):
        return pd.DataFrame(index=range(len(rows)))
    values = np.asarray(data.detach().cpu() if hasattr(data, "detach") else data)[rows]
    if values.ndim == 1:
        return pd.DataFrame({name: values})
    values = values.reshape(len(values), -1)
    return pd.DataFrame(values, columns=[f"{name}{i}" for i in range(values.shape[1])])
