"""Inner products of gradients of one model: what first-order methods are made of."""

from __future__ import annotations

import numpy as np
import torch

from influencekit.attributors._gradients import (
    gradient_engine,
    query_cotangent,
    training_weights,
)
from influencekit.gradients import loss_cotangent

__all__ = ["FirstOrder"]


class FirstOrder:
    """``-<∇f_i, ∇loss_j> w_j / mean(w)`` of queries and training examples.

    Parameters
    ----------
    attributor : attributor
        Gives batch size, memory and progress.
    task : Task
    train : Examples
    """

    def __init__(self, attributor, task, train):
        self.engine = gradient_engine(attributor, task)
        self.train = train
        weights = training_weights(task, train)
        self.weights = weights / weights.mean()

    def scores(self, queries, output) -> np.ndarray:
        """Scores (n_query, n_train) of an output."""
        task = self.engine.task
        products = self.engine.dot(
            queries, query_cotangent(task, output, queries), self.train, loss_cotangent(task)
        )
        return (-products * self.weights).cpu().numpy()

    def self_influence(self) -> np.ndarray:
        """Weighted squared norm of every training gradient, (n_train,)."""
        norms = self.engine.squared_norms(self.train, loss_cotangent(self.engine.task))
        return (norms.to(torch.float64) * self.weights).cpu().numpy()
