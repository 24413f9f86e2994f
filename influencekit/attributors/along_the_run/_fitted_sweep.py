"""A replayed training run whose examples are scored step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit._fitted import Fitted
from influencekit.data._examples import Examples
from influencekit.models._outputs import predicted_targets, resolve_output
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._sweep import StepInfluence, StepScores
from influencekit.utils._long_work import chunks, held_memory, progress

__all__ = ["FittedSweep", "OutputGradients"]

Sweeps = Callable[["OutputGradients"], Iterator[StepInfluence]]


class OutputGradients:
    """Gradients of outputs at any parameters.

    Parameters
    ----------
    values : callable
        ``values(theta) -> Tensor (n_queries,)`` of parameters (p,).
    """

    def __init__(self, values: Callable[[Tensor], Tensor]):
        self.values = values

    def __call__(self, theta: Tensor) -> Tensor:
        """Gradients (n_queries, p) at parameters (p,)."""
        theta = theta.detach().requires_grad_(True)
        return _each(self.values(theta), theta)

    def blocks(self, theta: Tensor, size: int) -> Iterator[Tensor]:
        """The same, at most ``size`` gradients at a time."""
        theta = theta.detach().requires_grad_(True)
        values = self.values(theta)
        each = torch.eye(len(values), dtype=values.dtype, device=values.device)
        for some in each.split(size):
            yield torch.autograd.grad(
                values, theta, some, is_grads_batched=True, retain_graph=True
            )[0]

    def bent(self, theta: Tensor, vector: Tensor) -> Tensor:
        """Each output's Hessian at parameters (p,) times a vector (p,): (n_queries, p)."""
        theta = theta.detach().requires_grad_(True)
        found = self.values(theta)
        shares = torch.zeros_like(found, requires_grad=True)
        # Jᵀ s is linear in s: the derivative of <Jᵀ s, v> by s is J v
        pulled = torch.autograd.grad(found, theta, shares, create_graph=True)[0]
        slopes = torch.autograd.grad((pulled * vector).sum(), shares, create_graph=True)[0]
        return (
            _each(slopes, theta)
            if slopes.requires_grad
            else vector.new_zeros(len(found), len(vector))
        )


def _each(values: Tensor, theta: Tensor) -> Tensor:
    """Gradient of each of some values."""
    each = torch.eye(len(values), dtype=values.dtype, device=values.device)
    return torch.autograd.grad(values, theta, each, is_grads_batched=True)[0]


class FittedSweep(Fitted):
    """A recorded run with its data, replayed step by step.

    Parameters
    ----------
    attributor : RecordedRunAttributor
        Says what is explained, and the bounds of memory.
    train : Examples
    replay : Replay
    sweep : callable
        ``sweep(gradients)`` yields the :class:`StepInfluence` of each step, for outputs with
        :class:`OutputGradients`.
    """

    #: Numbers a parameter that a query takes in a sweep.
    n_tensors = 4

    def __init__(self, attributor: Any, train: Examples, replay: Replay, sweep: Sweeps):
        self.name, self.output = type(attributor).__name__, attributor.output
        self.batch_size = attributor.batch_size
        self.max_memory, self.verbose = attributor.max_memory, attributor.verbose
        self.train, self.replay, self.sweep = train, replay, sweep
        #: Coordinates of a query's adjoint.
        self.n_coordinates = replay.model.size

    def scores(self, queries: Examples) -> np.ndarray:
        return self._summed(queries, self.output)

    def step_scores(self, queries: Examples) -> StepScores:
        """Scores of every occurrence of a training example."""
        batches = self.replay.trajectory.batches
        sizes = [len(rows) for rows in batches]
        ends = np.cumsum(sizes)
        values = np.zeros((len(queries), int(ends[-1])))
        for rows, step in self._sweeps(self.sweep, queries, self.output):
            end = int(ends[step.step])
            values[rows, end - sizes[step.step] : end] = step.values.double().cpu().numpy()
        return StepScores(np.repeat(np.arange(len(sizes)), sizes), np.concatenate(batches), values)

    def _summed(self, queries: Examples, output: Any) -> np.ndarray:
        """Scores (n_queries, n_train), over all occurrences of an example."""
        return self._totals(self.sweep, queries, output)

    def _totals(self, sweep: Sweeps, queries: Examples, output: Any) -> np.ndarray:
        """Sums (n_queries, n_train) of a sweep's values over the steps that hold an example."""
        scores = torch.zeros(len(queries), self.replay.n_train, dtype=torch.float64)
        for rows, step in self._sweeps(sweep, queries, output):
            scores[rows].index_add_(1, step.rows.cpu(), step.values.double().cpu())
        return scores.numpy()

    def self_scores(self) -> np.ndarray:
        """Diagonal of the training examples' scores on their own losses."""
        found = np.zeros(len(self.train))
        size = self._queries_at_once(len(found))
        for some in chunks(len(found), 1, size):
            rows = np.arange(some.start, some.stop)
            found[rows] = self._own(rows)
        return found

    def _own(self, rows: np.ndarray) -> np.ndarray:
        """Scores of some training examples on their own losses."""
        return self._summed(self.train.take(rows), "neg_loss")[np.arange(len(rows)), rows]

    def _sweeps(
        self, sweep: Sweeps, queries: Examples, output: Any
    ) -> Iterator[tuple[slice, StepInfluence]]:
        """Rows of the queries, and the influence of each step on them: block after block."""
        size = self._queries_at_once(len(queries))
        blocks = list(chunks(len(queries), 1, size))
        for rows in progress(blocks, self.name, self.verbose, unit="sweep"):
            for step in sweep(self._gradients(queries.take(rows), output)):
                yield rows, step

    def _queries_at_once(self, n_queries: int) -> int:
        """Queries whose adjoints, and the activations that they are taken through, fit."""
        if self.batch_size is not None:
            return self.batch_size
        model = self.replay.model
        number = self.n_tensors * self.n_coordinates * torch.finfo(model.dtype).bits // 8
        return max(1, min(n_queries, held_memory(self.max_memory) // number))

    def _gradients(self, queries: Examples, output: Any) -> OutputGradients:
        return OutputGradients(self._outputs(queries, output))

    def _outputs(self, queries: Examples, output: Any) -> Callable[[Tensor], Tensor]:
        """Function from parameters (p,) to the output (n_queries,)."""
        model, task = self.replay.model, self.replay.model.task
        function = resolve_output(task, output, queries.targets is not None, finite=True)
        batch = next(queries.batches(len(queries)))
        targets = batch.targets
        if targets is None:
            with torch.no_grad():
                targets = predicted_targets(task, task.forward(batch.inputs))
        return lambda theta: function(model.outputs(theta, batch.inputs, training=False), targets)
