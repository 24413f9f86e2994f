"""Linear datamodeling score of fitted attributors, for searches and custom loops."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.damping._grid import at_damping, damping_name
from influencekit.groups._holders import refuse_property
from influencekit.metrics._lds import PreparedOutputs
from influencekit.selection._ground_truth import check_subset_outputs
from influencekit.training.subsets._subset_outputs import SubsetOutputs

__all__ = ["FitCache", "SubsetPredictor", "common_damping", "lds_scorer"]


class SubsetPredictor:
    """Scores of queries summed over subsets, from a fitted attributor.

    If the attributor has a damping path, gradients and masks are transformed to its eigenbasis
    once. Then every damping costs a small product, and the score matrix is never formed.

    Parameters
    ----------
    fitted : fitted attributor
    queries : Examples
    masks : ndarray of bool of shape (n_subsets, n_train)

    Attributes
    ----------
    path : DampingPath or None
        Damping path of the queries, if the attributor has one.
    """

    def __init__(self, fitted: Any, queries: Any, masks: np.ndarray):
        self.fitted = fitted
        self.queries = queries
        self.masks = masks
        self.path = self._sums = None
        if hasattr(fitted, "damping_path"):
            self.path = fitted.damping_path(queries)
            self._sums = self.path.subset_sums(fitted._path_columns(masks))

    def __call__(self, fitted: Any = None) -> np.ndarray:
        """Sums (n_queries, n_subsets), for the same fit at another damping if one is given."""
        fitted = self.fitted if fitted is None else fitted
        damping = common_damping(fitted)
        if self._sums is not None and damping is not None:
            return self._sums.at(damping)
        return fitted._subset_sums(self.queries, self.masks)


def common_damping(fitted: Any) -> float | None:
    """Damping of a fitted attributor; None if it has none or its models have different ones."""
    dampings = np.unique(getattr(fitted, "damping_", ()))
    return float(dampings[0]) if len(dampings) == 1 else None


def lds_scorer(subset_outputs: SubsetOutputs, correlation: str = "spearman") -> Callable:
    """Make a scorer ``scorer(fitted_attributor, X_query, y_query=None) -> LDS``.

    Parameters
    ----------
    subset_outputs : SubsetOutputs
        Ground truth, from :func:`influencekit.training.retrain_on_subsets`.
    correlation : {"spearman", "pearson"}, default="spearman"

    Returns
    -------
    callable
        The scorer, which returns the mean LDS over the queries as a float; higher is better.
    """
    check_subset_outputs(subset_outputs)
    truth = PreparedOutputs(subset_outputs.outputs, correlation)

    def scorer(attributor: Any, X_query: Any, y_query: Any = None) -> float:
        refuse_property(attributor, "lds_scorer")
        queries = attributor._queries(X_query, y_query)
        return truth.score(SubsetPredictor(attributor, queries, subset_outputs.masks)()).mean

    return scorer


class FitCache:
    """Fitted copies of an attributor on one task and its training examples.

    If the attributor has a damping path, fits that differ only in the damping share one
    factorization, the queries' gradients and the subsets' sums.

    Parameters
    ----------
    attributor : attributor
    task : Task
    train, queries : Examples
    masks : ndarray of bool of shape (n_subsets, n_train)
    size : int, default=3
        Number of fits kept.
    """

    def __init__(
        self, attributor: Any, task: Any, train: Any, queries: Any, masks: np.ndarray, size: int = 3
    ):
        self.attributor = attributor
        self.task = task
        self.train = train
        self.queries = queries
        self.masks = masks
        self.size = size
        self.damping = damping_name(attributor)
        self._predictors: OrderedDict[tuple, SubsetPredictor] = OrderedDict()

    def at(self, params: dict[str, Any]) -> Any:
        """Fitted attributor with some parameters changed."""
        fitted = self._predictor(params).fitted
        if self.damping is None or params.get(self.damping) is None:
            return fitted
        return at_damping(fitted, params[self.damping], self.task, self.train)

    def predict(self, params: dict[str, Any]) -> np.ndarray:
        """Subset sums (n_queries, n_subsets) with some parameters changed."""
        return self._predictor(params)(self.at(params))

    def _predictor(self, params: dict[str, Any]) -> SubsetPredictor:
        others = {name: value for name, value in params.items() if name != self.damping}
        key = tuple(sorted((name, repr(value)) for name, value in others.items()))
        if key not in self._predictors:
            fitted = clone(self.attributor).set_params(**others).fit(self.task, self.train)
            self._predictors[key] = SubsetPredictor(fitted, self.queries, self.masks)
        self._predictors.move_to_end(key)
        while len(self._predictors) > self.size:
            self._predictors.popitem(last=False)
        return self._predictors[key]
