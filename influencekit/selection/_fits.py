"""Fits of an attributor with many parameters, sharing factorisations."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.damping._grid import at_damping, damping_name
from influencekit.selection._scorer import SubsetPredictor

__all__ = ["FitCache"]


class FitCache:
    """Fitted copies of an attributor on one task and its training examples.

    Fits that differ only in the damping share one factorisation, the queries' gradients and
    the subsets' sums, where the attributor has a damping path.

    Parameters
    ----------
    attributor : attributor
    task : Task
    train, queries : Examples
    masks : ndarray of bool of shape (n_subsets, n_train)
    size : int, default=3
        Number of fits kept.
    """

    def __init__(self, attributor, task, train, queries, masks: np.ndarray, size: int = 3):
        self.attributor = attributor
        self.task = task
        self.train = train
        self.queries = queries
        self.masks = masks
        self.size = size
        self.damping = damping_name(attributor)
        self._predictors: OrderedDict[tuple, SubsetPredictor] = OrderedDict()

    def at(self, params: dict[str, Any]):
        """Fitted attributor with some parameters changed."""
        fitted = self._predictor(params).fitted
        if params.get(self.damping) is None:
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
