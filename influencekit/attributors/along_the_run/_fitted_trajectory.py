"""A replayed training run: scores, occurrences and errors of its examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep
from influencekit.data._examples import Examples
from influencekit.training.trajectory._all_rows import AllRowsSweep
from influencekit.training.trajectory._finite_removal import FiniteRemoval
from influencekit.training.trajectory._kinks import kinks_of
from influencekit.training.trajectory._optimizers import Rule
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._second_order import Jets
from influencekit.training.trajectory._sweep import Sweep
from influencekit.utils._long_work import chunks, parse_memory, progress

__all__ = ["FittedTrajectory"]

#: What the switching of single units adds to the expected one, as a factor on that: measured on
#: the first seed of the study "error_proxy", and held to on the others.
SWITCHING = 2.0


class FittedTrajectory(FittedSweep):
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

    sweep: Sweep

    def __init__(self, attributor: Any, train: Examples, replay: Replay, rule: Rule):
        self.removal, self.removal_order = attributor.removal, attributor.removal_order
        horizon = attributor.horizon
        kind = AllRowsSweep if attributor.rows == "all" else Sweep
        sweep = kind(replay, rule, attributor.curvature, self.removal, horizon)
        super().__init__(attributor, train, replay, sweep)
        fronts = min(max(horizon, 1), replay.n_steps) if horizon is not None else 1
        self.n_tensors = 4 * (1 + len(rule.slots)) * fronts

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
        bent = self._totals(soft, queries, self.output)[:, columns]
        if estimate == "kinks":
            first = self._totals(sweep, queries, self.output)[:, columns]
            return first, bent - first
        first, finite = self._pushed(sweep, queries, self.output, rows)
        # |finite - first| + 2 |bent - first|
        return first, np.abs(finite - first) + SWITCHING * np.abs(bent - first)

    def _summed(self, queries: Examples, output: Any) -> np.ndarray:
        """Scores (n_queries, n_train), over all occurrences of an example."""
        if self.removal_order == "finite":
            rows = torch.arange(self.replay.n_train)
            return self._pushed(self.sweep, queries, output, rows)[1]
        return super()._summed(queries, output)

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

    def _own(self, rows: np.ndarray) -> np.ndarray:
        if self.removal_order == "finite":
            own = self.train.take(rows), "neg_loss", torch.as_tensor(rows)
            return np.diagonal(self._pushed(self.sweep, *own)[1])
        return super()._own(rows)
