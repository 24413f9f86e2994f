"""Inner products of gradients of one model: what first-order methods are made of."""

from __future__ import annotations

import torch

from influencekit.attributors._gradients import (
    gradient_engine,
    query_cotangent,
    training_weights,
)
from influencekit.base import Fitted
from influencekit.gradients import loss_cotangent

__all__ = ["FirstOrder"]


class FirstOrder(Fitted):
    """``-rate <∇f_i, ∇loss_j> w_j / mean(w)`` of queries and training examples.

    Parameters
    ----------
    attributor : attributor
        Gives output, batch size, memory and progress.
    task : Task
    train : Examples
    rate : float, default=1.0
    """

    def __init__(self, attributor, task, train, rate: float = 1.0):
        self.engine, self.output = gradient_engine(attributor, task), attributor.output
        self.train = train
        weights = training_weights(task, train)
        self.weights = rate * weights / weights.mean()

    def scores(self, queries):
        task = self.engine.task
        products = self.engine.dot(
            queries, query_cotangent(task, self.output, queries), self.train, loss_cotangent(task)
        )
        return (-products * self.weights).cpu().numpy()

    def self_scores(self):
        """Weighted squared norm of every training gradient, (n_train,)."""
        norms = self.engine.squared_norms(self.train, loss_cotangent(self.engine.task))
        return (norms.to(torch.float64) * self.weights).cpu().numpy()
