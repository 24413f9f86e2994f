"""The contract of every attributor."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import starmap
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from influencekit._estimate import Estimates
from influencekit._fitted import (
    DampedFitted,
    Fitted,
    check_fitted,
    check_returned,
    check_scores,
    learned_rows,
    reject_data_as_model,
)
from influencekit._intervals import spread_of_models
from influencekit._seeded_copies import seeded_copies
from influencekit._sound_models import check_outputs_of, check_weights_of
from influencekit._tokens import token_scores
from influencekit._top_k import ListsStrongest
from influencekit.data._examples import Examples, ExamplesList, each, open_examples
from influencekit.data._inputs import check_same_length
from influencekit.data._mapped import MappedDataMixin
from influencekit.data._not_taken import same_columns
from influencekit.models._task import Task, TaskList, as_task, is_model_list
from influencekit.models.adapters.meta._calibrated import members_or_one
from influencekit.models.snapshot._chosen_layers import task_of_layers
from influencekit.utils._long_work import chunks
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import (
    OutputContainerMixin,
    SuggestingEstimator,
    validate_parameters,
)

__all__ = ["BaseAttributor", "DampedFitted", "Fitted"]

#: Number of scores that the streaming methods hold in memory at once.
_STREAM_SIZE = 2**25


class BaseAttributor(
    MappedDataMixin, ListsStrongest, Estimates, OutputContainerMixin, SuggestingEstimator, ABC
):
    """Scores the influence of every training example on every test example.

    An attributor is configuration.  Method authors write ``__init__``, which only stores
    parameters, ``_parameter_constraints``, which says what they accept, and ``_fit(task, train)``,
    which returns what was learned, a :class:`~influencekit.Fitted`.  Everything else is here,
    including several models: each is fitted by itself, and their scores are averaged.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model, or of the first of several models.
    fitted_ : list of Fitted
        What was learned from each model.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.
    train_index_ : pandas.Index or None
        Labels of the training rows, if X or y had an index.

    Notes
    -----
    Sign: a positive score marks a *proponent*, a training example without which the model is
    predicted to do worse on the test example; a negative one marks an opponent.
    """

    # The model is not sample-aligned metadata: keep it out of scikit-learn's routing.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"model": UNUSED}

    _parameter_constraints: ClassVar[dict[str, list]] = {}

    task_: Task
    fitted_: Sequence[Fitted]

    @abstractmethod
    def _fit(self, task: Task, train: Examples) -> Fitted:
        """Learn from one model and the training examples that it learned from."""

    def _combine(self, total: np.ndarray, n_models: int) -> np.ndarray:
        """Scores of several models from their sum: the mean."""
        return total if n_models == 1 else total / n_models

    def _for_each(self, n_models: int) -> list[Self]:
        """Unfitted configurations for several models, equal except for their random numbers."""
        return seeded_copies(self, n_models)

    def _task_of(self, model: Any) -> Task:
        """How a fitted model becomes a Task; tree methods read trees in their own way."""
        task, layers = as_task(model), getattr(self, "layers", None)
        return task if layers is None else task_of_layers(task, layers)

    @with_gradients
    def fit(
        self, model: Any, X: Any, y: Any = None, *, sample_weight: Any = None, X_fit: Any = None
    ) -> Self:
        """Learn what scoring needs from a fitted model and its training data.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Anything that :func:`~influencekit.as_task` accepts. The model is not changed.
            Scores of several models, trained on the same data, are averaged.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data given to the model's ``fit``. Inputs are kept by reference and may be read
            again when scoring: do not change them in place.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
            Training targets; None if ``X`` is a Dataset or DataLoader that yields them.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the model was fitted with.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline only: the data that its last step was fitted on. Needed if an earlier
            step's ``fit_transform`` is random and differs from its ``transform``.

        Returns
        -------
        self : object
        """
        models, train = self._open(model, X, y, sample_weight, X_fit)
        configured = [self] if isinstance(models, Task) else self._for_each(len(models))
        found, all_rows = [], []
        for one, task, examples in zip(configured, each(models), each(train), strict=True):
            rows = learned_rows(task, examples)
            one.n_train_, one.train_rows_ = len(examples), rows
            learned = examples if len(rows) == len(examples) else examples.take(rows)
            found.append(one._fit(task, learned))
            check_fitted(one, found[-1])
            all_rows.append(rows)
        self._keep(found, all_rows)
        return self

    def _keep(self, fitted: Sequence[Fitted], rows: Sequence[np.ndarray]) -> None:
        """Remember what was learned from each model, with the rows that it learned from."""
        self.fitted_, self._rows = fitted, rows
        self.train_rows_ = rows[0] if len(rows) == 1 else np.unique(np.concatenate(rows))

    def _first(self, n_models: int) -> Self | None:
        """A fit with only the first models, or None if models were not learned from one by one."""
        if isinstance(self._models, Task) or len(self.fitted_) < n_models:
            return None
        part = copy.copy(self)
        part._models = TaskList(self._models[:n_models])
        part._keep(self.fitted_[:n_models], self._rows[:n_models])
        return part

    def _read_models(self, model: Any, X: Any, _y: Any) -> Task | TaskList:
        """The model that ``fit`` was given; classes that hold an attributor read it."""
        if not is_model_list(model):
            reject_data_as_model(self, model, X)
            return members_or_one(model, self._task_of)
        return TaskList.of(map(self._task_of, model))

    def _open(
        self, model: Any, X: Any, y: Any, sample_weight: Any = None, X_fit: Any = None
    ) -> tuple[Task | TaskList, Examples | ExamplesList]:
        """Check the arguments of ``fit`` and store what every attributor stores."""
        validate_parameters(self)
        models = self._read_models(model, X, y)
        check_weights_of(models)
        train = _training_examples(models, X, y, X_fit).weighted(sample_weight)
        check_outputs_of(models, train)
        self._models, self.task_, self._given = models, each(models)[0], (X, y)
        self.n_train_, self.train_index_ = train.n_examples, train.index
        for name in ("n_features_in", "feature_names_in"):
            self.__dict__.pop(f"{name}_", None)  # of an earlier fit
            if getattr(self.task_, name) is not None:
                setattr(self, f"{name}_", getattr(self.task_, name))
        self.__dict__.pop("fitted_", None)  # from other data: a failed fit leaves none
        return models, train

    @with_gradients
    def score(self, X: Any, y: Any = None, *, by: str = "example", return_std: bool = False) -> Any:
        """Score every training example for every test example.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
            Test targets.  None explains the model's own predictions.
        by : {"example", "token"}, default="example"
            "token": one score for each token of the test texts (language models, taggers).
        return_std : bool, default=False
            Also return how far scores vary: for several models, the standard error of their mean;
            for :class:`~influencekit.InfluenceFunction` of a linear model, the standard deviation
            over samples of its training rows (a bootstrap by weights, without a refit).

        Returns
        -------
        scores : ndarray of shape (n_test, n_train), or (n_test, n_train, n_tokens)
            Positive marks a proponent. Training rows that the model never learned from (held out
            for validation) and tokens without a label score 0. Tokens sum to the text's score.
        std : ndarray of shape (n_test, n_train)
            With ``return_std=True``.
        """
        queries = self._queries(X, y)
        if by != "example":
            return token_scores(self, queries, by, return_std)
        scores = self._all_scores(queries)
        return (scores, self._all_stds(queries)) if return_std else scores

    @with_gradients
    def transform(self, X: Any, y: Any = None) -> Any:
        """Scores under the name of scikit-learn's transformers; honors ``set_output``.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        scores : ndarray or DataFrame of shape (n_test, n_train)
            A DataFrame has the index of X, or else of y; its columns are
            :meth:`get_feature_names_out`.
        """
        queries = self._queries(X, y)
        scores, names = self._all_scores(queries), self._query_names(queries)
        return scores if names is None else self._with_index(scores, names)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002  the name is scikit-learn's
        """Names of the score columns: the training rows' index labels, else ``train0``, ...

        The names are strings. The labels themselves, such as dates or several levels, are in
        ``train_index_``: ``scores.columns = attributor.train_index_``.

        Parameters
        ----------
        input_features : ignored
            Present for compatibility with scikit-learn.

        Returns
        -------
        names : ndarray of str objects of shape (n_train,)
        """
        check_is_fitted(self, "fitted_")
        labels = self.train_index_
        names = (f"train{i}" for i in range(self.n_train_)) if labels is None else map(str, labels)
        return np.asarray(list(names), dtype=object)

    @with_gradients
    def self_influence(self) -> np.ndarray:
        """Score of every training example on its own loss.

        Returns
        -------
        scores : ndarray of shape (n_train,)
            Ready for ``pandas.Series(scores, attributor.train_index_)``.
        """
        check_is_fitted(self, "fitted_")
        total: Any = 0.0
        for fitted, rows in zip(self.fitted_, self._rows, strict=True):
            total = total + self._spread(fitted.self_scores()[None], rows)[0]
        return self._combine(total, len(self.fitted_))

    def _query_names(self, queries: Examples | ExamplesList) -> Any:
        return queries.index

    def _score_blocks(
        self, queries: Examples | ExamplesList
    ) -> Iterator[tuple[Examples | ExamplesList, np.ndarray]]:
        """Slices of the queries with their scores."""
        for rows in chunks(queries.n_examples, self._columns()[0], _STREAM_SIZE):
            part = queries.take(rows)
            yield part, self._all_scores(part)

    def _column_blocks(self, queries: Examples | ExamplesList) -> Iterator[Iterator[np.ndarray]]:
        """Of slices of the queries, the scores of some training examples at a time, in order."""
        for rows in chunks(queries.n_examples, self._columns()[0], _STREAM_SIZE):
            yield self._by_columns(queries.take(rows))

    def _by_columns(self, queries: Examples | ExamplesList) -> Iterator[np.ndarray]:
        streams = all(hasattr(fitted, "column_blocks") for fitted in self.fitted_)
        whole = all(len(rows) == self.n_train_ for rows in self._rows)
        if not (streams and whole) or type(self)._all_scores is not BaseAttributor._all_scores:
            yield self._all_scores(queries)
            return
        models: Any = zip(self.fitted_, each(queries), strict=True)
        for blocks in zip(*(fitted.column_blocks(own) for fitted, own in models), strict=True):
            check_scores(total := reduce(np.add, blocks))
            yield self._combine(total, len(blocks))

    def _columns(self) -> tuple[int, str]:
        """Number of columns of the scores, and what to call it."""
        return self.n_train_, "n_train"

    @property
    def _grouped(self) -> Any:
        """The attributor that scores groups: this one or one that it holds, or None."""
        return None

    @property
    def _by_rows(self) -> BaseAttributor:
        """The attributor whose scores are not summed over groups, so that ξ is defined for it."""
        return self

    @property
    def _asks_queries(self) -> bool:
        """Whether ``fit`` needs examples beyond the training data."""
        return False

    @property
    def _undamped(self) -> bool:
        """Whether a damping of 0 is accepted, for methods with a damping."""
        return True

    def _subset_columns(self, masks: np.ndarray) -> np.ndarray:
        """Weights of the scores' columns in sums over subsets of the training rows."""
        return masks.astype(np.float64)

    def _path_columns(self, masks: np.ndarray) -> np.ndarray:
        """The same for the columns of the damping path."""
        return masks[:, self.train_rows_]

    def _subset_sums(self, queries: Examples | ExamplesList, masks: np.ndarray) -> np.ndarray:
        """Scores summed over subsets of the training rows, (n_queries, n_subsets)."""
        return self.score(queries) @ self._subset_columns(masks).T

    def _all_stds(self, queries: Examples | ExamplesList) -> np.ndarray:
        """Standard deviations (n_queries, n_train) of the scores."""
        return spread_of_models(self, queries)

    @property
    def _averages(self) -> bool:
        """Whether scores of several models are the mean of theirs."""
        own, base = type(self), BaseAttributor
        return own._combine is base._combine and own._all_scores is base._all_scores

    def _queries(self, X: Any, y: Any) -> Examples | ExamplesList:
        check_is_fitted(self, "fitted_")
        X = same_columns(X, self._given[0], self.task_)
        return open_examples(self._models, X, y, require_y=False)

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        """Scores (n_queries, n_train) over all rows of the training data and all models."""
        triples = zip(self.fitted_, self._rows, each(queries), strict=True)
        total = reduce(np.add, starmap(self._scores_of, triples))
        return self._combine(total, len(self.fitted_))

    def _scores_of(self, fitted: Fitted, rows: np.ndarray, queries: Examples) -> np.ndarray:
        scores = fitted.scores(queries)
        check_returned(fitted, scores, (len(queries), len(rows)))
        return self._spread(scores, rows)

    def _spread(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores of the rows that a model learned from, with 0 for the other rows."""
        check_scores(scores)
        if len(rows) == self.n_train_:
            return scores
        full = np.zeros((len(scores), self.n_train_))
        full[:, rows] = scores
        return full


def _training_examples(
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
    inner: Task | TaskList
    inner = TaskList(map(_last_step, task)) if isinstance(task, TaskList) else _last_step(task)
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
