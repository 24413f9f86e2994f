"""Several fitted models as the one module of a Task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task
from influencekit.models.adapters._linear import linear_module

__all__ = ["Joined", "join"]


class Joined(NamedTuple):
    """What several Tasks have as one.

    Attributes
    ----------
    module : torch.nn.Module
        Its outputs are those of the members side by side.
    transform : callable or None
        One array for each member, if any of them has steps.
    penalty : dict of str to Tensor
    """

    module: nn.Module
    transform: Any
    penalty: dict[str, Tensor]


def join(tasks: Sequence[Task], name: str) -> Joined:
    """Module, transform and penalty of several Tasks on the same rows.

    Linear models without steps of their own become one linear layer.

    Parameters
    ----------
    tasks : sequence of Task
    name : str
        The model's name in messages.

    Returns
    -------
    Joined
    """
    _check_alike(tasks, name)
    if all(_is_plain(task) for task in tasks) and len({_biased(task) for task in tasks}) == 1:
        return Joined(_one_layer(tasks), None, _one_penalty(tasks))
    module = Members([task.module for task in tasks])
    penalty = {
        f"members.{i}.{key}": strength
        for i, task in enumerate(tasks)
        for key, strength in task.penalty.items()
    }
    steps = [task.transform for task in tasks]
    apart = any(step is not None for step in steps)
    return Joined(module.eval(), EachOwn(steps) if apart else None, penalty)


def _check_alike(tasks: Sequence[Task], name: str) -> None:
    kinds = {task.penalty_kind for task in tasks if task.penalty}
    if len(kinds) > 1:
        raise UnsupportedModelError(
            f"model: the members of this {name} add their penalties to the summed loss and to the "
            "mean loss, so that they have no common objective. Give the attributor the list "
            "model.estimators_ instead: its scores are means over the members."
        )
    if any(task.training_rows is not None for task in tasks):
        raise UnsupportedModelError(
            f"model: a member of this {name} held out rows for validation (early_stopping), so "
            "that members learned from different rows. Fit it with early_stopping=False."
        )


def _is_plain(task: Task) -> bool:
    children = [key for key, _ in task.module.named_children()]
    return task.transform is None and children == ["linear"] and task.convex


def _biased(task: Task) -> bool:
    return "linear.bias" in task.parameters


def _one_layer(tasks: Sequence[Task]) -> nn.Module:
    layers: list[Any] = [task.module.linear for task in tasks]
    weight = torch.cat([layer.weight.detach() for layer in layers])
    if not _biased(tasks[0]):
        return linear_module(weight.numpy(), 0.0, fit_intercept=False)
    bias = torch.cat([layer.bias.detach() for layer in layers])
    return linear_module(weight.numpy(), bias.numpy(), fit_intercept=True)


def _one_penalty(tasks: Sequence[Task]) -> dict[str, Tensor]:
    """Penalties of the members' rows of the layer, one below the other."""
    joined = {}
    for key in tasks[0].parameters:
        rows = [
            torch.as_tensor(task.penalty.get(key, 0.0), dtype=torch.float64).expand(
                task.parameters[key].shape
            )
            for task in tasks
        ]
        joined[key] = torch.cat(rows)
    return joined


class Members(nn.Module):
    """Modules side by side, on the same rows or each on its own.

    Parameters
    ----------
    modules : list of torch.nn.Module
    """

    def __init__(self, modules: list[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(modules)

    def forward(self, *inputs: Any) -> Tensor:
        """Outputs of all members, (n, total)."""
        inputs = inputs * len(self.members) if len(inputs) == 1 else inputs
        found = [member(own) for member, own in zip(self.members, inputs, strict=True)]
        return torch.cat([out.reshape(len(out), -1) for out in found], dim=1)


class EachOwn:
    """The rows as each member sees them.

    Parameters
    ----------
    steps : list of callable or None
    """

    def __init__(self, steps: list[Any]):
        self.steps = steps

    def __call__(self, X: Any) -> tuple[Any, ...]:
        """One array for each member."""
        return tuple(X if step is None else step(X) for step in self.steps)

    def of_training_rows(self, X: Any, y: Any) -> tuple[Any, ...]:
        """The same, as the members learned from the training rows."""
        return tuple(
            step.of_training_rows(X, y)
            if hasattr(step, "of_training_rows")
            else (X if step is None else step(X))
            for step in self.steps
        )
