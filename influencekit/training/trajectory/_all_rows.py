"""Sweeps that score every row at every step, whether or not its batch held it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.training.trajectory._replay import State
from influencekit.training.trajectory._step_batch import StepBatch
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import StepInfluence, Sweep

__all__ = ["AllRowsSweep"]


class AllRowsSweep(Sweep):
    """Backward sweeps with the influence of all rows at each step.

    A step scores row j as if its batch held the share ``B / n`` of it, with B rows in the batch and
    n rows in the run: ``(B / n) c_j <∇loss_j - [renormalize] ∇L, u>``. That is the mean of
    :class:`Sweep` over orders of the rows, to first order. Parameters as there.

    Attributes
    ----------
    stride : int
        Only every ``stride``-th step is scored, and counts for the others: cheaper, and nearly the
        same, since parameters move little from step to step.
    """

    stride = 1

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        positions = [self.replay.batch_rows(step) for step in range(self.replay.n_steps)]
        self.n_seen = len(torch.cat(positions).unique())

    def influence(
        self,
        step: int,
        loss: StepLoss,
        before: State,
        u: Tensor,
        inner: Tensor,
    ) -> StepInfluence:
        """Influence of all rows, from the adjoint u of the step's gradient."""
        if step % self.stride != min(self.stride // 2, self.replay.n_steps - 1):
            return StepInfluence(step, loss.batch.rows[:0], inner[:, :0])
        batch = self._all(step, loss.batch)
        # (B / n) c_j <∇loss_j, u>
        every = StepLoss(self.replay, before.theta, batch, "none").products(u)[0]
        if self.renormalize:
            every = every - (u @ loss.gradient)[:, None] * batch.denominators
        return StepInfluence(step, batch.rows, every * self.stride)

    def _all(self, step: int, batch: StepBatch) -> StepBatch:
        """All rows, with the shares that they would have of a step's loss, times B / n."""
        replay = self.replay
        held, seen = replay.batch_rows(step), len(batch.rows) / self.n_seen
        items = replay.weights if replay.items is None else replay.items
        return StepBatch(
            torch.arange(replay.n_train, device=batch.rows.device),
            replay.inputs,
            replay.targets,
            # of the loss as much as the batch's own rows have for their weight
            replay.weights * (batch.shares.sum() / replay.weights[held].sum()) * seen,
            batch.random_state,
            parts=items / items[held].sum() * seen,
        )
