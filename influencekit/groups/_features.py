"""Features for clustering: inputs, representations, gradients with respect to activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from influencekit.data._examples import Examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task

__all__ = ["FEATURES", "example_features"]

FEATURES = ("gradients", "representations", "inputs")


def example_features(
    task: Task, examples: Examples, features: str, batch_size: int = 1024
) -> np.ndarray:
    """One vector for each example.

    Parameters
    ----------
    task : Task
    examples : Examples
        With targets for "gradients".
    features : {"gradients", "representations", "inputs"}
        "inputs": what the module takes, flattened.  "representations": what its last linear
        layer takes.  "gradients": the derivative of the example's loss by that.
    batch_size : int, default=1024

    Returns
    -------
    ndarray of shape (n_examples, n_features), float64

    Raises
    ------
    UnsupportedModelError
        If the module does not have a linear layer.
    """
    make = {"inputs": _inputs, "representations": _activations, "gradients": _gradients}[features]
    parts = [make(task, batch) for batch in examples.batches(batch_size)]
    return torch.cat(parts).double().cpu().numpy()


def _inputs(task: Task, batch: Any) -> Tensor:
    if not isinstance(batch.inputs, Tensor):
        raise UnsupportedModelError(
            f"features: the inputs of {task.name} are {type(batch.inputs).__name__}, not one "
            f"tensor; accepted for it are 'representations' and 'gradients'."
        )
    return batch.inputs.detach().flatten(1)


def _activations(task: Task, batch: Any) -> Tensor:
    activations, outputs = _caught(task, batch)
    return _rows(activations.detach(), len(outputs))


def _gradients(task: Task, batch: Any) -> Tensor:
    activations, outputs = _caught(task, batch)
    losses = task.loss(outputs, batch.targets)
    return _rows(torch.autograd.grad(losses.sum(), activations)[0], len(outputs))


def _rows(values: Tensor, n: int) -> Tensor:
    """One row for each example; positions of a sequence are averaged."""
    values = values.reshape(n, -1, values.shape[-1]) if values.ndim > 2 else values[:, None]
    return values.mean(1)


def _caught(task: Task, batch: Any) -> tuple[Tensor, Tensor]:
    """Input of the last linear layer that is called, and the outputs."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: tuple) -> tuple:
        own = args[0].detach().requires_grad_(True)
        caught.append(own)
        return (own, *args[1:])

    layers = [m for m in task.module.modules() if isinstance(m, nn.Linear)]
    hooks = [layers[-1].register_forward_pre_hook(catch)] if layers else []
    try:
        with torch.enable_grad():
            outputs = task.forward(batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not caught:
        raise UnsupportedModelError(
            f"features: {task.name} does not end in a linear layer, so it does not have a "
            f"representation for clustering; accepted for it is features='inputs'."
        )
    return caught[-1], outputs
