"""Trial steps from where a net stands, and what each row of their batches did for an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data import Batch, make_examples
from influencekit.models import Task, as_task
from influencekit.training.trajectory import Replay, Sweep, Trajectory
from influencekit.training.trajectory._flat import FlatModel, drops_out
from influencekit.training.trajectory._recording import _names, _snapshot, _switches, numbers_of
from influencekit.training.trajectory._step_loss import StepLoss

__all__ = ["LookAheadWindow", "mean_loss_gradient"]


class LookAheadWindow:
    """The coming batches of a net that is being trained.

    Parameters
    ----------
    net : NeuralNet
        Initialised, with its optimiser.
    data : tuple (X, y)
        As given to the net's ``fit``.
    validation : tuple (X_val, y_val)
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}
    max_norm : float or None
        Norm to which the net clips gradients.
    """

    def __init__(
        self, net: Any, data: tuple, validation: tuple, curvature: str, max_norm: float | None
    ):
        self.net, self.curvature, self.max_norm = net, curvature, max_norm
        self.task: Task = as_task(net)
        self.train = make_examples(self.task, *data)
        queries = make_examples(self.task, *validation, name="X_val")
        self.queries = next(queries.batches(len(queries)))
        weights = self.task.example_weights(self.train.targets)
        self.weights = torch.ones(len(self.train)) if weights is None else weights
        self.names = _names(net.module_, net.optimizer_)

    def open(self, batches: Sequence[np.ndarray], seed: int) -> None:
        """Say which rows the epoch's steps learn from, in order."""
        net, n = self.net, len(batches)
        groups = net.optimizer_.param_groups
        states = None
        if drops_out(net.module_):
            generator = torch.Generator()
            states = tuple(generator.manual_seed(seed + i).get_state() for i in range(n))
        numbers = numbers_of(net.optimizer_)
        trajectory = Trajectory(
            optimizer=type(net.optimizer_).__name__,
            groups=tuple(tuple(self.names[id(p)] for p in g["params"]) for g in groups),
            options={name: np.empty((n, len(values))) for name, values in numbers.items()},
            switches=_switches(net.optimizer_),
            batches=tuple(batches),
            max_norm=np.full(n, np.nan if self.max_norm is None else self.max_norm),
            snapshots={0: _snapshot(net.optimizer_, self.names)},
            n_rows=len(self.train),
            reduction=getattr(net.criterion_, "reduction", "mean"),
            random_states=states,
        )
        rows = np.arange(len(self.train))
        self.replay = Replay(self.task, trajectory, self.train, rows, self.weights)
        self.sweep = Sweep(self.replay, None, self.curvature, "renormalize")

    def scores(self, first: int, n_scored: int, horizon: int) -> list[np.ndarray]:
        """Scores of the rows of some steps for the mean validation loss after the horizon.

        Steps go on with the epoch's first batch after its last one.

        Parameters
        ----------
        first : int
            Step of the epoch that the net takes next.
        n_scored : int
            Steps whose rows are scored, no more than max(horizon, 1).
        horizon : int

        Returns
        -------
        list of ndarray of shape (batch,)
            Positive where the row lowers the loss.
        """
        replay = self.replay
        self._take_down()
        steps = [(first + i) % replay.n_steps for i in range(max(horizon, 1))]
        states = [replay.snapshot(0)]
        losses = []
        for step in steps:
            losses.append(StepLoss(replay, states[-1].theta, replay.batch(step), self.curvature))
            states.append(replay.advance(states[-1], step, losses[-1].gradient))
        end = states[0] if horizon == 0 else states[-1]
        adjoint = replay.rule.start(mean_loss_gradient(replay.model, self.queries, end.theta))
        found = []
        for i in reversed(range(len(steps))):
            after = states.pop()
            loss = losses.pop()
            adjoint, influence = self.sweep.back(steps[i], loss, states[i], after, adjoint)
            if i < n_scored:
                found.append(influence.values[0].double().cpu().numpy())
        return found[::-1]

    def _take_down(self) -> None:
        """Where the net and its optimiser stand."""
        trajectory, optimizer = self.replay.trajectory, self.net.optimizer_
        trajectory.snapshots[0] = _snapshot(optimizer, self.names)  # type: ignore[index]
        for name, values in numbers_of(optimizer).items():
            trajectory.options[name][:] = values


def mean_loss_gradient(model: FlatModel, batch: Batch, theta: Tensor) -> Tensor:
    """Gradient (1, p) of minus the mean loss of some examples at parameters (p,)."""
    theta = theta.detach().requires_grad_(True)
    outputs = model.outputs(theta, batch.inputs, training=False)
    value = -model.task.loss(outputs, batch.targets).mean()
    return torch.autograd.grad(value, theta)[0][None]
