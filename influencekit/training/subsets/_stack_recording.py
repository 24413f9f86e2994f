"""Recording every training of a stack, as each net would record it alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from influencekit.training._step_checkpoints import State, copied_state, even_steps
from influencekit.training.stack._nets import NetStack
from influencekit.training.stack._schedule import Group
from influencekit.training.subsets._recorded_run import N_CHECKPOINTS, Run
from influencekit.training.trajectory._recording import SLOTS, Recording, numbers_of
from influencekit.training.trajectory._replay import drops_out
from influencekit.training.trajectory._trajectory import Snapshot, Trajectory

__all__ = ["StackRecording", "stack_recording"]

_MODULE = "module."


class StackRecording:
    """Keeps the weights of every model of a stack before a few steps, and at the end.

    Parameters
    ----------
    stack : NetStack
    optimizer : torch.optim.Optimizer
        That of the stacked parameters.
    n_steps : int
        Steps that each model will take.
    n_rows : int
        Rows of the whole data.
    """

    def __init__(self, stack: NetStack, optimizer: Optimizer, n_steps: int, n_rows: int):
        self.stack, self.optimizer = stack, optimizer
        self.n_steps, self.n_rows = n_steps, n_rows
        self.step = 0
        self.wanted = self._wanted()
        self.kept: list[dict[int, Any]] = [{} for _ in stack.streams]

    def before_step(self, _groups: Sequence[Group]) -> None:
        """Keep what is needed, and count the step."""
        if self.step in self.wanted:
            self._keep()
        self.step += 1

    def finish(self) -> list[Run | None]:
        """The run of each model."""
        self._keep()
        return list(self.kept)

    def _wanted(self) -> set[int]:
        return set(even_steps(self.n_steps, N_CHECKPOINTS))

    def _keep(self) -> None:
        for model, kept in enumerate(self.kept):
            kept[self.step] = self._state(model)

    def _state(self, model: int) -> Any:
        module: torch.nn.Module = self.stack.net.module_
        self.stack.load(model, module)
        return copied_state(module)


class StackTrajectories(StackRecording):
    """Records a trajectory of every model of a stack."""

    def __init__(self, stack: NetStack, optimizer: Optimizer, n_steps: int, n_rows: int):
        super().__init__(stack, optimizer, n_steps, n_rows)
        net = stack.net
        reduction = getattr(net.criterion_, "reduction", "mean")
        # refuses modules and optimizers that cannot be replayed
        self.plan = Recording(net.module_, net.optimizer_, 1, None, n_rows, reduction)
        self.plan.stop()
        self.drops_out = drops_out(net.module_)
        self.batches: list[list[np.ndarray]] = [[] for _ in self.kept]
        self.random_states: list[list[torch.Tensor]] = [[] for _ in self.kept]
        self.numbers: list[dict[str, list[float]]] = []

    def before_step(self, groups: Sequence[Group]) -> None:
        super().before_step(groups)
        self.numbers.append(numbers_of(self.optimizer))
        for group in groups:
            models = range(len(self.kept)) if group.models is None else group.models.tolist()
            for model, rows in zip(models, group.rows, strict=True):
                self.batches[model].append(rows.numpy())
        if self.drops_out:
            for states, stream in zip(self.random_states, self.stack.streams, strict=True):
                states.append(stream.cpu.clone())

    def finish(self) -> list[Run | None]:
        self._keep()
        options = {n: np.array([step[n] for step in self.numbers]) for n in self.numbers[0]}
        names = self.plan.names
        groups = self.stack.net.optimizer_.param_groups
        return [
            Trajectory(
                optimizer=type(self.optimizer).__name__,
                groups=tuple(tuple(names[id(p)] for p in g["params"]) for g in groups),
                options=options,
                switches=self.plan.switches,
                batches=tuple(self.batches[model]),
                max_norm=np.full(self.step, np.nan),
                snapshots=self.kept[model],
                n_rows=self.n_rows,
                reduction=self.plan.reduction,
                random_states=tuple(self.random_states[model]) if self.drops_out else None,
            )
            for model in range(len(self.kept))
        ]

    def _wanted(self) -> set[int]:
        return set(range(0, self.n_steps, max(1, math.ceil(math.sqrt(self.n_steps)))))

    def _state(self, model: int) -> Snapshot:
        tensors: dict[str, State] = {"theta": {}}
        count = 0
        for name in self.plan.names.values():
            p = self.stack.parameters[_MODULE + name]
            tensors["theta"][name] = p[model].detach().clone()
            state = self.optimizer.state.get(p, {})
            for slot in SLOTS:
                if isinstance(state.get(slot), torch.Tensor):
                    tensors.setdefault(slot, {})[name] = state[slot][model].detach().clone()
            has_buffer = isinstance(state.get("momentum_buffer"), torch.Tensor)
            count = int(state.get("step", 1 if has_buffer else 0))
        return Snapshot(tensors, count)


def stack_recording(
    record: str | None, stack: NetStack, optimizer: Optimizer, n_steps: int, n_rows: int
) -> StackRecording | None:
    """What records a stack in training; None if nothing is recorded."""
    if record is None:
        return None
    kind = StackTrajectories if record == "trajectory" else StackRecording
    return kind(stack, optimizer, n_steps, n_rows)
