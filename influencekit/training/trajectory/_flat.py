"""A task's module as a function of one vector of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models import Task
from influencekit.models._module import copy_module
from influencekit.training._randomness import GLOBAL_STATE_LOCK
from influencekit.utils._torch import simple_kernels

__all__ = ["FlatModel", "drops_out", "refuse_batch_statistics"]


class FlatModel:
    """Outputs and losses of a task's module at any parameters.

    Parameters
    ----------
    task : Task
    dtype : torch.dtype, default=None
        Of the computation; None is the task's own.
    """

    def __init__(self, task: Task, dtype: torch.dtype | None = None):
        self.task = task
        self.dtype = task.dtype if dtype is None else dtype
        refuse_batch_statistics(task.module)
        self.training, self.evaluation = (
            replace(task, module=copy_module(task.module).to(self.dtype)) for _ in range(2)
        )
        self.training.module.train()
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


def drops_out(module: torch.nn.Module) -> bool:
    """Whether a module draws random numbers in training."""
    rates = [
        value
        for part in module.modules()
        for name in ("p", "dropout", "attention_dropout", "attn_dropout")
        if isinstance(value := getattr(part, name, 0), float)
    ]
    return any(rate > 0 for rate in rates)


def refuse_batch_statistics(module: torch.nn.Module) -> None:
    """Refuse layers through which the rows of a training batch depend on each other.

    Raises
    ------
    UnsupportedModelError
    """
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            raise UnsupportedModelError(
                f"model: layer {name!r} is {type(part).__name__}. In training mode the loss of a "
                "row depends on the other rows of its batch through it, so that a row cannot be "
                "taken out. Accepted are LayerNorm, GroupNorm or no normalisation; "
                "FurtherTraining, which keeps the fitted statistics, works with this layer."
            )


@contextmanager
def random_state(state: Tensor | None) -> Iterator[None]:
    """Draw from a recorded state of torch inside the block, and leave no trace."""
    if state is None:
        yield
        return
    with GLOBAL_STATE_LOCK, torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        yield
