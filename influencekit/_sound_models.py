"""Models whose weights, statistics and outputs are finite numbers."""

from __future__ import annotations

from typing import Any

import torch

from influencekit.data._examples import each
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task
from influencekit.models.snapshot._repeats import check_finite_outputs
from influencekit.models.snapshot._trial import were_finite

__all__ = ["check_outputs_of", "check_weights_of"]


def check_weights_of(models: Any) -> None:
    """Refuse models whose training diverged.

    Parameters
    ----------
    models : Task or TaskList
    """
    for task in each(models):
        _check_weights(task)


def check_outputs_of(models: Any, train: Any) -> None:
    """Refuse networks whose outputs are not finite on their first training examples.

    Parameters
    ----------
    models : Task or TaskList
    train : Examples or ExamplesList
    """
    for task, examples in zip(each(models), each(train), strict=True):
        if task.convex:
            continue
        inputs = next(examples.batches(2)).inputs
        if not were_finite(task, inputs):
            check_finite_outputs(task, inputs)


def _check_weights(task: Task) -> None:
    """Refuse a model whose training diverged."""
    for name, parameter in task.parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise UnsupportedModelError(
                f"model: the parameter {name!r} of {task.name} holds NaN or infinity, so its "
                "training diverged. Give a model that trained well, for instance with a smaller "
                "learning rate."
            )
    for name, buffer in task.module.named_buffers():
        statistic = name.endswith(("running_mean", "running_var"))
        if statistic and not bool(torch.isfinite(buffer).all()):
            raise UnsupportedModelError(
                f"model: the buffer {name!r} of {task.name} holds NaN or infinity; accepted are "
                "finite statistics. Give a model that saw finite data in training."
            )
