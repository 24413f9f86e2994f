"""Goes through a recorded run again, segment by segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from influencekit.data._examples import Examples
from influencekit.exceptions import TrajectoryError
from influencekit.models._module import copy_module
from influencekit.models._task import Task
from influencekit.training._randomness import GLOBAL_STATE_LOCK
from influencekit.training._refused_layers import (
    batch_norms,
    refuse_batch_statistics,
    refuse_embeddings,
)
from influencekit.training.trajectory._own_loss import ROUNDING, agreed, own_loss
from influencekit.training.trajectory._step_batch import (
    StepBatch,
    counted_items,
    narrowed,
    positions_of,
    step_shares,
)
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.training.trajectory.rules._rule import Options, Slots
from influencekit.utils._torch import simple_kernels
from influencekit.utils.validation import present

__all__ = [
    "FlatModel",
    "Replay",
    "State",
    "clip_factor",
    "drops_out",
]


class FlatModel:
    """Outputs and losses of a task's module at any parameters.

    Parameters
    ----------
    task : Task
    dtype : torch.dtype, default=None
        dtype of the computation; None is the task's own.
    frozen : bool, default=False
        Whether batch normalization keeps the model's statistics in training.
    """

    def __init__(self, task: Task, dtype: torch.dtype | None = None, frozen: bool = False):
        self.task = task
        self.dtype = task.input_dtype if dtype is None else dtype
        if not frozen:
            refuse_batch_statistics(task.module)
        refuse_embeddings(task.module)
        self.training, self.evaluation = (
            replace(task, module=copy_module(task.module).to(self.dtype)) for _ in range(2)
        )
        self.training.module.train()
        for _, part in batch_norms(self.training.module):
            part.eval()
        self.names = tuple(task.parameters)
        self.shapes = [p.shape for p in task.parameters.values()]
        self.sizes = [p.numel() for p in task.parameters.values()]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(self.sizes)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One vector of a tensor for each parameter; missing ones are zero."""
        zeros = torch.zeros(max(self.sizes), device=self.task.device, dtype=self.dtype)
        parts = [
            tensors[name].to(zeros).reshape(-1) if name in tensors else zeros[:n]
            for name, n in zip(self.names, self.sizes, strict=True)
        ]
        return torch.cat(parts)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Parameters by name, views of a vector."""
        parts = theta.split(self.sizes)
        shaped = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in shaped}

    def outputs(self, theta: Tensor, inputs: Any, *, training: bool) -> Tensor:
        """Natural outputs (n, ...) of a batch."""
        task = self.training if training else self.evaluation
        with simple_kernels():  # attention made of operations that can be differentiated twice
            return task.forward(inputs, self.unflatten(theta))

    def losses(self, theta: Tensor, inputs: Any, targets: Tensor) -> Tensor:
        """Loss (n,) of each row of a training batch."""
        return self.task.loss(self.outputs(theta, inputs, training=True), targets)

    def own_loss(
        self, theta: Tensor, inputs: Any, targets: Tensor, n_items: float | None = None
    ) -> Tensor:
        """Loss of a training batch that the module makes itself, as a mean or over n_items."""
        return own_loss(self.training.module, inputs, targets, self.unflatten(theta), n_items)


def drops_out(module: torch.nn.Module) -> bool:
    """Whether a module draws random numbers in training."""
    rates = [
        value
        for part in module.modules()
        for name in ("p", "dropout", "attention_dropout", "attn_dropout")
        if isinstance(value := getattr(part, name, 0), float)
    ]
    return any(rate > 0 for rate in rates)


@contextmanager
def random_state(state: Tensor | None) -> Iterator[None]:
    """Draw from a recorded state of torch inside the block, and leave no trace."""
    if state is None:
        yield
        return
    with GLOBAL_STATE_LOCK, torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        yield


#: Distance of a replayed snapshot from the recorded one, in units of how far the segment went.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-2}
#: torch's clip_grad_norm_ adds it to the norm.
CLIP_EPS = 1e-6


class State(NamedTuple):
    """Parameters (..., p) and optimizer state before a step."""

    theta: Tensor
    slots: Slots
    n_steps: int


class Replay:
    """A recorded run with its model and data.

    Parameters
    ----------
    task : Task
        The trained model.
    trajectory : Trajectory
    train : Examples
        Those that the model learned from.
    train_rows : ndarray of int
        Their rows in X, ascending.
    weights : Tensor of shape (n_train,)
        Weights of the examples in the objective.
    dtype : torch.dtype, default=None
        dtype of the computation; None is the model's own.

    Raises
    ------
    TrajectoryError
        If the run does not belong to the model or the data.
    """

    def __init__(
        self,
        task: Task,
        trajectory: Trajectory,
        train: Examples,
        train_rows: np.ndarray,
        weights: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ):
        frozen = trajectory.switches.get("frozen_statistics", False)
        self.model = FlatModel(task, dtype, frozen)
        #: Whether steps minimized the model's own loss, which rounds.
        self.own_loss = trajectory.switches.get("own_loss", False)
        self.trajectory, self.rule = trajectory, trajectory.rule
        self.n_train = len(train)
        _check_parameters(self.model, trajectory)
        self._positions = positions_of(trajectory, np.asarray(train_rows))
        batch = next(train.batches(len(train)))
        self.inputs = tree_map(self._cast, batch.inputs)
        self.targets = tree_map(self._cast, batch.targets)
        if weights is None:
            weights = task.example_weights(present(train.targets, "training targets"))
        weights = torch.ones(len(train)) if weights is None else weights
        self.weights = weights.to(device=task.device, dtype=self.model.dtype)
        #: What rows add to the numbers that steps divided by; None is their weights.
        self.items = counted_items(trajectory, self._positions, self.weights, self.targets)
        self._group_of = _group_of(self.model, trajectory)

    def _cast(self, leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.to(self.model.dtype) if floating else leaf

    @property
    def n_steps(self) -> int:
        """Steps of the run."""
        return self.trajectory.n_steps

    def batch_rows(self, step: int) -> Tensor:
        """Positions among the training examples of a step's rows."""
        return self._positions[step]

    def batch(self, step: int) -> StepBatch:
        """What a step learned from."""
        rows = self._positions[step]
        states, widths = self.trajectory.random_states, self.trajectory.widths
        inputs, targets = tree_map(lambda t: t[rows], self.inputs), self.targets[rows]
        if widths is not None and isinstance(inputs, dict):
            padded = {name: int(all_steps[step]) for name, all_steps in widths.items()}
            inputs, targets = narrowed(inputs, targets, padded)
        counted = None if self.items is None else self.items[rows]
        n_items = None if self.trajectory.items is None else float(self.trajectory.items[step])
        shares = step_shares(self.trajectory, step, self.weights[rows], counted)
        state = None if states is None else states[step]
        return StepBatch(rows, inputs, targets, random_state=state, n_items=n_items, **shares)

    def options(self, step: int) -> Options:
        """Numbers of the optimizer at a step, for each coordinate where groups differ."""
        found: dict[str, Any] = {}
        for name in self.rule.options:
            values = self.trajectory.options[name][step]
            if (values == values[0]).all():
                found[name] = float(values[0])
            else:
                each = torch.as_tensor(values, dtype=self.model.dtype, device=self._group_of.device)
                found[name] = each[self._group_of]
        return found

    def max_norm(self, step: int) -> float | None:
        """Norm to which the gradient of a step was clipped."""
        value = float(self.trajectory.max_norm[step])
        return None if np.isnan(value) else value

    def snapshot(self, step: int) -> State:
        """The recorded state before a step."""
        stored = self.trajectory.snapshots[step]
        theta = self.model.flatten(stored.tensors["theta"])
        slots = {s: self.model.flatten(stored.tensors.get(s, {})) for s in self.rule.slots}
        return State(theta, slots, stored.count)

    def loss(self, theta: Tensor, batch: StepBatch) -> Tensor:
        """What a step minimized, with the shares of the recorded run."""
        with random_state(batch.random_state):
            losses = self.model.losses(theta, batch.inputs, batch.targets)
        read = (batch.shares * losses).sum()
        if not self.own_loss:
            return read
        with random_state(batch.random_state):
            half = self.trajectory.switches.get("half", False)
            return agreed(self._own_loss(theta, batch), read, 2e-2 if half else ROUNDING)

    def _own_loss(self, theta: Tensor, batch: StepBatch) -> Tensor:
        """What the module makes of a step itself, batch by batch where it adds several means."""
        if batch.means is None:
            return self.model.own_loss(theta, batch.inputs, batch.targets, batch.n_items)
        total = theta.new_zeros(())
        for mean in batch.means.unique():
            of = batch.means == mean
            inputs = tree_map(lambda leaf, of=of: leaf[of], batch.inputs)
            # the shares of a batch sum to its factor
            own = self.model.own_loss(theta, inputs, batch.targets[of])
            total = total + batch.shares[of].sum() * own
        return total

    def gradient(self, theta: Tensor, step: int) -> Tensor:
        """Gradient (p,) of a step's loss, before clipping."""
        theta = theta.detach().requires_grad_(True)
        return torch.autograd.grad(self.loss(theta, self.batch(step)), theta)[0]

    def advance(self, state: State, step: int, gradient: Tensor) -> State:
        """The state after a step with a gradient as the loss has it."""
        gradient = gradient * clip_factor(gradient, self.max_norm(step))
        theta, slots = self.rule.step(
            state.theta, state.slots, gradient, self.options(step), state.n_steps + 1
        )
        return State(theta, slots, state.n_steps + 1)

    def states(self, start: int, end: int) -> list[State]:
        """States before the steps from one snapshot to the next."""
        states = [self.snapshot(start)]
        for step in range(start, end - 1):
            gradient = self.gradient(states[-1].theta, step)
            states.append(self.advance(states[-1], step, gradient))
        return states

    def verify(self, start: int, end: int) -> None:
        """See that the steps from one snapshot lead to the next.

        Raises
        ------
        TrajectoryError
        """
        last = self.states(start, end)[-1]
        after = self.advance(last, end - 1, self.gradient(last.theta, end - 1))
        self.check_arrival(after, start, end)

    def check_end(self) -> None:
        """See that the model is where the run ended.

        Raises
        ------
        TrajectoryError
        """
        end = self.snapshot(self.n_steps).theta
        own = self.model.flatten(self.model.task.parameters).detach()
        if not torch.equal(end, own):
            raise TrajectoryError(
                f"trajectory: the model's parameters are {float((end - own).norm()):.3g} away from "
                "where the recorded run ended. It was trained further, or an earlier epoch was "
                "loaded back (Checkpoint, EarlyStopping(load_best=True)). Score the model at the "
                "end of its recorded run."
            )

    def check_arrival(self, state: State, start: int, end: int) -> None:
        """See that a state replayed from one snapshot is the next one.

        Raises
        ------
        TrajectoryError
        """
        recorded = self.snapshot(end).theta
        gone = float((recorded - self.snapshot(start).theta).norm())
        off = float((state.theta - recorded).norm())
        half = self.trajectory.switches.get("half", False)
        allowed = 5e-2 if half else _TOLERANCE.get(self.model.task.input_dtype, 5e-2)
        if not off <= allowed * gone + 1e-30:
            raise TrajectoryError(
                f"trajectory: steps {start} to {end} do not lead to the recorded parameters: "
                f"replayed from step {start} they end {off:.3g} away, where the run itself "
                f"went {gone:.3g}. Give X and y as they were given to fit, in the same order; the "
                "loss must be the one that was trained on, without terms of its own (an added "
                "penalty, label smoothing outside the criterion, augmentation, mixed precision)."
            )


