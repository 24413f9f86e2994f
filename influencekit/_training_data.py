"""Examples of the training data, as given to ``fit``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from influencekit.data._examples import Examples, ExamplesList, open_examples
from influencekit.data._inputs import check_same_length
from influencekit.models._task import Task, TaskList

__all__ = ["training_examples"]


def training_examples(
    task: Task | TaskList, X: Any, y: Any, X_fit: Any = None
) -> Examples | ExamplesList:
    """Examples of the training data of one model, or of each of several.

    Parameters
    ----------
    task : Task or TaskList
    X, y : array-like
        The data given to the model's fit.
    X_fit : array-like of shape (n_train, n_features) or None, default=None
        What the last step of a Pipeline was fitted on.

    Returns
    -------
    Examples or ExamplesList
    """
    if X_fit is None:
        return open_examples(task, X, y, learned=True)
    if isinstance(task, TaskList):
        inner: Task | TaskList = TaskList(_last_step(one) for one in task)
    else:
        inner = _last_step(task)
    examples = open_examples(inner, X_fit, y, name="X_fit")
    if hasattr(X, "shape"):
        check_same_length({"X": X.shape[0], "X_fit": examples.n_examples})
    return examples


def _last_step(task: Task) -> Task:
    if task.transform is None:
        raise ValueError(
            f"X_fit: {task.name} is not a Pipeline, so it was fitted on X itself. Leave X_fit out."
        )
    return replace(task, transform=None, n_features_in=None, feature_names_in=None)
