"""The partition of a GroupAttributor, and what those who hold one ask of it besides scores."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.groups._groupers import BaseGrouper, ClusterGrouper, LabelGrouper, RandomGrouper
from influencekit.groups._labels import label_table
from influencekit.groups._properties import named_properties
from influencekit.groups._whole_removal import removes_whole
from influencekit.models._task import Task, TaskList
from influencekit.utils._torch import with_gradients

__all__ = ["HeldGroups", "has_damping", "has_path", "partition"]


def partition(
    grouper: Any, task: Task, X: Any, y: Any, train: Examples, groups: Any = None
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Partition training rows by a grouper, or by labels that are given.

    Parameters
    ----------
    grouper : grouper, clusterer, transformer or None
    task : Task
    X, y : training data
    train : Examples or ExamplesList
        The same, opened.
    groups : array-like or None
        Labels, in place of a grouper.

    Returns
    -------
    grouper : fitted grouper or None
        None where each row is a group.
    labels : ndarray of int of shape (n_train,)
    names : ndarray of str of shape (n_groups,)

    Raises
    ------
    ValueError
        If there is not one label for each row.
    """
    if groups is not None:
        label_table(groups, train.n_examples, "groups")
        grouper = LabelGrouper(groups)
    elif grouper is not None and not isinstance(grouper, BaseGrouper):
        grouper = ClusterGrouper(grouper)
    n_rows, index = train.n_examples, train.index
    if grouper is None:
        labels = np.arange(n_rows)
        names = [f"train{i}" for i in labels] if index is None else map(str, index)
        return None, labels, np.array(list(names), dtype=object)
    counting = type(grouper) in (LabelGrouper, RandomGrouper)  # they only ask how many rows
    fitted = clone(grouper).fit(task, train if counting else each(X)[0], y)
    if fitted.labels_.shape != (n_rows,):
        raise ValueError(
            f"grouper: {type(fitted).__name__} gave {len(fitted.labels_):,} labels for {n_rows:,} "
            "training rows; it must give one label for each row."
        )
    return fitted, fitted.labels_, fitted.group_names_


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


#: Parameters that a fit and the scores after it must agree on.
AT_FIT = ("curvature", "property", "reduce", "removal_order")