def clip_factor(gradient: Tensor, max_norm: float | None) -> Any:
    """Factor (..., 1) of ``torch.nn.utils.clip_grad_norm_`` on gradients (..., p)."""
    if max_norm is None:
        return 1.0
    norm = gradient.norm(dim=-1, keepdim=True)
    return (max_norm / (norm + CLIP_EPS)).clamp(max=1.0)


def _check_parameters(model: FlatModel, trajectory: Trajectory) -> None:
    recorded = trajectory.snapshots[0].tensors["theta"]
    own = dict(zip(model.names, model.shapes, strict=True))
    found = {name: tensor.shape for name, tensor in recorded.items()}
    if own != found:
        strange = sorted(set(own) ^ set(found)) or sorted(n for n in own if own[n] != found[n])
        raise TrajectoryError(
            f"trajectory: its parameters are not those of the model; they differ in {strange[:5]}. "
            "Accepted is the recording of this model's own training."
        )


def _group_of(model: FlatModel, trajectory: Trajectory) -> Tensor:
    """Parameter group of each coordinate."""
    group = {name: i for i, names in enumerate(trajectory.groups) for name in names}
    missing = [name for name in model.names if name not in group]
    if missing:
        raise TrajectoryError(
            f"trajectory: the recorded optimizer does not hold {missing[:5]}, which the model "
            "would train. Freeze them (requires_grad=False), or give them to the optimizer."
        )
    parts = [
        torch.full((n,), group[name], dtype=torch.long)
        for name, n in zip(model.names, model.sizes, strict=True)
    ]
    return torch.cat(parts).to(model.task.device)
