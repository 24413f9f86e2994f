"""Inner products of gradients of one model, the building block of first-order methods."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
from torch import Tensor

from influencekit._fitted import (
    gradient_engine,
    query_gradients,
    training_gradients,
    training_weights,
)
from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks

__all__ = ["FirstOrder", "ProductsWithTraining"]

#: Bytes of training gradients that all fitted objects of this process may keep for later queries.
_ROOM = 2**29
#: Scores that are computed at a time where not all are asked for.
_BLOCK = 2**22
_KEPT: WeakSet[Gradients] = WeakSet()
#: Training gradients whose first batch may wait for a score: one at a time in a process.
_WAITING: WeakSet[Gradients] = WeakSet()
_KEPT_LOCK = Lock()


class ProductsWithTraining(Fitted):
    """Dot products of queries' gradients with the training gradients, kept where they are few.

    Parameters
    ----------
    train : Gradients
    output : str or callable
    """

    def __init__(self, train: Gradients, output: Any):
        self.train, self.output = train, output
        self._held: Gradients | None = None

    def products(self, queries: Examples) -> tuple[Gradients, Tensor]:
        """The queries' gradients, and their dot products with the training gradients, float64."""
        train, gradients = (
            self.held(),
            query_gradients(self.train.engine, self.output, queries, ahead=True),
        )
        return gradients, gradients.dot(train, products=self.train.sample.dtype)

    def held(self) -> Gradients:
        """The training gradients, kept for later queries if they fit."""
        if self._held is None:
            self._held = self._kept()
        return self._held

    def _kept(self) -> Gradients:
        room = min(_ROOM, self.train.engine.max_memory // 4)
        with _KEPT_LOCK:
            room -= sum(other.nbytes for other in _KEPT)
        held = self.train.held(room)
        if held.parts is not None:
            with _KEPT_LOCK:
                _KEPT.add(held)
        return held

    def __getstate__(self) -> dict:
        return {**vars(self), "_held": None}


class FirstOrder(ProductsWithTraining):
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
        engine = gradient_engine(attributor, task)
        super().__init__(_training_gradients(engine, train), attributor.output)
        self.rate = rate
        weights = training_weights(task, train)
        self.weights = rate * weights / weights.mean()

    def scores(self, queries: Examples) -> np.ndarray:
        return self._weighted(self.products(queries)[1], self.weights)

    def column_blocks(self, queries: Examples) -> Iterator[np.ndarray]:
        """Scores of some training examples at a time, in order."""
        n = len(self.weights)
        if n * len(queries) <= _BLOCK:
            yield self.scores(queries)
            return
        train, gradients = (
            self.held(),
            query_gradients(self.train.engine, self.output, queries, ahead=True),
        )
        gradients = gradients.held(self.train.engine.kept_memory)
        for rows in chunks(n, len(queries), _BLOCK):
            products = gradients.dot(train.take(rows), products=self.train.sample.dtype)
            yield self._weighted(products, self.weights[rows])

    def _weighted(self, products: Tensor, weights: Tensor) -> np.ndarray:
        # -rate <∇f_i, ∇loss_j> w_j / mean(w), in place
        return products.neg_().mul_(weights).cpu().numpy()

    def self_scores(self) -> np.ndarray:
        """Weighted squared norm of every training gradient, (n_train,)."""
        # rate ‖∇loss_j‖² w_j / mean(w)
        return (self.train.squared_norms() * self.weights).cpu().numpy()


def _training_gradients(engine: GradientEngine, train: Examples) -> Gradients:
    """Gradients of the training losses; of one model at a time, the first batch is kept."""
    with _KEPT_LOCK:
        ahead = not any(other.is_ahead for other in _WAITING)
    found = training_gradients(engine, train, ahead=ahead)
    with _KEPT_LOCK:
        _WAITING.add(found)
    return found
