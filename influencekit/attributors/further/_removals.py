"""The training rows that further training leaves out, from the user's arguments."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from influencekit.training.further._step import KEPT, Removals

__all__ = ["make_removals"]


def make_removals(
    left_out: Any, groups: Any, train_rows: np.ndarray, n_train: int
) -> tuple[Removals, np.ndarray]:
    """Rows to leave out, as positions among the rows that the model learned from.

    Parameters
    ----------
    left_out : int, array-like or None
    groups : array-like of shape (n_train,) or None
    train_rows : ndarray of int
        Rows of the training data that the model learned from.
    n_train : int

    Returns
    -------
    removals : Removals
    left_out : ndarray
        Row, or label of the group, of each column.
    """
    if len(train_rows) == 1:
        raise ValueError(
            "X: the model learned from one row, so without it nothing would be left to train on; "
            "accepted are at least two rows."
        )
    if groups is None:
        rows = _rows(left_out, train_rows, n_train)
        removal_of_row = np.full(n_train, KEPT, dtype=np.int64)
        removal_of_row[rows] = np.arange(len(rows))
        return Removals(removal_of_row[train_rows], len(rows)), rows
    labels = np.asarray(groups)
    if labels.shape != (n_train,):
        raise ValueError(
            f"groups: got shape {labels.shape} for {n_train:,} training rows; accepted is one "
            "label for each row."
        )
    labels = labels[train_rows]
    columns = _labels(left_out, np.unique(labels))
    position = {label: column for column, label in enumerate(columns.tolist())}
    removal_of_row = np.array(
        [position.get(label, KEPT) for label in labels.tolist()], dtype=np.int64
    )
    removals = Removals(removal_of_row, len(columns))
    if removals.sizes().max() == len(removal_of_row):
        raise ValueError(
            "groups: all rows that the model learned from have the same label, so nothing would "
            "be left to train on; accepted are at least two labels."
        )
    return removals, columns


def _spread(n: int, size: int, what: str) -> np.ndarray:
    """Evenly spread positions among ``n``."""
    if size > n:
        raise ValueError(f"left_out: got {size:,}, but there are {n:,} {what}.")
    return np.arange(size) * n // size


def _rows(left_out: Any, train_rows: np.ndarray, n_train: int) -> np.ndarray:
    if left_out is None:
        return train_rows.copy()
    if isinstance(left_out, Integral) and not isinstance(left_out, bool):
        what = "rows that the model learned from"
        return train_rows[_spread(len(train_rows), int(left_out), what)]
    rows = np.asarray(left_out)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not rows.size:
        raise ValueError(
            f"left_out: got {rows.dtype} of shape {rows.shape}; accepted is a number of rows, or "
            "a one-dimensional array of row positions. (Masks: np.flatnonzero(mask).)"
        )
    if rows.min() < 0 or rows.max() >= n_train:
        raise ValueError(
            f"left_out: positions run from {rows.min()} to {rows.max()}; accepted are 0 to "
            f"{n_train - 1}, the rows of the training data."
        )
    if len(np.unique(rows)) < len(rows):
        raise ValueError("left_out: some rows are given twice; give each once.")
    unknown = np.setdiff1d(rows, train_rows)
    if len(unknown):
        raise ValueError(
            f"left_out: row {unknown[0]} ({len(unknown)} in all) was held out when the model "
            "was trained, so it learned nothing from it; accepted are the rows in train_rows_."
        )
    return rows.astype(np.int64)


def _labels(left_out: Any, known: np.ndarray) -> np.ndarray:
    if left_out is None:
        return known
    if isinstance(left_out, Integral) and not isinstance(left_out, bool):
        return known[_spread(len(known), int(left_out), "groups")]
    labels = np.asarray(left_out)
    unknown = np.setdiff1d(labels, known)
    if labels.ndim != 1 or not labels.size or len(unknown):
        raise ValueError(
            f"left_out: got {labels.tolist()!r}; accepted beside groups is a number of groups or "
            "a list of their labels."
        )
    return np.unique(labels)
