"""The contract of every attributor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from influencekit._members import member_clones
from influencekit._model_checks import (
    check_returned,
    check_scores,
    check_weights,
    learned_rows,
    reject_data_as_model,
)
from influencekit._top_k import smallest_k
from influencekit.data import Examples, ExamplesList, open_examples
from influencekit.models import Task, TaskList, as_task, is_model_list
from influencekit.utils import OutputContainerMixin, validate_parameters, with_gradients

__all__ = ["BaseAttributor"]

#: Scores held at a time by the streaming methods, in numbers.
_STREAM_SIZE = 2**25


class BaseAttributor(OutputContainerMixin, BaseEstimator, ABC):
    """Scores the influence of every training example on every test example.

    Method authors write ``_fit(task, train)`` and ``_score(queries)``; everything else is here,
    several models among it: each is fitted by itself and scores are averaged.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model; of the first of several.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.
    train_index_ : pandas.Index or None
        Labels of the training rows, where X or y had some.

    Notes
    -----
    Sign: a positive score marks a *proponent*, a training example without which the model is
    predicted to do worse on the test example; a negative one marks an opponent.
    """

    # The model is no sample-aligned metadata: keep it out of scikit-learn's routing.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"model": UNUSED}

    _parameter_constraints: ClassVar[dict[str, list]] = {}

    #: Fitted attributors of each model, after ``fit`` with several of them.
    _members: list | None = None
    task_: Task

    @abstractmethod
    def _fit(self, task: Task, train: Examples) -> None:
        """Learn from the training examples that the model learned from."""

    @abstractmethod
    def _score(self, queries: Examples) -> np.ndarray:
        """Scores (n_queries, n_train) for the examples given to ``_fit``."""

    def _self_influence(self) -> np.ndarray:
        """Self-influence (n_train,) of the examples given to ``_fit``."""
        raise NotImplementedError(f"{type(self).__name__} does not define self-influence.")

    def _combine(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """Scores of several models from those of each; they are averaged."""
        total, count = np.zeros(()), 0
        for part in parts:
            total, count = total + part, count + 1
        return total / count

    def _score_members(self, queries: ExamplesList) -> np.ndarray:
        """Scores (n_queries, n_train) of several models."""
        pairs = zip(self._members, queries, strict=True)
        return self._combine(member._all_scores(own) for member, own in pairs)

    def _clones(self, n_models: int) -> list[BaseAttributor]:
        """Unfitted copies, one for each of several models."""
        return member_clones(self, n_models)

    def _share_members(self, members: list[BaseAttributor]) -> None:
        """Set fitted attributes from those of a fitted attributor of each model."""

    @with_gradients
    def fit(self, model, X, y=None):
        """Learn what scoring needs from a fitted model and its training data.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Anything that :func:`~influencekit.as_task` takes.  It is left untouched.
            Scores of several models, trained on the same data, are averaged.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the model was trained on, as it was given to the model's ``fit``.
            Inputs are kept by reference and may be read again when scoring: do not change
            them in place.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
            Training targets; None where ``X`` is a Dataset or DataLoader that yields them.

        Returns
        -------
        self : object
        """
        task, train = self._open(model, X, y)
        if isinstance(train, ExamplesList):
            return self._fit_members(task, train)
        self._members = None
        self.train_rows_ = learned_rows(task, train)
        if len(self.train_rows_) < len(train):
            train = train.take(self.train_rows_)
        self._fit(task, train)
        return self

    def _fit_members(self, tasks: TaskList, train: ExamplesList):
        """Fit a copy of this attributor for each model."""
        pairs = zip(self._clones(len(tasks)), tasks, train, strict=True)
        self._members = [member.fit(task, examples) for member, task, examples in pairs]
        self.train_rows_ = np.unique(np.concatenate([m.train_rows_ for m in self._members]))
        self._share_members(self._members)
        return self

    def _open(self, model, X, y) -> tuple[Any, Any]:
        """Check what ``fit`` was given and remember what every attributor remembers.

        Returns a Task and Examples, or a TaskList and an ExamplesList.
        """
        many = is_model_list(model)
        if not many:
            reject_data_as_model(self, model, X)
        validate_parameters(self)
        opened: Any = TaskList.of(model) if many else as_task(model)
        for each in opened if many else [opened]:
            check_weights(each)
        train = open_examples(opened, X, y)
        self._opened = opened
        self.task_ = task = opened[0] if many else opened
        self.n_train_ = train.n_examples
        self.train_index_ = train.index
        if task.n_features_in is not None:
            self.n_features_in_ = task.n_features_in
        if task.feature_names_in is not None:
            self.feature_names_in_ = task.feature_names_in
        return opened, train

    @with_gradients
    def score(self, X, y=None) -> np.ndarray:
        """Score every training example for every test example.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
            Test targets.  None explains the model's own predictions.

        Returns
        -------
        scores : ndarray of shape (n_test, n_train)
            Positive marks a proponent.  Training rows that the model never learned from
            (held out for validation) score 0.
        """
        return self._all_scores(self._queries(X, y))

    @with_gradients
    def transform(self, X, y=None):
        """Scores under the name of scikit-learn's transformers; honours ``set_output``.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        scores : ndarray or DataFrame of shape (n_test, n_train)
            The index of a DataFrame is that of X, or else of y; its columns are
            :meth:`get_feature_names_out`.
        """
        queries = self._queries(X, y)
        scores = self._all_scores(queries)
        return scores if queries.index is None else self._with_index(scores, queries.index)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the score columns: the training rows' index labels, else ``train0``, ...

        They are texts.  The labels themselves, of several levels or of dates, are in
        ``train_index_``: ``scores.columns = attributor.train_index_``.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        names : ndarray of str objects of shape (n_train,)
        """
        check_is_fitted(self)
        if self.train_index_ is None:
            names = [f"train{i}" for i in range(self.n_train_)]
        else:
            names = [str(label) for label in self.train_index_]
        return np.asarray(names, dtype=object)

    @with_gradients
    def self_influence(self) -> np.ndarray:
        """Score of every training example on itself, with the loss as output.

        Returns
        -------
        scores : ndarray of shape (n_train,)
            Ready for ``pandas.Series(scores, attributor.train_index_)``.
        """
        check_is_fitted(self)
        if self._members is not None:
            return self._combine(member.self_influence() for member in self._members)
        return self._scatter(self._self_influence()[None])[0]

    @with_gradients
    def top_k(self, X, y=None, k: int = 10, *, opponents: bool = False):
        """Training examples with the highest scores, without holding the whole score matrix.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        k : int, default=10
        opponents : bool, default=False
            Take the lowest scores in place of the highest.

        Returns
        -------
        indices : ndarray of shape (n_test, k)
            Rows of the training data, strongest first; equal scores in row order.  Their names
            are ``attributor.get_feature_names_out()[indices]``.
        scores : ndarray of shape (n_test, k)
        """
        queries = self._queries(X, y)
        whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
        if not whole or not 1 <= k <= self.n_train_:
            raise ValueError(
                f"k: got {k!r}; accepted are integers from 1 to n_train={self.n_train_}."
            )
        sign = 1.0 if opponents else -1.0
        step = max(1, _STREAM_SIZE // self.n_train_)
        indices, values = [], []
        for start in range(0, queries.n_examples, step):
            scores = self._all_scores(queries.take(slice(start, start + step)))
            indices.append(smallest_k(sign * scores, k))
            values.append(np.take_along_axis(scores, indices[-1], axis=1))
        return np.concatenate(indices), np.concatenate(values)

    def _queries(self, X, y) -> Any:
        check_is_fitted(self)
        return open_examples(self._opened, X, y, require_y=False)

    def _all_scores(self, queries) -> np.ndarray:
        """Scores (n_queries, n_train) over all rows of the training data and all models."""
        if self._members is not None:
            scores = self._score_members(queries)
            check_scores(scores)
            return scores
        scores = self._score(queries)
        check_returned(self, scores, queries.n_examples)
        return self._scatter(scores)

    def _scatter(self, scores: np.ndarray) -> np.ndarray:
        """Columns of the training rows that the model learned from, among zeros for the rest."""
        check_scores(scores)
        if scores.shape[1] == self.n_train_:
            return scores
        full = np.zeros((len(scores), self.n_train_))
        full[:, self.train_rows_] = scores
        return full
