"""Predictions of a Task, to check that it reproduces its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.models._task import Task
from influencekit.utils._long_work import chunks

__all__ = [
    "decision_function",
    "has_several_labels",
    "model_outputs",
    "predict",
    "predict_proba",
    "predicted_labels",
]


@torch.no_grad()
def model_outputs(task: Task, X: Any, batch_size: int = 1024) -> Tensor:
    """Natural outputs of raw inputs.

    Parameters
    ----------
    task : Task
    X : array-like, DataFrame, sparse matrix, Tensor, or a dict or tuple of these
        Raw inputs, as for the fitted model.
    batch_size : int, default=1024

    Returns
    -------
    Tensor of shape (n, n_outputs)
    """
    X = X if task.transform is None else task.transform(X)
    return torch.cat([task.forward(batch) for batch in _batches(task, X, batch_size)])


def predict(task: Task, X: Any) -> np.ndarray:
    """Predicted label, or value, of every example.

    Parameters
    ----------
    task : Task
    X : see :func:`model_outputs`

    Returns
    -------
    ndarray of shape (n,), or (n, n_outputs) for several values an example
    """
    return predicted_labels(task, model_outputs(task, X))


def predicted_labels(task: Task, outputs: Tensor) -> np.ndarray:
    """Predicted label, or value, of every example from its natural outputs; see :func:`predict`.

    Parameters
    ----------
    task : Task
    outputs : Tensor of shape (n, n_outputs)

    Returns
    -------
    ndarray of shape (n,), or (n, n_outputs) for several values an example
    """
    if task.problem_type != "classification":
        return _array(task.loss.prediction(outputs))
    if has_several_labels(task, outputs):
        return task.loss.predicted_targets(outputs).cpu().numpy().astype(int)
    positions = task.loss.predicted_positions(outputs).cpu().numpy()
    return positions if task.classes is None else np.asarray(task.classes)[positions]


def has_several_labels(task: Task, columns: Tensor) -> bool:
    """Whether the columns of outputs or targets are separate labels, not exclusive classes.

    Parameters
    ----------
    task : Task
    columns : Tensor of shape (n, n_columns)

    Returns
    -------
    bool
        False for one column, which is a binary classifier.
    """
    multilabel = getattr(task.loss, "multilabel", False)
    return multilabel and columns.ndim > 1 and columns.shape[1] > 1


def predict_proba(task: Task, X: Any) -> np.ndarray:
    """Probability of every class; see :func:`predict`.

    Parameters
    ----------
    task : Task
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n, n_classes)

    Raises
    ------
    TypeError
        If the model does not define probabilities.
    """
    return task.loss.predict_proba(model_outputs(task, X)).cpu().numpy()


def decision_function(task: Task, X: Any) -> np.ndarray:
    """Raw scores of every example.

    Parameters
    ----------
    task : Task
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n,) for a single output column, else (n, n_outputs)
    """
    return _array(model_outputs(task, X))


def _array(outputs: Tensor) -> np.ndarray:
    outputs = outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
    return outputs.cpu().numpy()


def _batches(task: Task, X: Any, batch_size: int) -> Iterator[Any]:
    for rows in chunks(_length(X), 1, batch_size):
        yield _part(task, X, rows)


def _length(X: Any) -> int:
    if isinstance(X, Mapping):
        return _length(next(iter(X.values())))
    if isinstance(X, tuple):
        return _length(X[0])
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _part(task: Task, X: Any, rows: slice) -> Any:
    """Rows of X as tensors on the task's device, floats in its dtype."""
    if isinstance(X, Mapping):
        return {key: _part(task, value, rows) for key, value in X.items()}
    if isinstance(X, tuple):
        return tuple(_part(task, value, rows) for value in X)
    part = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    part = part.toarray() if hasattr(part, "toarray") else part
    tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
    integers = not tensor.is_floating_point() and not _reads_numbers(task)
    return tensor.to(task.device, torch.long if integers else task.input_dtype)


def _reads_numbers(task: Task) -> bool:
    """Whether the model is from scikit-learn, which reads every feature as a number."""
    return type(task.estimator).__module__.startswith("sklearn.")
