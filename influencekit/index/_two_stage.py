"""Two stages: a cheap index finds candidates among all rows, a dearer method orders them."""

from __future__ import annotations

import copy
from functools import singledispatch
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from influencekit._top_k import smallest_k
from influencekit.attributors.along_the_run._fitted_trajectory import FittedTrajectory
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.base import BaseAttributor, Fitted
from influencekit.curvature.iterative._conjugate_gradient import ConjugateGradientCurvature
from influencekit.data._examples import Examples, each
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, SuggestingEstimator, validate_parameters

__all__ = ["TwoStage"]


class TwoStage(SuggestingEstimator):
    """A cheap index finds candidates among all rows, and a dearer method orders them.

    Parameters
    ----------
    recall : AttributionIndex
        Finds the candidates.  A fitted one is used as it is, without ``fit`` reading all rows.
    rescore : attributor
        Scores the candidates: ``InfluenceFunction("cg")``, :class:`AdamWInfluence` or any other
        attributor of rows.
    n_candidates : int, default=100
        Candidates of each query.

    Attributes
    ----------
    recall_ : AttributionIndex
    rescore_ : attributor
        Both fitted.

    Notes
    -----
    A row that the index does not find cannot be returned: :meth:`recall_at_k` says how often that
    happens, at the price of scoring all rows.  "cg" and first-order methods compute products with
    the candidates only, and ``AdamWInfluence(removal_order="finite")`` replays only them; other
    methods score all rows and keep the candidates.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.index import AttributionIndex, TwoStage
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = AttributionIndex(InfluenceFunction(projection_dim=8, random_state=0), folder)
    ...     stages = TwoStage(index, InfluenceFunction("cg"), n_candidates=30).fit(model, X, y)
    ...     rows, scores = stages.top_k(X[:2], y[:2], k=3)
    >>> rows.shape
    (2, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "recall": [BaseAttributor],
        "rescore": [BaseAttributor],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
    }

    recall_: Any
    rescore_: Any

    def __init__(self, recall: Any, rescore: Any, *, n_candidates: int = 100):
        self.recall = recall
        self.rescore = rescore
        self.n_candidates = n_candidates

    @with_gradients
    def fit(
        self, model: Any, X: Any, y: Any = None, *, sample_weight: Any = None, X_fit: Any = None
    ) -> Self:
        """Fit both stages to one model and its training data.

        Parameters
        ----------
        model : fitted model, Task, or list of them
        X, y : array-like
            The data given to the model's ``fit``.
        sample_weight, X_fit : array-like, default=None
            As every attributor takes them.

        Returns
        -------
        self : object
        """
        validate_parameters(self)
        for name in ("recall", "rescore"):
            if getattr(self, name)._grouped is not None:
                raise ValueError(
                    f"{name}: got an attributor that scores groups; accepted is one of rows."
                )
        more = {"sample_weight": sample_weight, "X_fit": X_fit}
        known = hasattr(self.recall, "fitted_")
        self.recall_ = self.recall if known else clone(self.recall).fit(model, X, y, **more)
        self.rescore_ = clone(self.rescore).fit(model, X, y, **more)
        if self.recall_.n_train_ != self.rescore_.n_train_:
            raise ValueError(
                f"recall: its index has {self.recall_.n_train_:,} rows, and X has "
                f"{self.rescore_.n_train_:,}; accepted is an index of the same rows in this order."
            )
        return self

    @with_gradients
    def top_k(
        self, X: Any, y: Any = None, k: int = 10, *, opponents: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The strongest of the candidates, by the scores of the second stage.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        k : int, default=10
        opponents : bool, default=False
            Return the lowest scores instead of the highest.

        Returns
        -------
        indices : ndarray of shape (n_test, k)
        scores : ndarray of shape (n_test, k)
        """
        check_is_fitted(self, "rescore_")
        n = min(self.n_candidates, self.recall_.n_train_ - len(self._removed()))
        whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
        if not whole or not 1 <= k <= n:
            raise ValueError(f"k: got {k!r}; accepted are integers from 1 to n_candidates={n}.")
        candidates = np.sort(self.recall_.top_k(X, y, n, opponents=opponents)[0], axis=1)
        rows, places = np.unique(candidates, return_inverse=True)
        scores = self._rescored(X, y, rows)
        own = np.take_along_axis(scores, places.reshape(candidates.shape), axis=1)
        best = smallest_k(own if opponents else -own, int(k))
        taken = (np.take_along_axis(one, best, axis=1) for one in (candidates, own))
        indices, found = taken
        return indices, found

    def _removed(self) -> np.ndarray:
        return getattr(self.recall_, "removed_rows_", np.empty(0, dtype=np.int64))

    def _rescored(self, X: Any, y: Any, rows: np.ndarray) -> np.ndarray:
        """Scores (n_test, n_rows) of some rows by the second stage."""
        second = self.rescore_
        total: Any = 0.0
        queries = second._queries(X, y)
        if len(second.fitted_) > 1 or type(second)._all_scores is not BaseAttributor._all_scores:
            return second._all_scores(queries)[:, rows]
        for fitted, learned, own in zip(second.fitted_, second._rows, each(queries), strict=True):
            known = np.isin(rows, learned)
            found = np.zeros((len(own), len(rows)))
            found[:, known] = candidate_scores(fitted, own, np.searchsorted(learned, rows[known]))
            total = total + found
        return second._combine(np.asarray(total), 1)

    def recall_at_k(self, X: Any, y: Any = None, k: int = 10, *, opponents: bool = False) -> float:
        """Share of the second stage's strongest rows of all that two stages find, mean of queries.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        k : int, default=10
        opponents : bool, default=False

        Returns
        -------
        float
        """
        found = self.top_k(X, y, k, opponents=opponents)[0]
        scores = self.rescore_.score(X, y)
        scores[:, self._removed()] = np.inf if opponents else -np.inf
        exact = smallest_k(scores if opponents else -scores, int(k))
        pairs = zip(found, exact, strict=True)
        return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))


@singledispatch
def candidate_scores(fitted: Fitted, queries: Examples, rows: np.ndarray) -> np.ndarray:
    """Scores (n_queries, n_rows) of some training examples.

    Parameters
    ----------
    fitted : Fitted
    queries : Examples
    rows : ndarray of int
        Positions among the examples that the model learned from.

    Returns
    -------
    ndarray of shape (n_queries, n_rows)
    """
    return fitted.scores(queries)[:, rows]


@candidate_scores.register
def _(fitted: FirstOrder, queries: Examples, rows: np.ndarray) -> np.ndarray:
    some = copy.copy(fitted)
    some.train, some.weights = fitted.train.take(rows), fitted.weights[rows]
    return some.scores(queries)


@candidate_scores.register
def _(fitted: FittedInfluence, queries: Examples, rows: np.ndarray) -> np.ndarray:
    if type(fitted) is not FittedInfluence:
        return fitted.scores(queries)[:, rows]
    if not isinstance(fitted.curvature, ConjugateGradientCurvature):
        return fitted.scores(queries)[:, rows]
    some, solver = copy.copy(fitted), copy.copy(fitted.curvature)
    # the operator keeps all rows; only products are taken with some
    solver.problem = fitted.curvature.problem.take(torch.from_numpy(rows))
    some.curvature = solver
    return some.scores(queries)


@candidate_scores.register
def _(fitted: FittedTrajectory, queries: Examples, rows: np.ndarray) -> np.ndarray:
    return fitted.of_rows(queries, rows)
