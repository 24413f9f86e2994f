"""Data-OOB: how well bagged models that did not draw a row answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples
from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user
from influencekit.models._plain_task import plain_task
from influencekit.models._task import Task
from influencekit.values._matrix import class_numbers, matrix_of, warn_unweighted

__all__ = ["DataOOB"]


class DataOOB(BaseAttributor):
    """Value of a row by the models of a forest or of bagging that did not draw it.

    ``score = mean over models without the row of T``, where T is 1 or 0 as the row's class is
    predicted or not, or minus the squared error of a number.  It is the same for every query, free
    of trainings, and tells rows with wrong labels from others.

    Attributes
    ----------
    std_error_ : ndarray of shape (n_train,)
        Standard errors of the values over the models.
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int

    See Also
    --------
    TreeInfluence : Explains single predictions of forests and boosted trees.
    Datamodel : Explains them by retraining.

    Notes
    -----
    Accepted are RandomForest, ExtraTrees with ``bootstrap=True``, BaggingClassifier and
    BaggingRegressor.  Any other estimator goes into the latter two.

    A row that every model drew has the mean of the other rows as value, with a warning.

    Cost: one prediction of every row by every model.

    References
    ----------
    .. [1] Y. Kwon, J. Zou. Data-OOB: out-of-bag estimate as a simple and efficient data value.
       ICML 2023, arXiv 2304.07718.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from influencekit.values import DataOOB
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomForestClassifier(random_state=0).fit(X, y)
    >>> DataOOB().fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    def __init__(self) -> None:
        pass

    def _task_of(self, model: Any) -> Task:
        task = plain_task(model)
        _check_bagged(task.estimator)
        return task

    def _fit(self, task: Task, train: Examples) -> OutOfBag:
        warn_unweighted(train, "by DataOOB, whose answers count alike")
        return _outside(task, matrix_of(train), train.targets)

    def _keep(self, fitted: Sequence[Any], rows: Sequence[np.ndarray]) -> None:
        super()._keep(fitted, rows)
        squares = sum(np.square(one.errors) for one in fitted)
        self.std_error_ = np.sqrt(squares) / len(fitted)


class OutOfBag(Fitted):
    """The same value of a row for every query.

    Parameters
    ----------
    values, errors : ndarray of shape (n_train,)
    """

    def __init__(self, values: np.ndarray, errors: np.ndarray):
        self.values, self.errors = values, errors

    def scores(self, queries: Examples) -> np.ndarray:
        return np.tile(self.values, (len(queries), 1))

    def self_scores(self) -> np.ndarray:
        return self.values.copy()


def _outside(task: Any, X: np.ndarray, targets: Any) -> OutOfBag:
    """Mean answer and its standard error over the models that did not draw each row."""
    model = task.estimator
    drawn = _drawn(model, len(X))
    y = class_numbers(targets) if task.problem_type == "classification" else targets.cpu().numpy()
    total, square, count = (np.zeros(len(X)) for _ in range(3))
    columns = getattr(model, "estimators_features_", None)
    for b, (one, rows) in enumerate(zip(model.estimators_, drawn, strict=True)):
        out = np.ones(len(X), dtype=bool)
        out[rows] = False
        if not out.any():
            continue
        found = one.predict(X[out] if columns is None else X[out][:, columns[b]])
        answer = _answer(found, y[out], task.problem_type)
        total[out] += answer
        square[out] += np.square(answer)
        count[out] += 1
    return _means(total, square, count)


def _answer(found: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    if kind == "classification":
        return (np.asarray(found).reshape(-1) == y).astype(float)
    return -np.square(np.asarray(found).reshape(len(y), -1) - y.reshape(len(y), -1)).sum(1)


def _means(total: np.ndarray, square: np.ndarray, count: np.ndarray) -> OutOfBag:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = total / count
        errors = np.sqrt(np.maximum(square / count - np.square(values), 0) / (count - 1))
    never = count == 0
    if never.any():
        warn_user(
            f"{int(never.sum()):,} of {len(count):,} rows were drawn by every model, so none can "
            "be asked without them; they get the mean of the other rows. Fit the model with more "
            "estimators.",
            InfluenceKitWarning,
        )
        values[never] = values[~never].mean() if not never.all() else 0.0
    return OutOfBag(values, errors)


def _drawn(model: Any, n: int) -> list[np.ndarray]:
    """Rows that each model learned from."""
    drawn = list(model.estimators_samples_)
    if max(int(rows.max()) for rows in drawn) >= n:
        raise ValueError(
            f"X: got {n:,} rows, but the model drew rows beyond them. Give the training data that "
            "it was fitted on."
        )
    return drawn


def _check_bagged(model: Any) -> None:
    """Refuse a model without parts that learned from rows of their own."""
    bagged = hasattr(model, "estimators_samples_") and hasattr(model, "estimators_")
    if not bagged or not getattr(model, "bootstrap", True):
        raise UnsupportedModelError(
            f"model: got {type(model).__name__}, which has no parts that learned from rows of "
            "their own, so that none can be asked without a row. Accepted: RandomForest, "
            "ExtraTrees with bootstrap=True, BaggingClassifier and BaggingRegressor. For other "
            "models fit BaggingClassifier(model, n_estimators=100) from sklearn.ensemble."
        )
