"""What all values that are learned from trainings on subsets share."""

from __future__ import annotations

import os
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from influencekit.attributors.posterior._known_queries import (
    KnownQueries,
    check_subset_outputs,
    open_queries,
)
from influencekit.base import BaseAttributor, Fitted
from influencekit.data._examples import Examples, each
from influencekit.models._outputs import OUTPUTS
from influencekit.models._plain_task import plain_task
from influencekit.models._task import Task, is_model_list
from influencekit.models.losses._base import class_positions
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions
from influencekit.values._empty_model import EmptyModel
from influencekit.values._estimates import Estimate
from influencekit.values._trainings import Trainings

__all__ = ["CONSTRAINTS", "FromTrainings"]

#: Trainings between two looks at the error, where one is wanted.
ROUND = 20

#: Constraints of the parameters that all values from trainings share.
CONSTRAINTS: dict[str, list] = {
    "output": [StrOptions(set(OUTPUTS)), callable],
    "cache_dir": [str, os.PathLike, None],
    "n_jobs": [Integral, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

#: Constraints of those that choose how many trainings they take.
BUDGET: dict[str, list] = {
    "n_trainings": [Interval(Integral, 4, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="neither"), None],
}


class FromTrainings(BaseAttributor):
    """Scores of known queries from outputs of models trained on subsets of the rows.

    Authors write ``_draw(n_subsets, trainings)``, which subsets to train on next, or a ``_train``
    of their own, and ``_estimate(found, empty)``.
    """

    n_trainings: Any
    tol: Any
    output: Any
    cache_dir: Any
    n_jobs: Any
    random_state: Any
    verbose: Any

    @property
    def _repeats(self) -> int:
        """Trainings of each subset."""
        return 1

    @with_gradients
    def fit(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        X_query: Any = None,
        y_query: Any = None,
        subset_outputs: SubsetOutputs | None = None,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> Self:
        """Train on subsets of the rows, and learn the rows' values at the queries.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Anything that :func:`~influencekit.retrain_on_subsets` takes, fitted.  Of several the
            first one is retrained.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the model was trained on.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader
            The test examples whose scores are wanted.
        y_query : array-like, default=None
            Their targets, on which retrained models are compared.
        subset_outputs : SubsetOutputs or None, default=None
            Outputs of trainings at hand, on the same data and queries; nothing is trained.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the model was fitted with; retraining gets those of its rows.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline: what its last step was fitted on.

        Returns
        -------
        self : object
        """
        models, train = self._open(model, X, y, sample_weight, X_fit)
        queries = open_queries(models, X_query, y_query)
        first = model[0] if is_model_list(model) else model
        given = first, X, y, X_query, y_query
        empty = EmptyModel(*given, self._explained())
        if subset_outputs is None:
            more = {"sample_weight": sample_weight, "X_fit": X_fit}
            trainings = self._trainings(given, more, each(train)[0].targets, empty)
            subset_outputs = self._train(trainings)
        else:
            check_subset_outputs(subset_outputs)
            self._check_shape(subset_outputs, queries.n_examples)
        found = self._estimate(subset_outputs, empty)
        self.subset_outputs_, self.std_error_ = subset_outputs, found.errors
        known = KnownQueries(each(queries)[0], found.scores)
        self._keep([known], [np.arange(self.n_train_)])
        return self

    @abstractmethod
    def _estimate(self, found: SubsetOutputs, empty: EmptyModel) -> Estimate:
        """Scores and errors from trainings; refused where their subsets do not fit."""

    def _draw(self, n_subsets: int, trainings: Trainings) -> NDArray:
        """The next subsets, about as many as wanted."""
        raise NotImplementedError

    def _train(self, trainings: Trainings) -> SubsetOutputs:
        """Train in rounds until the error is as wanted, or the trainings are spent."""
        while (left := self.n_trainings - len(trainings.masks)) >= 2:
            wanted = left if self.tol is None else min(left, ROUND)
            trainings(self._draw(wanted, trainings))
            if self._exact_enough(trainings.together(), trainings.empty):
                break
        return trainings.together()

    def _exact_enough(self, found: SubsetOutputs, empty: EmptyModel) -> bool:
        if self.tol is None:
            return False
        error = self._estimate(found, empty).errors.mean()
        return bool(error <= self.tol)  # NaN while there are too few draws

    def _trainings(self, given: tuple, more: dict, targets: Any, empty: EmptyModel) -> Trainings:
        def retrain(masks: NDArray, seed: int) -> SubsetOutputs:
            return retrain_on_subsets(
                *given,
                **more,
                masks=masks,
                n_repeats=self._repeats,
                output=empty.output,
                cache_dir=self.cache_dir,
                n_jobs=self.n_jobs,
                random_state=seed,
                verbose=self.verbose,
            )

        classes = None
        if self.task_.problem_type == "classification" and targets is not None:
            classes = class_positions(targets).cpu().numpy()
        rng = check_random_state(self.random_state)
        return Trainings(retrain, self.n_train_, classes, empty, rng)

    def _check_shape(self, found: SubsetOutputs, n_query: int) -> None:
        got = found.masks.shape[1], found.outputs.shape[2]
        if got != (self.n_train_, n_query):
            raise ValueError(
                f"subset_outputs: got {got[0]} training rows and {got[1]} queries; accepted are "
                f"outputs for the rows of X and X_query, {self.n_train_} and {n_query}."
            )

    def _explained(self) -> Any:
        """The output that retrained models are asked for."""
        return "neg_loss" if isinstance(self.output, str) and self.output == "auto" else self.output

    def _task_of(self, model: Any) -> Task:
        return plain_task(model, categories=True)

    def _fit(self, _task: Task, _train: Examples) -> Fitted:
        raise TypeError(f"{type(self).__name__} learns from trainings on subsets.")

    @property
    def _asks_queries(self) -> bool:
        return True

    def _all_scores(self, queries: Any) -> np.ndarray:
        return self.fitted_[0].scores(each(queries)[0])
