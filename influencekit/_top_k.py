"""The training examples with the strongest scores: their positions, and a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from influencekit._intervals import Interval, check_level
from influencekit.data.slices._row_slices import RowSlices
from influencekit.data.slices._row_slices import taken as rows_of_slices
from influencekit.utils._optional import import_optional
from influencekit.utils._torch import with_gradients

__all__ = ["ListsStrongest", "smallest_k", "strongest", "top_frame"]


class ListsStrongest:
    """``top_k`` of every attributor."""

    fitted_: Sequence[Any]
    train_index_: Any
    _given: tuple[Any, Any]
    _queries: Callable
    _query_names: Callable
    _grouped: Any
    get_feature_names_out: Callable

    @with_gradients
    def top_k(
        self,
        X: Any,
        y: Any = None,
        k: int = 10,
        *,
        opponents: bool = False,
        as_frame: bool = False,
        interval: float | None = None,
    ) -> Any:
        """Training examples with the highest scores, without holding the whole score matrix.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        k : int, default=10
        opponents : bool, default=False
            Return the lowest scores instead of the highest.
        as_frame : bool, default=False
            Return one table instead of two arrays; needs pandas.
        interval : float, default=None
            Probability, such as 0.9, of intervals in the table; see ``return_std`` of
            :meth:`score`. Columns ``low`` and ``high``: where the score would be for another sample
            of training rows (linear models) or other models (ensembles); ``holds_zero``: its sign
            is open. Ensembles also have ``significant``: the mean is not 0, by flips of the
            models' signs, at the false discovery rate ``1 - interval`` over all training rows
            (Benjamini-Hochberg). It takes six models or more: the least p-value is ``2 / 2^n``.

        Returns
        -------
        indices : ndarray of shape (n_test, k)
            Rows of the training data, strongest first; equal scores in row order.  Their names
            are ``attributor.get_feature_names_out()[indices]``.
        scores : ndarray of shape (n_test, k)
        frame : pandas.DataFrame of n_test * k rows
            With ``as_frame=True``. Columns: ``query`` and ``row``, the labels (or positions) of the
            test row and the training row; ``rank``, from 1; ``score``; ``y`` and the data of the
            training row, as given to ``fit`` (left out for sparse matrices, Datasets and
            DataLoaders).
        """
        queries = self._queries(X, y)
        check_level(interval, as_frame)
        sure = None if interval is None else Interval(interval, len(self.fitted_))
        indices, scores, more = strongest(self, queries, k, opponents, sure)
        if not as_frame:
            return indices, scores
        names, grouped = self._query_names(queries), self._grouped is not None
        columns = self.get_feature_names_out() if grouped else self.train_index_
        given_X, given_y = (None, None) if grouped else self._given
        return top_frame(indices, scores, names, columns, given_X, given_y, more)


def smallest_k(rows: np.ndarray, k: int, sign: float = 1.0) -> np.ndarray:
    """Positions of the k smallest numbers of each row, ascending; equal ones in row order.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n)
    k : int
    sign : float, default=1.0
        Multiplies the numbers first, row by row; -1.0 gives the largest.

    Returns
    -------
    ndarray of shape (n_rows, k)

    Examples
    --------
    >>> smallest_k(np.array([[3.0, 1.0, 2.0, 1.0]]), 3)
    array([[1, 3, 2]])
    """
    found = np.empty((len(rows), k), dtype=np.intp)
    for given, positions in zip(rows, found, strict=True):
        row = sign * given
        candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
        positions[:] = candidates[np.argsort(row[candidates], kind="stable")[:k]]
    return found


def strongest(
    attributor: Any, queries: Any, k: Any, opponents: bool, interval: Interval | None = None
) -> tuple[np.ndarray, np.ndarray, dict]:
    """The k strongest columns of an attributor's scores, block by block.

    Parameters
    ----------
    attributor : attributor
    queries : Examples or ExamplesList
    k : int
    opponents : bool
    interval : Interval or None, default=None

    Returns
    -------
    indices, scores : ndarray of shape (n_queries, k)
    more : dict of str to ndarray
        Columns of intervals.

    Raises
    ------
    ValueError
        If k is not an integer from 1 to the number of columns.
    """
    n_columns, columns = attributor._columns()
    whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
    if not whole or not 1 <= k <= n_columns:
        raise ValueError(f"k: got {k!r}; accepted are integers from 1 to {columns}={n_columns}.")
    sign = 1.0 if opponents else -1.0
    indices, values, more = [], [], []
    if interval is None and attributor._grouped is None:
        for blocks in attributor._column_blocks(queries):
            found = _of_blocks(blocks, k, sign)
            indices.append(found[0])
            values.append(found[1])
        return np.concatenate(indices), np.concatenate(values), {}
    for part, scores in attributor._score_blocks(queries):
        indices.append(smallest_k(scores, k, sign))
        values.append(np.take_along_axis(scores, indices[-1], axis=1))
        if interval is not None:
            more.append(interval.columns(attributor, part, scores, indices[-1]))
    joined = {name: np.concatenate([one[name] for one in more]) for name in (more or [{}])[0]}
    return np.concatenate(indices), np.concatenate(values), joined


def _of_blocks(blocks: Iterable[np.ndarray], k: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores of the k strongest of columns that come in blocks, in order."""
    kept: list[np.ndarray] = []
    start = 0
    for scores in blocks:
        best = smallest_k(scores, min(k, scores.shape[1]), sign)
        found = [best + start, np.take_along_axis(scores, best, axis=1)]
        start += scores.shape[1]
        if kept:  # earlier columns stand first, so equal ones stay in order
            both = [np.hstack(pair) for pair in zip(kept, found, strict=True)]
            best = smallest_k(both[1], min(k, both[1].shape[1]), sign)
            found = [np.take_along_axis(one, best, axis=1) for one in both]
        kept = found
    return kept[0], kept[1]


def top_frame(
    indices: np.ndarray,
    scores: np.ndarray,
    queries: Any,
    columns: Any,
    X: Any = None,
    y: Any = None,
    more: dict | None = None,
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
    more : dict of str to ndarray of shape (n_queries, k), default=None
        Columns after the score.

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
        **{name: values.ravel() for name, values in (more or {}).items()},
    }
    if isinstance(X, RowSlices):
        (X, y), taken = rows_of_slices(X, taken), np.arange(len(taken))
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
