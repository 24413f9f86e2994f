"""A partition of the training rows, and subsets that keep its groups whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.data import each
from influencekit.groups._groupers import BaseGrouper, ClusterGrouper, LabelGrouper
from influencekit.models import Task

__all__ = ["Partition", "partition", "whole_groups"]


@dataclass(frozen=True)
class Partition:
    """Groups of the training rows.

    Attributes
    ----------
    grouper : fitted grouper or None
        None where each row is a group.
    labels : ndarray of int of shape (n_train,)
    names : ndarray of str of shape (n_groups,)
    """

    grouper: Any
    labels: np.ndarray
    names: np.ndarray


def partition(
    grouper: Any, task: Task, X: Any, y: Any, n_rows: int, *, groups: Any = None, index: Any = None
) -> Partition:
    """Partition training rows by a grouper, or by labels that are given.

    Parameters
    ----------
    grouper : grouper, clusterer, transformer or None
    task : Task
    X, y : training data
    n_rows : int
    groups : array-like or None
        Labels, in place of a grouper.
    index : pandas.Index or None
        Names of the rows.

    Returns
    -------
    Partition

    Raises
    ------
    ValueError
        If there is not one label a row.
    """
    if groups is not None:
        grouper = LabelGrouper(groups)
    elif grouper is not None and not isinstance(grouper, BaseGrouper):
        grouper = ClusterGrouper(grouper)
    if grouper is None:
        labels = np.arange(n_rows)
        names = [f"train{i}" for i in labels] if index is None else map(str, index)
        return Partition(None, labels, np.array(list(names), dtype=object))
    fitted = clone(grouper).fit(task, each(X)[0], y)
    if fitted.labels_.shape != (n_rows,):
        raise ValueError(
            f"grouper: {type(fitted).__name__} gave {len(fitted.labels_):,} labels for {n_rows:,} "
            "training rows; it must give one label for each row."
        )
    return Partition(fitted, fitted.labels_, fitted.group_names_)


def whole_groups(masks: np.ndarray, labels: np.ndarray, names: np.ndarray, why: str) -> np.ndarray:
    """Groups that subsets of rows consist of.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)
    labels : ndarray of int of shape (n_train,)
    names : ndarray of str of shape (n_groups,)
    why : str
        What has only one score for each group, for the message.

    Returns
    -------
    ndarray of bool of shape (n_subsets, n_groups)

    Raises
    ------
    ValueError
        If a subset holds some rows of a group only.
    """
    sizes = np.bincount(labels, minlength=len(names))
    held = np.stack([np.bincount(labels[mask], minlength=len(names)) for mask in masks])
    split = (held > 0) & (held < sizes)
    if split.any():
        subset = int(np.flatnonzero(split.any(axis=1))[0])
        group = int(np.flatnonzero(split[subset])[0])
        raise ValueError(
            f"subset_outputs: {int(split.any(axis=1).sum()):,} of {len(masks):,} subsets split "
            f"groups (subset {subset} holds {held[subset, group]:,} of the {sizes[group]:,} rows "
            f"of {names[group]!r}), but {why} has one score for each group. Accepted are subsets "
            "of whole groups: let LDSSearch draw them, without subset_outputs, or give them to "
            "retrain_on_subsets as masks."
        )
    return held > 0