class HeldGroups(BaseAttributor):
    """Sums over subsets of the training rows, and parts of several models."""

    attributor: Any
    attributor_: Any
    curvature: str
    reduce: str
    labels_: np.ndarray
    group_names_: np.ndarray
    group_sizes_: np.ndarray

    def _task_of(self, model: Any) -> Task:
        return self.attributor._task_of(model)

    @with_gradients
    def self_influence(self) -> np.ndarray:
        """Score of every example on itself, or of every group with ``curvature="groups"``.

        Returns
        -------
        scores : ndarray of shape (n_train,) or (n_groups,)
            Of examples as the attributor inside gives it.  Of a group, its score for the mean
            loss of its own rows, weighted as in training.
        """
        check_is_fitted(self, "fitted_")
        if self.curvature == "points":
            return self.attributor_.self_influence()
        scores = np.mean([fitted.self_scores() for fitted in self.fitted_], axis=0)
        return scores / self.group_sizes_ if self.reduce == "mean" else scores

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002  the name is scikit-learn's
        """Names of the groups.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str objects of shape (n_groups,)
        """
        check_is_fitted(self, "labels_")
        return self.group_names_

    def _read_models(self, model: Any, X: Any, y: Any) -> Task | TaskList:
        return self.attributor._read_models(model, X, y)

    def _queries(self, X: Any, y: Any) -> Examples | ExamplesList:
        check_is_fitted(self, "fitted_")
        changed = [name for name in AT_FIT if getattr(self, name) != self._at_fit[name]]
        if changed:
            raise ValueError(
                f"{changed[0]}: it is {getattr(self, changed[0])!r} now and was "
                f"{self._at_fit[changed[0]]!r} when this GroupAttributor was fitted, which it "
                "cannot take over. Call fit again."
            )
        return super()._queries(X, y)

    def _query_names(self, queries: Examples | ExamplesList) -> Any:
        if self.property is None:
            return super()._query_names(queries)
        return list(named_properties(self.property))

    def _remember(self) -> None:
        """What the fit depends on, and the scores as well."""
        self._at_fit = {name: getattr(self, name) for name in AT_FIT}
        self.__dict__.pop("property_value_", None)  # of an earlier fit

    def _measured(self, queries: Any) -> np.ndarray:
        """Scores (n_queries, n_groups) of further training: each row has its group's score."""
        inner, parts = self.attributor_, []
        for fitted, rows, own in zip(inner.fitted_, inner._rows, each(queries), strict=True):
            first = rows[np.unique(self.labels_[rows], return_index=True)[1]]
            points = inner._scores_of(fitted, rows, own)
            of_groups = np.zeros((len(points), len(self.group_names_)))
            of_groups[:, self.labels_[first]] = points[:, first]
            parts.append(of_groups)
        return inner._combine(sum(parts), len(parts))

    @property
    def _grouped(self) -> Any:
        return self

    @property
    def _by_rows(self) -> BaseAttributor:
        return self.attributor_ if self.curvature == "points" else self

    @property
    def _undamped(self) -> bool:
        return self.curvature == "points"  # the Fisher matrix of groups is singular

    @property
    def _asks_queries(self) -> bool:
        return getattr(self.attributor, "_asks_queries", False)

    @property
    def _adds_rows(self) -> bool:
        """Whether groups are sums of their rows' scores, so that subsets may part them."""
        points = self.curvature == "points" and not isinstance(self.attributor, FurtherTraining)
        return points and self.reduce == "sum" and not self._removes_whole

    @property
    def _removes_whole(self) -> bool:
        """Whether a group's score is a step of its own, not a sum over its rows."""
        held = getattr(self, "attributor_", self.attributor)  # searches ask before fit
        return self.curvature == "points" and removes_whole(held, self.removal_order)

    def _whole_groups(self, masks: np.ndarray) -> np.ndarray:
        """Groups that subsets of rows consist of, bool (n_subsets, n_groups), or an error."""
        why = "curvature='groups'" if self.curvature == "groups" else "reduce='mean'"
        if self.curvature == "points" and isinstance(self.attributor, FurtherTraining):
            why = "FurtherTraining"
        elif self._removes_whole:
            why = "removal_order='newton'"
        return whole_groups(masks, self.labels_, self.group_names_, f"GroupAttributor with {why}")

    def _subset_columns(self, masks: np.ndarray) -> np.ndarray:
        whole = self._whole_groups(masks).astype(np.float64)
        return whole * self.group_sizes_ if self.reduce == "mean" else whole

    def _path_columns(self, masks: np.ndarray) -> np.ndarray:
        if self.curvature == "groups":
            return self._whole_groups(masks)
        if not self._adds_rows:
            self._whole_groups(masks)
        return self.attributor_._path_columns(masks)

    def _subset_sums(self, queries: Examples | ExamplesList, masks: np.ndarray) -> np.ndarray:
        if self._adds_rows:
            return self.attributor_._subset_sums(queries, masks)
        return super()._subset_sums(queries, masks)

    def _first(self, n_models: int) -> Self | None:
        part = super()._first(n_models)
        if part is not None and self.curvature == "points":
            part.attributor_ = self.attributor_._first(n_models)
            return None if part.attributor_ is None else part
        return part


def has_damping(grouped: Any) -> bool:
    """Whether the damping can be changed after the fit."""
    return grouped.curvature == "groups" or hasattr(grouped.attributor, "set_damping")


def has_path(grouped: Any) -> bool:
    """Whether scores, or those of the examples that are summed, have a damping path."""
    check_is_fitted(grouped, "fitted_")
    if grouped.property is not None:
        return False
    return grouped.curvature == "groups" or hasattr(grouped.attributor_, "damping_path")
