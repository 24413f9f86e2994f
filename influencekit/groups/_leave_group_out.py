"""The effect of retraining without a group: the ground truth of group scores."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import is_regressor
from torch import Tensor

from influencekit.data._examples import open_examples
from influencekit.data._targets import label_positions
from influencekit.groups._labels import label_table, named_groups
from influencekit.groups._properties import check_property, one_finite_number, resolve_property
from influencekit.metrics._text import not_finite_text
from influencekit.models._estimator_outputs import (
    gives_probabilities,
    has_gradients,
    label_probability,
)
from influencekit.models._task import as_task
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.training.subsets._retrain import Retraining
from influencekit.utils._torch import with_gradients

__all__ = ["GroupLeaveOut", "leave_group_out"]


@dataclass(frozen=True, eq=False)
class GroupLeaveOut:
    """Outputs of models retrained without a group.

    Attributes
    ----------
    full : ndarray of shape (n_repeats, n_test)
        Of models trained on all rows; n_test is 1 for a property.  NaN for a training that
        diverged and was kept.
    without : ndarray of shape (n_groups, n_repeats, n_test)
    names : ndarray of str of shape (n_groups,)
    sizes : ndarray of int of shape (n_groups,)
    """

    full: np.ndarray
    without: np.ndarray
    names: np.ndarray
    sizes: np.ndarray

    def __repr__(self) -> str:
        n_groups, n_repeats, n_test = self.without.shape
        return (
            f"GroupLeaveOut(n_groups={n_groups}, n_repeats={n_repeats}, n_test={n_test}"
            f"{not_finite_text(self.full, self.without)})"
        )

    @property
    def scores(self) -> np.ndarray:
        """Output of the full model minus that without the group, (n_test, n_groups).

        NaN where one of the trainings diverged.
        """
        return (self.full.mean(0) - self.without.mean(1)).T

    @property
    def scores_se(self) -> np.ndarray:
        """Standard error of ``scores`` over repeats, (n_test, n_groups); NaN for one repeat."""
        n = len(self.full)
        if n < 2:
            return np.full(self.scores.shape, np.nan)
        variances = self.full.var(0, ddof=1) + self.without.var(1, ddof=1)
        return np.sqrt(variances / n).T


@with_gradients
def leave_group_out(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any,
    groups: Any,
    *,
    property: Any = None,
    output: Any = "neg_loss",
    left_out: Any = None,
    sample_weight: Any = None,
    X_fit: Any = None,
    n_repeats: int = 3,
    engine: str = "auto",
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> GroupLeaveOut:
    """Retrain a model without each group.

    Parameters
    ----------
    model : estimator
        As for :func:`~influencekit.retrain_on_subsets`.
    X, y : array-like of shape (n_train, ...) and (n_train,)
    X_query, y_query : array-like of shape (n_test, ...) and (n_test,)
    groups : array-like of shape (n_train,) or (n_train, n_columns)
        Label of each row; for several columns, their combinations are the groups.
    property : {"mean_neg_loss"} or callable, default=None
        As for :class:`GroupAttributor`; None looks at ``output`` for each test row.  The outputs
        that a function gets of a classifier without gradients are logarithms of its
        ``predict_proba``.
    output : str or callable, default="neg_loss"
    left_out : str or iterable of str, default=None
        Names of the groups to leave out; None is all.
    sample_weight : array-like of shape (n_train,), default=None
        Weights that the model was fitted with; each retraining gets those of its rows.
    X_fit : array-like of shape (n_train, n_features), default=None
        Data that a Pipeline's last step was fitted on.
    n_repeats : int, default=3
        Trainings of each subset under different seeds.
    engine : {"auto", "stacked", "joblib"}, default="auto"
        See :func:`~influencekit.retrain_on_subsets`.
    on_nan : {"raise", "keep"}, default="raise"
        Whether a training that diverges is refused, with its group and seed named, or its
        outputs are NaN.
    cache_dir, n_jobs
        See :func:`~influencekit.retrain_on_subsets`.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        Show progress if above 0.

    Returns
    -------
    GroupLeaveOut
        Positive ``scores`` mark proponents: without them the output is lower.

    Raises
    ------
    ValueError
        If lengths disagree, a name is unknown, one group holds all rows, or a training
        diverged.

    Notes
    -----
    Cost: ``(1 + n_groups) · n_repeats`` trainings, stacked where the model allows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.groups import leave_group_out
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> truth = leave_group_out(model, X, y, X[:4], y[:4], X[:, 1] > 3, n_repeats=1)
    >>> truth.names, truth.scores.shape
    (array(['False', 'True'], dtype=object), (4, 2))
    """
    n = count_rows(X)
    positions, distinct = named_groups(label_table(groups, n, "groups"))
    left_out = [left_out] if isinstance(left_out, str) else left_out
    chosen = distinct if left_out is None else np.asarray(list(left_out), dtype=object)
    unknown = sorted(set(chosen) - set(distinct))
    if unknown:
        raise ValueError(
            f"left_out: there are no groups {unknown[:5]}; accepted are names among "
            f"{distinct[:10].tolist()}{' ...' if len(distinct) > 10 else ''}."
        )
    masks = np.ones((1 + len(chosen), n), dtype=bool)
    for row, name in enumerate(chosen, 1):
        masks[row] = distinct[positions] != name
    if not masks.any(axis=1).all():
        raise ValueError("groups: one group contains all rows, so nothing is left to train on.")
    names = ["all rows", *(f"without group {name!r}" for name in chosen)]
    how = Retraining(
        n_repeats, engine, cache_dir, n_jobs, on_nan, random_state, verbose, sample_weight, X_fit
    )
    retrain = partial(how.outputs, model, masks=masks, names=names)
    if property is None:
        found = retrain((X, y, X_query, y_query), output=output)
    else:
        found = _property_values(model, (X, y, X_query, y_query), property, retrain)
    sizes = (~masks[1:]).sum(1)
    return GroupLeaveOut(found[0], found[1:], chosen, sizes)


def _property_values(model: Any, data: tuple, given: Any, retrain: Callable) -> np.ndarray:
    """Property of every retrained model, (n_subsets, n_repeats, 1)."""
    if not has_gradients(model):
        return _estimator_property(model, data, given, retrain)
    task = as_task(model)
    queries = open_examples(task, *data[2:])
    function = resolve_property(task, given)
    with torch.no_grad():
        shape = task.forward(next(queries.batches(1)).inputs).shape
    if len(shape) > 2:
        raise ValueError(
            f"property: outputs of {task.name} have shape {tuple(shape)} an example; accepted are "
            "models with one row of outputs an example."
        )
    columns = _column_values(data, int(shape[1]), task, retrain)
    flat = columns.reshape(-1, *columns.shape[2:])
    values = [_property_value(function, outputs, queries.targets) for outputs in flat]
    return np.array(values).reshape(*columns.shape[:2], 1)


def _estimator_property(model: Any, data: tuple, given: Any, retrain: Callable) -> np.ndarray:
    """Property of models without gradients, whose outputs are what they predict."""
    check_property(given)
    if isinstance(given, str):
        return retrain(data, output="neg_loss").mean(axis=2, keepdims=True)
    columns, targets = _predicted_columns(model, data, retrain)
    flat = columns.reshape(-1, *columns.shape[2:])
    values = [_property_value(given, outputs, targets) for outputs in flat]
    return np.array(values).reshape(*columns.shape[:2], 1)


def _predicted_columns(model: Any, data: tuple, retrain: Callable) -> tuple[np.ndarray, Tensor]:
    """Logarithms of class probabilities, or predictions, of every retrained model; and targets."""
    X, y, X_query, y_query = data
    n = count_rows(X_query)
    if is_regressor(model):
        targets = torch.as_tensor(np.asarray(y_query, dtype=np.float64))[:, None]
        return retrain(data, output="prediction")[..., None], targets
    if not gives_probabilities(model):
        raise ValueError(
            f"property: class probabilities are needed, but {type(model).__name__} gives none. "
            "Accepted are classifiers with predict_proba, or property='mean_neg_loss'."
        )
    classes = np.unique(np.asarray(y))
    targets = torch.as_tensor(label_positions(y_query, classes, "y_query"))
    asked = take_rows(X_query, np.tile(np.arange(n), len(classes)))
    found = retrain((X, y, asked, np.repeat(classes, n)), output=label_probability)
    found = np.log(np.maximum(found, np.finfo(np.float64).tiny))
    found = found.reshape(*found.shape[:2], len(classes), n)
    return np.moveaxis(found, 2, 3), targets


def _property_value(function: Any, outputs: np.ndarray, targets: Any) -> float:
    """Property of one retrained model; NaN if it diverged, which only then is an answer."""
    if np.isnan(outputs).any():
        return float("nan")
    return float(one_finite_number(torch.as_tensor(function(torch.as_tensor(outputs), targets))))


def _column_values(data: tuple, width: int, task: Any, retrain: Callable) -> np.ndarray:
    """Natural outputs (n_subsets, n_repeats, n_test, width) of every retrained model.

    Test rows are asked once for each column, named by their targets, so that one training does.
    """
    X, y, X_query, y_query = data
    n = count_rows(X_query)
    if width == 1:
        targets, output = y_query, _first
    elif task.problem_type == "regression":
        targets, output = np.repeat(np.eye(width), n, axis=0), _weighted
    else:
        classes = np.arange(width) if task.classes is None else np.asarray(task.classes)
        targets, output = np.repeat(classes, n), _own_output
    asked = take_rows(X_query, np.tile(np.arange(n), width))
    outputs = retrain((X, y, asked, targets), output=output)
    return np.moveaxis(outputs.reshape(*outputs.shape[:2], width, n), 2, 3)


def _own_output(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.gather(1, targets.reshape(-1, 1).long())[:, 0]


def _weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs * targets).sum(1)


def _first(outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001  the form of an output function
    return outputs[:, 0]
