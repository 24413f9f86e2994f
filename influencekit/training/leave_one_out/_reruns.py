"""Many reruns of one recorded run at once, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.training._randomness import RandomStream, untouched
from influencekit.training.stack._tasks import Parameters, TaskStack
from influencekit.training.trajectory import Replay
from influencekit.training.trajectory._replay import State, StepBatch

__all__ = ["Reruns"]


class Reruns:
    """Trains stacks of models as a recorded run did, each without some rows.

    Start, batches, learning rates, clipping and dropout's noise are those of the run.

    Parameters
    ----------
    replay : Replay
        Its dtype is that of the reruns.
    removal : {"renormalize", "fixed"}
    together : bool, default=True
        False forwards one run after the other.
    """

    def __init__(self, replay: Replay, removal: str, together: bool = True):
        self.replay = replay
        self.renormalize = removal == "renormalize" and replay.trajectory.reduction == "mean"
        self.stack = TaskStack(replay.model.task, together)
        self.stack.module.to(replay.model.dtype)
        self.stack.train_mode()

    def without(self, rows: Tensor) -> Parameters:
        """Parameters at the end of runs that leave out one row each.

        Parameters
        ----------
        rows : Tensor of shape (n_runs,)
            Positions among the training examples; -1 leaves nothing out.

        Returns
        -------
        dict of str to Tensor of shape (n_runs, ...)
        """
        return self._train(rows, None)

    def shaken(self, n_runs: int) -> Parameters:
        """Parameters at the end of full runs that are rounded another way after each step.

        Each parameter is moved by its last place up or down, at random.
        """
        generator = torch.Generator().manual_seed(0)
        return self._train(torch.full((n_runs,), -1), generator)

    def _train(self, rows: Tensor, shake: torch.Generator | None) -> Parameters:
        replay = self.replay
        state = self._start(len(rows))
        owner = rows.to(state.theta.device)[:, None]
        with untouched(state.theta.device):
            for step in range(replay.n_steps):
                gradient = self._gradient(state.theta, replay.batch(step), owner)
                state = replay.advance(state, step, gradient)
                if shake is not None:
                    state = state._replace(theta=_shake(state.theta, shake))
        return self._named(state.theta)

    def _start(self, n_runs: int) -> State:
        """The state before the first step, once a run."""
        start = self.replay.snapshot(0)
        slots = {name: slot.expand(n_runs, -1) for name, slot in start.slots.items()}
        return State(start.theta.expand(n_runs, -1).clone(), slots, start.n_steps)

    def _gradient(self, theta: Tensor, batch: StepBatch, owner: Tensor) -> Tensor:
        """Gradients (n_runs, p) of the step's loss over the rows that each run keeps."""
        theta = theta.detach().requires_grad_(True)
        stream = None
        if batch.random_state is not None:
            stream = RandomStream(batch.random_state)
        outputs = self.stack.outputs(self._named(theta), batch.inputs, True, stream)
        losses = self.stack.losses(outputs, batch.targets, True)
        shares = batch.shares * (batch.rows.to(owner.device) != owner)
        if self.renormalize:
            total = shares.sum(1, keepdim=True)
            shares = shares / torch.where(total > 0, total, torch.ones_like(total))
        return torch.autograd.grad((shares * losses).sum(), theta)[0]

    def _named(self, theta: Tensor) -> Parameters:
        model = self.replay.model
        parts = zip(model.names, theta.split(model.sizes, dim=1), model.shapes, strict=True)
        return {name: part.reshape(len(theta), *shape) for name, part, shape in parts}


def _shake(theta: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, theta.shape, generator=generator).to(theta) * 2 - 1
    return theta * (1 + torch.finfo(theta.dtype).eps * signs)
