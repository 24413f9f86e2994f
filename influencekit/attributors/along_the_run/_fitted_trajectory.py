"""A replayed training run: scores, occurrences and errors of its examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.models._outputs import predicted_targets, resolve_output
from influencekit.training.trajectory._finite_removal import FiniteRemoval
from influencekit.training.trajectory._kinks import kinks_of
from influencekit.training.trajectory._optimizers import Rule
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._second_order import Jets
from influencekit.training.trajectory._sweep import StepInfluence, StepScores, Sweep
from influencekit.utils._long_work import chunks, parse_memory, progress

__all__ = ["FittedTrajectory"]

#: What the switching of single units adds to the expected one, as a factor on that: measured on
#: the first seed of the study "error_proxy", and held to on the others.
SWITCHING = 2.0


class FittedTrajectory(Fitted):
    """A recorded run with its data, replayed step by step.

    Parameters
    ----------
    attributor : TrajectoryInfluence
        Says what is explained, how examples are removed, and the bounds of memory.
    train : Examples
    replay : Replay
    rule : Rule
        The step that is differentiated.
    """

    def __init__(self, attributor: Any, train: Examples, replay: Replay, rule: Rule):
        self.name, self.output = type(attributor).__name__, attributor.output
        self.removal, self.removal_order = attributor.removal, attributor.removal_order
        self.horizon, self.batch_size = attributor.horizon, attributor.batch_size
        self.max_memory, self.verbose = attributor.max_memory, attributor.verbose
        self.train, self.replay = train, replay
        self.sweep = Sweep(replay, rule, attributor.curvature, self.removal, self.horizon)

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

    def proxy(
        self, queries: Examples, rows: Tensor, estimate: str, chunk_size: int
    ) -> tuple[NDArray, NDArray, str, tuple[str, ...]]:
        """Error proxy of some training examples.

        Returns
        -------
        first, error : ndarray of shape (n_queries, n_rows)
            Derivatives, and what they are estimated to miss.
        estimate : str
            The one taken.
        unseen : tuple of str
            Functions of the net with kinks that it does not see.
        """
        soft, hard = kinks_of(self.replay)
        if estimate == "auto":
            estimate = "finite+kinks" if soft or hard else "second_order"
        unseen = hard if "kinks" in estimate else soft | hard
        found = self._errors(queries, rows, estimate, chunk_size)
        return *found, estimate, tuple(sorted(unseen))

    def _errors(
        self, queries: Examples, rows: Tensor, estimate: str, chunk_size: int
    ) -> tuple[NDArray, NDArray]:
        """Derivatives and their errors, each (n_queries, n_rows)."""
        sweep = Sweep(self.replay, removal=self.removal)
        if estimate == "second_order":
            first, second = self._jets(queries, rows, chunk_size)
            return first, -0.5 * second
        if estimate == "finite":
            first, finite = self._pushed(sweep, queries, self.output, rows)
            return first, finite - first
        soft = Sweep(self.replay, curvature="smoothed_hessian", removal=self.removal)
        columns = rows.numpy()
        bent = self._derivatives(soft, queries, self.output)[:, columns]
        if estimate == "kinks":
            first = self._derivatives(sweep, queries, self.output)[:, columns]
            return first, bent - first
        first, finite = self._pushed(sweep, queries, self.output, rows)
        # |finite - first| + 2 |bent - first|
        return first, np.abs(finite - first) + SWITCHING * np.abs(bent - first)

    def _summed(self, queries: Examples, output: Any) -> np.ndarray:
        """Scores (n_queries, n_train), over all occurrences of an example."""
        if self.removal_order == "finite":
            rows = torch.arange(self.replay.n_train)
            return self._pushed(self.sweep, queries, output, rows)[1]
        return self._derivatives(self.sweep, queries, output)

    def _derivatives(self, sweep: Sweep, queries: Examples, output: Any) -> np.ndarray:
        """Derivatives (n_queries, n_train) by the weight of an example in all of its batches."""
        scores = torch.zeros(len(queries), self.replay.n_train, dtype=torch.float64)
        for rows, step in self._sweeps(sweep, queries, output):
            scores[rows].index_add_(1, step.rows.cpu(), step.values.double().cpu())
        return scores.numpy()

    def _pushed(self, sweep: Sweep, queries: Examples, output: Any, rows: Tensor) -> NDArray:
        """Derivative and finite scores, (2, n_queries, n_rows), of some training examples."""
        replay, push = self.replay, FiniteRemoval(sweep)
        slots = len(sweep.rule.slots)
        number = replay.model.size * torch.finfo(replay.model.dtype).bits // 8
        room = parse_memory(self.max_memory, self.replay.model.task.device) // (2 * number)
        n_queries = max(1, min(len(queries), room // (replay.n_steps + 4 * (1 + slots))))
        n_queries = self.batch_size or n_queries
        at_once = max(1, room // (6 + 4 * slots))
        found = np.zeros((2, len(queries), len(rows)))
        blocks = list(chunks(len(queries), 1, n_queries))
        for block in progress(blocks, self.name, self.verbose, unit="sweep"):
            gradients = self._gradients(queries.take(block), output)
            both = push(gradients, rows.to(self.replay.model.task.device), at_once)
            found[:, block] = torch.stack(both).double().cpu().numpy()
        return found

    def _jets(self, queries: Examples, rows: Tensor, chunk_size: int) -> Iterator[np.ndarray]:
        """First and second derivatives, each (n_queries, n_rows), of some training examples."""
        outputs = self._outputs(queries, self.output)
        jets, found = Jets(self.replay, self.removal), []
        for chunk in progress(rows.split(chunk_size), "error proxy", self.verbose, unit="chunk"):
            found.append(jets.of_outputs(chunk.to(self.replay.model.task.device), outputs))
        return (torch.cat(parts).double().cpu().numpy().T for parts in zip(*found, strict=True))

    def self_scores(self) -> np.ndarray:
        """Diagonal of the training examples' scores on their own losses."""
        found = np.zeros(len(self.train))
        size = self._queries_at_once(len(found))
        for some in chunks(len(found), 1, size):
            rows = np.arange(some.start, some.stop)
            if self.removal_order == "finite":
                own = self.train.take(rows), "neg_loss", torch.as_tensor(rows)
                found[rows] = np.diagonal(self._pushed(self.sweep, *own)[1])
                continue
            found[rows] = self._summed(self.train.take(rows), "neg_loss")[
                np.arange(len(rows)), rows
            ]
        return found

    def _sweeps(
        self, sweep: Sweep, queries: Examples, output: Any
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
        replay = self.replay
        fronts = min(max(self.horizon, 1), replay.n_steps) if self.horizon is not None else 1
        tensors = 4 * (1 + len(self.sweep.rule.slots)) * fronts
        number = tensors * replay.model.size * torch.finfo(replay.model.dtype).bits // 8
        return max(
            1,
            min(n_queries, parse_memory(self.max_memory, self.replay.model.task.device) // number),
        )

    def _gradients(self, queries: Examples, output: Any) -> Callable[[Tensor], Tensor]:
        """Function from parameters (p,) to the gradients (n_queries, p) of the output."""
        values = self._outputs(queries, output)

        def gradients(theta: Tensor) -> Tensor:
            theta = theta.detach().requires_grad_(True)
            found = values(theta)
            each = torch.eye(len(found), dtype=found.dtype, device=found.device)
            return torch.autograd.grad(found, theta, each, is_grads_batched=True)[0]

        return gradients

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
