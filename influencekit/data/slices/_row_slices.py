"""The protocol of examples that are read a slice at a time, and what one pass finds out of them."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from influencekit.data._sources import leaves
from influencekit.utils._optional import import_optional

__all__ = ["RowSlices", "Survey", "joined", "mark_of", "read_once", "rows_of", "survey", "taken"]


class RowSlices(ABC):
    """Examples that are read a slice at a time, in an order that stays.

    Any object with this one method, of a class derived from this one or not, can be given as ``X``
    to ``fit``, without ``y``.
    :func:`open_slices` makes one of parquet files, folders of ``.npy`` files and others.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> class Generated:
    ...     def slices(self, start=0):
    ...         for i in range(start, 3):
    ...             X = np.random.default_rng(i).normal(size=(40, 2))
    ...             yield X, (X[:, 0] > 0).astype(int)
    >>> X, y = map(np.concatenate, zip(*Generated().slices()))
    >>> model = LogisticRegression().fit(X, y)
    >>> InfluenceFunction().fit(model, Generated()).n_train_
    120
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        return callable(getattr(other, "slices", None)) if cls is RowSlices else NotImplemented

    @abstractmethod
    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it.

        Parameters
        ----------
        start : int, default=0
            Slices before it need not be read.

        Yields
        ------
        X : array-like, DataFrame, sparse matrix, Tensor, or tuple or dict of them
            A few thousand rows, the same at each call.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets; None for rows without.
        """


@dataclass
class Survey:
    """What one pass over all slices found out.

    Attributes
    ----------
    rows : RowSlices
    starts : ndarray of int of shape (n_slices + 1,)
        Position of each slice's first row; the last entry is the number of rows.
    digest : str
        Digest of all values.
    y : ndarray, Tensor or None
        All targets.
    marks : list of str
        Digest of the size, a few rows and the targets of each slice.
    """

    rows: Any
    starts: np.ndarray
    digest: str
    y: Any
    marks: list[str]

    def slices(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield the slice with number ``start``, and each one after it."""
        yield from self.rows.slices(start)


def read_once(X: Any, name: str) -> Any:
    """What several models read: the survey of slices, or the data unchanged."""
    return survey(X, name) if isinstance(X, RowSlices) and not isinstance(X, Survey) else X


def survey(rows: Any, name: str) -> Survey:
    """Read all slices once.

    Parameters
    ----------
    rows : RowSlices
    name : str
        The argument's name in messages.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        If there are no rows, or some slices have targets and others have none.
    """
    sha, sizes, targets, marks = hashlib.sha256(), [], [], []
    for number, pair in enumerate(_opened(rows, name)):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"{name}: slices() of {type(rows).__name__} yielded a {type(pair).__name__}; "
                f"accepted is a pair (X, y), with None as y where there are no targets."
            )
        X, y = pair
        sizes.append(_n_rows(X))
        targets.append(y)
        if y is not None and len(y) != sizes[-1]:
            raise ValueError(
                f"{name}: slice {number} has {sizes[-1]:,} rows and {len(y):,} targets; accepted "
                f"is a target for each row."
            )
        _feed(sha, X)
        _feed(sha, y)
        marks.append(mark_of(X, y))
    if not sum(sizes):
        raise ValueError(f"{name}: got no rows; give at least one example.")
    missing = [i for i, y in enumerate(targets) if y is None]
    if missing and len(missing) < len(targets):
        raise ValueError(
            f"{name}: slice {missing[0]} has no targets, and others have; accepted are targets in "
            f"all slices or in none."
        )
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Survey(rows, starts, sha.hexdigest()[:32], None if missing else joined(targets), marks)


def _opened(rows: Any, name: str) -> Iterator[Any]:
    """The slices from the first one on, of a method that can begin at any."""
    try:
        inspect.signature(rows.slices).bind(0)
    except TypeError as error:
        raise TypeError(
            f"{name}: slices() of {type(rows).__name__} does not take the number of the first "
            f"slice ({error}); accepted is a method slices(self, start=0)."
        ) from error
    return iter(rows.slices(0))


