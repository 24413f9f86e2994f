"""Inner products of gradients of one model, the building block of first-order methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit._fitted import (
    gradient_engine,
    query_gradients,
    training_gradients,
    training_weights,
)
from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.models._task import Task

__all__ = ["FirstOrder"]


class FirstOrder(Fitted):
    """``-rate <∇f_i, ∇loss_j> w_j / mean(w)`` of queries and training examples.

    Parameters
    ----------
    attributor : attributor
        Provides the output, batch size, memory limit and progress bar.
    task : Task
    train : Examples
    rate : float, default=1.0
    """

    def __init__(self, attributor: Any, task: Task, train: Examples, rate: float = 1.0):
        self.output, self.rate = attributor.output, rate
        self.train = training_gradients(gradient_engine(attributor, task), train)
        weights = training_weights(task, train)
        self.weights = rate * weights / weights.mean()

    def scores(self, queries: Examples) -> np.ndarray:
        gradients = query_gradients(self.train.engine, self.output, queries)
        # -rate <∇f_i, ∇loss_j> w_j / mean(w)
        return (-gradients.dot(self.train) * self.weights).cpu().numpy()

    def self_scores(self) -> np.ndarray:
        """Weighted squared norm of every training gradient, (n_train,)."""
        # rate ‖∇loss_j‖² w_j / mean(w)
        return (self.train.squared_norms() * self.weights).cpu().numpy()
