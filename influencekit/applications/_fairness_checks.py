"""Checks of what a fairness gap is computed from: nothing that cannot be counted is counted."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from influencekit.groups._labels import group_values, refuse_missing
from influencekit.metrics._text import some_rows
from influencekit.utils._arguments import real_array

__all__ = ["check_groups", "check_probabilities", "check_threshold", "positive_rows"]


def check_probabilities(values: Any) -> np.ndarray:
    """Probabilities as float64 numbers between 0 and 1.

    Raises
    ------
    ValueError
        If one is NaN, or outside of [0, 1]; the message names the rows.
    """
    given = real_array("probabilities", values)
    unknown = np.flatnonzero(np.isnan(given))
    if len(unknown):
        raise ValueError(
            f"probabilities: NaN in {len(unknown):,} of {given.size:,} rows: {some_rows(unknown)}. "
            "Accepted are numbers between 0 and 1. The model has probably diverged: train it with "
            "a smaller learning rate or scaled features."
        )
    outside = np.flatnonzero((given < 0) | (given > 1))
    if len(outside):
        raise ValueError(
            f"probabilities: {len(outside):,} of {given.size:,} rows are outside of [0, 1]: "
            f"{some_rows(outside)}; the first one is {given.flat[outside[0]]:.6g}. Accepted are "
            "probabilities of the positive class, such as predict_proba(X)[:, 1]."
        )
    return given


def check_groups(sensitive: Any, n_rows: int) -> np.ndarray:
    """Groups of people as an array, two of them or more.

    Raises
    ------
    ValueError
        If a group is missing (NaN, None), or all rows are of one group.
    """
    groups = group_values(sensitive, n_rows, "sensitive")
    distinct = np.unique(groups)
    if len(distinct) < 2:
        raise ValueError(
            f"sensitive: holds the one group {distinct.tolist()}; a gap compares two or more. Give "
            "the group of each row, from rows of several groups."
        )
    return groups


def check_threshold(threshold: Any) -> None:
    """Refuse anything but None and numbers between 0 and 1."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= float(threshold) <= 1):
        raise ValueError(
            f"threshold: got {threshold!r}; accepted are None, which takes the mean probability, "
            "and numbers between 0 and 1."
        )


def positive_rows(y: Any, positive: Any) -> np.ndarray:
    """1 for rows of the positive class, 0 for the others.

    Raises
    ------
    ValueError
        If a label is missing, or neither 0 nor 1 and ``positive`` is None, or that is not a label.
    """
    refuse_missing(y, "y")
    labels = np.asarray(y)
    found = np.unique(labels).tolist()
    if positive is None:
        if not set(found) <= {0, 1}:
            raise ValueError(
                f"y: got the labels {found[:5]}; accepted are 0 and 1. Or say which of them is the "
                f"positive class: positive={found[-1]!r}."
            )
        positive = 1
    elif positive not in found:
        raise ValueError(f"positive: got {positive!r}; accepted is one of the labels {found[:5]}.")
    return (labels == positive).astype(int)
