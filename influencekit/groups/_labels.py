"""Groups as positions 0 .. k-1 with names."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.metrics._text import some_rows
from influencekit.utils._arguments import refuse_masked
from influencekit.utils._optional import import_optional

__all__ = ["encode_labels", "label_table", "named_groups", "refuse_missing"]


def label_table(labels: Any, n_rows: int, name: str = "labels") -> Any:
    """Labels as columns of a table, with one row for each example.

    Parameters
    ----------
    labels : array-like of shape (n_rows,) or (n_rows, n_columns), Series or DataFrame
    n_rows : int
    name : str
        Name of the argument, for messages.

    Returns
    -------
    DataFrame of shape (n_rows, n_columns)

    Raises
    ------
    ValueError
        If the length differs, a label is missing, or a grouper is given in place of labels.
    """
    if hasattr(labels, "fit"):
        raise ValueError(
            f"{name}: got the estimator {type(labels).__name__}; accepted is one label for each "
            "row. Fit the grouper and give its labels_."
        )
    _refuse_text(labels, name)
    refuse_masked(name, labels)
    pd = _pandas()
    labels = _as_pandas(labels)
    if isinstance(labels, (pd.Series, pd.DataFrame)):
        table = labels.to_frame() if isinstance(labels, pd.Series) else labels
    else:
        array = np.asarray(labels)
        if array.ndim not in (1, 2):
            raise ValueError(
                f"{name}: got shape {array.shape} ({type(labels).__name__}); accepted are one "
                "label for each row, or one column for each attribute whose combinations are the "
                "groups."
            )
        table = pd.DataFrame(array if array.ndim == 2 else array[:, None])
    if len(table) != n_rows:
        raise ValueError(
            f"{name}: got {len(table):,} labels for {n_rows:,} rows; accepted is one for each row."
        )
    refuse_missing(labels, name)
    return table


def _pandas() -> Any:
    """pandas, which labels of groups need."""
    return import_optional("pandas", "A label for each row")


def _as_pandas(labels: Any) -> Any:
    """A frame of another library as pandas' own; anything else as it is."""
    pd = _pandas()
    if isinstance(labels, pd.DataFrame) or not hasattr(labels, "columns"):
        return labels
    return pd.DataFrame({name: np.asarray(labels[name]) for name in labels.columns})


def group_values(labels: Any, n_rows: int, name: str) -> np.ndarray:
    """One label for each row: its own, or the names of several columns together.

    Parameters
    ----------
    labels : array-like of shape (n_rows,) or (n_rows, n_columns), Series or DataFrame
    n_rows : int
    name : str
        Name of the argument, for messages.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        As :func:`label_table` does.
    """
    table = label_table(labels, n_rows, name)
    if table.shape[1] > 1:
        return group_names(table)
    values = table.iloc[:, 0].to_numpy()
    try:
        np.unique(values)
    except TypeError:  # labels of several kinds, such as numbers and texts, have no order
        return values.astype(str)
    return values


def refuse_missing(labels: Any, name: str) -> None:
    """Refuse labels if some are missing.

    Parameters
    ----------
    labels : array-like of shape (n_rows,) or (n_rows, n_columns), Series or DataFrame
    name : str
        Name of the argument, for messages.

    Raises
    ------
    ValueError
        If a label is NaN, None, NaT or pandas' NA; the message names the rows.
    """
    _refuse_text(labels, name)
    pd = _pandas()
    labels = _as_pandas(labels)
    if not isinstance(labels, (pd.Series, pd.DataFrame)):
        # numpy would make the text 'nan' of a NaN in a list of texts
        labels = np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)
    gone = np.asarray(pd.isna(labels))
    rows = np.flatnonzero(gone.reshape(len(gone), -1).any(axis=1))
    if len(rows):
        raise ValueError(
            f"{name}: {len(rows):,} rows have a missing label (NaN or None): {some_rows(rows)}. "
            "Give them their own label, such as labels.fillna('missing'), or leave those rows out."
        )


def _refuse_text(labels: Any, name: str) -> None:
    """Refuse the name of a column in place of the column."""
    if isinstance(labels, str):
        raise ValueError(
            f"{name}: got the text {labels!r}; accepted is one label for each row. Give the column "
            f"itself, such as X[{labels!r}]."
        )


def group_names(table: Any) -> np.ndarray:
    """A name for each row, the values of its columns: ``"a"``, or ``"sex=1, age=30-39"``.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of object of shape (n_rows,)
    """
    if table.shape[1] == 1:
        return table.iloc[:, 0].astype(str).to_numpy(dtype=object)
    parts = [f"{name}=" + table[name].astype(str) for name in table.columns]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + ", " + part
    return joined.to_numpy(dtype=object)


def named_groups(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Groups of a table's rows, in the order of their values.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    positions : ndarray of int64 of shape (n_rows,)
    names : ndarray of object of shape (n_groups,)
    """
    names = group_names(table)
    if table.shape[1] == 1:
        column = table.iloc[:, 0]
        values = column.astype(str) if column.dtype == object else column
        positions, _ = encode_labels(values.to_numpy())
    else:
        positions = table.groupby(list(table.columns), observed=True).ngroup().to_numpy()
    distinct = np.empty(positions.max() + 1, dtype=object)
    distinct[positions] = names
    return positions.astype(np.int64), distinct


def encode_labels(labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Positions of labels among the distinct ones, in their order.

    Returns
    -------
    positions : ndarray of int64 of shape (n_rows,)
    distinct : ndarray
    """
    distinct, positions = np.unique(np.asarray(labels), return_inverse=True)
    return positions.astype(np.int64), distinct
