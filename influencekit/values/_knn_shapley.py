"""Exact Shapley values of nearest neighbors' votes."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._outputs import predicted_targets
from influencekit.models._plain_task import plain_task
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks
from influencekit.utils.validation import Interval
from influencekit.values._matrix import class_numbers, matrix_of, warn_unweighted

__all__ = ["KNNShapley"]

#: Distances held at a time, in numbers.
_CHUNK = 2**23
#: Metrics that squares of the features are added up for, which lose what is small beside a mean.
_MOVED = ("euclidean", "l2", "sqeuclidean")


class KNNShapley(BaseAttributor):
    """Exact Shapley value of each row in the vote of a query's nearest neighbors.

    The model is not asked, except for its data and its transforms: a subset of rows answers a query
    by the share of its K nearest rows that have the query's class, or by minus the squared error
    of their mean.

    Parameters
    ----------
    n_neighbors : int, default=5
        K.
    metric : str or callable, default="euclidean"
        Distance between rows, as :func:`sklearn.metrics.pairwise_distances` takes it.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    n_train_ : int
    train_rows_ : ndarray of int

    See Also
    --------
    Shapley : Of the model itself, by retraining.

    Notes
    -----
    Distances are those of the features as the model takes them: behind a Pipeline's steps, so a
    StandardScaler in it counts.  Numbers are counted from the mean of the training targets, which
    is what no rows say; where fewer than K rows are there, each still counts 1/K.  The scores of a
    query sum to what all rows say, less what none say.  Of equally distant rows the first one is
    nearer; equal rows stand together, and have one value.  Every row has one vote, whatever its
    ``sample_weight``.

    Cost: the distances, and a sort for each query, ``O(n log n)``.

    References
    ----------
    .. [1] R. Jia, D. Dao, B. Wang, F. A. Hubis, N. M. Gurel, B. Li, C. Zhang, C. J. Spanos,
       D. Song. Efficient task-specific data valuation for nearest neighbor algorithms. VLDB 2019,
       arXiv 1908.08619.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from influencekit.values import KNNShapley
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SVC().fit(X, y)
    >>> KNNShapley().fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [str, callable],
    }

    def __init__(self, n_neighbors: int = 5, *, metric: Any = "euclidean"):
        self.n_neighbors = n_neighbors
        self.metric = metric

    def _task_of(self, model: Any) -> Task:
        return plain_task(model)

    def _fit(self, task: Task, train: Examples) -> Neighbors:
        warn_unweighted(train, "by KNNShapley, whose neighbors have one vote each")
        return Neighbors(task, train, self.n_neighbors, self.metric)


class Neighbors(Fitted):
    """Training rows and what they vote for.

    Parameters
    ----------
    task : Task
    train : Examples
    n_neighbors : int
    metric : str or callable
    """

    def __init__(self, task: Task, train: Examples, n_neighbors: int, metric: Any):
        self.task, self.n_neighbors, self.metric = task, n_neighbors, metric
        y = _votes(task, train.targets)
        # equal rows are at the same distance, which products of many rows round differently
        self.X, place = _distinct(matrix_of(train))
        # rows that are equal stand together, where the first of them is
        pairs = np.column_stack([place, y])
        _, first, group = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
        self.rows = np.argsort(first[group.ravel()], kind="stable")
        self.y, self.place = y[self.rows], place[self.rows]
        # a value of each column, so that differences of whole numbers stay exact
        self.origin = np.quantile(self.X, 0.5, axis=0, method="lower")

    def scores(self, queries: Examples) -> np.ndarray:
        targets = queries.targets
        targets = self._predicted(queries) if targets is None else targets
        X, y = matrix_of(queries), _votes(self.task, targets)
        found = np.empty((len(X), len(self.y)))
        for rows in chunks(len(X), len(self.y), _CHUNK):
            found[rows] = self._values(X[rows], y[rows])
        return found

    def _predicted(self, queries: Examples) -> Any:
        with torch.no_grad():
            parts = [
                predicted_targets(self.task, self.task.forward(batch.inputs))
                for batch in queries.batches(1024)
            ]
        return torch.cat(parts)

    def _values(self, X: NDArray, y: NDArray) -> NDArray:
        distances = self._distances(X)
        order = np.argsort(distances, axis=1, kind="stable")
        if self.task.problem_type == "classification":
            values = _of_votes(self.y[order] == y[:, None], self.n_neighbors)
        else:
            center = self.y.mean()
            values = _of_numbers(self.y[order] - center, y - center, self.n_neighbors)
        found = np.empty_like(values)
        np.put_along_axis(found, self.rows[order], values, axis=1)
        return found

    def _distances(self, X: NDArray) -> NDArray:
        """Distances (m, n), which are numbers whatever the metric is."""
        origin = self.origin if self.metric in _MOVED else 0.0
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # looked at below
                found = pairwise_distances(X - origin, self.X - origin, metric=self.metric)
        except (TypeError, ValueError) as error:
            if not callable(self.metric):
                raise
            raise ValueError(
                f"metric: the function does not return a number for two rows ({error}); accepted "
                "is metric(a, b) -> float."
            ) from error
        if np.isfinite(found).all():
            return found[:, self.place]
        raise ValueError(
            f"metric: {self.metric!r:.80} gives distances that are not finite numbers, between "
            "which no row is nearest; accepted are metrics that are defined for these rows. Scale "
            "the features, for instance by a StandardScaler in a Pipeline, or take another metric."
        )