def mark_of(X: Any, y: Any) -> str:
    """Digest by which a slice that is read again is known: its size, a few rows and the targets."""
    n, sha = _n_rows(X), hashlib.sha256()
    sha.update(str(n).encode())
    if n:
        _feed(sha, rows_of(X, np.unique([0, n // 3, n // 2, n - 1])))
    _feed(sha, y)
    return sha.hexdigest()[:32]


def taken(rows: Any, positions: np.ndarray) -> tuple[Any, Any]:
    """Some rows and their targets as they are given, in the order of the positions.

    Parameters
    ----------
    rows : RowSlices
    positions : ndarray of int

    Returns
    -------
    X, y : array-like
    """
    wanted, places = np.unique(positions, return_inverse=True)
    parts, targets, start = [], [], 0
    for X, y in rows.slices():
        end = start + _n_rows(X)
        own = wanted[(wanted >= start) & (wanted < end)] - start
        if len(own):
            parts.append(rows_of(X, own))
            targets.append(None if y is None else rows_of(y, own))
        start = end
        if len(wanted) and start > wanted[-1]:
            break
    if len(wanted) and wanted[-1] >= start:
        raise ValueError(
            f"X: got slices with {start:,} rows, and the row at position {wanted[-1]:,} is asked "
            f"for; accepted are the rows that the attributor was fitted on."
        )
    X, y = joined(parts), None if targets[0] is None else joined(targets)
    return rows_of(X, places), None if y is None else rows_of(y, places)


def rows_of(data: Any, rows: np.ndarray) -> Any:
    """Some rows of a container, of its own kind."""
    if isinstance(data, Mapping):
        return {key: rows_of(part, rows) for key, part in data.items()}
    if isinstance(data, tuple):
        return tuple(rows_of(part, rows) for part in data)
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    if sparse.issparse(data):
        return data.tocsr()[rows]
    if isinstance(data, list):
        return [data[i] for i in rows]
    return data[torch.from_numpy(rows)] if isinstance(data, torch.Tensor) else data[rows]


def _n_rows(X: Any) -> int:
    first = next(leaves(X))[1] if isinstance(X, (Mapping, tuple)) else X
    return int(first.shape[0]) if hasattr(first, "shape") else len(first)


def joined(parts: list[Any]) -> Any:
    """Parts of one kind after each other."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(joined(list(own)) for own in zip(*parts, strict=True))
    if isinstance(first, torch.Tensor):
        return torch.cat(parts)
    if sparse.issparse(first):
        return sparse.vstack(parts, format="csr")
    if hasattr(first, "iloc") and hasattr(first, "columns"):
        pd = import_optional("pandas", "slices of DataFrames")
        return pd.concat(parts, ignore_index=True)
    return np.concatenate([np.asarray(part) for part in parts])


def _feed(sha: Any, data: Any) -> None:
    """Add the values of a slice to a digest."""
    if data is None:
        sha.update(b"none")
    elif isinstance(data, (Mapping, tuple)):
        for path, leaf in leaves(data):
            sha.update(path.encode())
            _feed(sha, leaf)
    elif hasattr(data, "columns") and hasattr(data, "iloc"):
        for place, column in enumerate(data.columns):
            sha.update(str(column).encode())
            _feed(sha, data.iloc[:, place].to_numpy())
    elif sparse.issparse(data):
        matrix = data.tocsr()
        _feed(sha, (matrix.data, matrix.indices, matrix.indptr))
    else:
        array = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
        sha.update(f"{array.dtype.kind}{array.shape}".encode())
        if array.dtype.kind in "OUST":
            array = np.array([str(value).encode() for value in array.ravel()], dtype=object)
            sha.update(b"\x1f".join(array.tolist()))
        else:
            sha.update(np.ascontiguousarray(array).tobytes())