def _distinct(X: NDArray) -> tuple[NDArray, NDArray]:
    """Rows that differ, and the place of each row among them."""
    X = np.ascontiguousarray(X) + 0.0  # one zero
    whole = X.view(np.dtype((np.void, X.itemsize * X.shape[1]))).ravel()
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    return X[first], place


def _votes(task: Task, targets: Any) -> NDArray:
    """Class position or number of every row."""
    if task.problem_type == "classification":
        return class_numbers(targets)
    numbers = targets.detach().cpu().double().numpy()
    if numbers.size != len(numbers):
        raise UnsupportedModelError(
            f"y: got {numbers.shape[1]} numbers an example; KNNShapley accepts one class or one "
            "number. Fit it on one column at a time."
        )
    return numbers.reshape(-1)


def _from_farthest(last: NDArray, steps: NDArray) -> NDArray:
    """Values, nearest first, from that of the farthest and each row's step above the next."""
    return np.cumsum(np.column_stack([last, steps[:, ::-1]]), axis=1)[:, ::-1]


def _of_votes(right: NDArray, k: int) -> NDArray:
    """Values of the share of right votes, nearest first.

    ``s_n = right_n / max(k, n)`` and ``s_i - s_(i+1) = (right_i - right_(i+1)) min(k, i) / (k i)``.
    """
    right = right.astype(float)
    n = right.shape[1]
    i = np.arange(1, n)
    steps = (right[:, :-1] - right[:, 1:]) * np.minimum(k, i) / (k * i)
    return _from_farthest(right[:, -1] / max(k, n), steps)


def _of_numbers(y: NDArray, target: NDArray, k: int) -> NDArray:
    """Values of ``-(sum of the k nearest / k - target)²``, nearest first.

    Two neighboring rows i and i + 1 differ where fewer than k nearer rows are there, by
    ``-(y_i - y_(i+1)) / k * ((y_i + y_(i+1) + 2 A) / k - 2 target)`` with A the sum of the other
    k - 1 nearest.  Means are over subsets of the others of uniform size.
    """
    n = y.shape[1]
    t = target[:, None]
    i = np.arange(1, n)
    m = np.minimum(k, i)
    nearer = np.cumsum(y, axis=1)[:, :-1] - y[:, :-1]
    others = nearer * (m * (m - 1) / (2 * i * np.maximum(i - 1, 1))) + _farther(y, k)
    both = y[:, :-1] + y[:, 1:]
    steps = -(y[:, :-1] - y[:, 1:]) / k * ((m / i) * (both / k - 2 * t) + 2 * others / k)
    few = min(k, n)
    before = (y.sum(1) - y[:, -1]) * (few * (few - 1) / (2 * n * max(n - 1, 1)))
    last = -y[:, -1] / k * ((few / n) * (y[:, -1] / k - 2 * target) + 2 * before / k)
    return _from_farthest(last, steps)


def _farther(y: NDArray, k: int) -> NDArray:
    """Mean sum of those of the k - 1 nearest others that are farther than i + 1, by i."""
    n = y.shape[1]
    place = np.arange(3, n + 1)
    few = np.minimum(k - 1, place - 2)
    weighted = y[:, 2:] * (few * (few + 1) / (2 * (place - 1) * (place - 2)))
    after = np.cumsum(weighted[:, ::-1], axis=1)[:, ::-1]
    return np.column_stack([after, np.zeros(len(y))])
