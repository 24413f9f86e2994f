"""What tree methods read from their examples: leaves, targets, and slopes of explained outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from influencekit.data import Examples
from influencekit.models import Task, predicted_targets, resolve_output
from influencekit.models.losses._base import class_positions
from influencekit.models.trees._task import trees_of
from influencekit.utils.validation import present

__all__ = ["leaves_of", "loss_slopes", "output_slopes", "scores_of", "target_matrix"]

_BATCH = 4096


def leaves_of(examples: Examples) -> np.ndarray:
    """Leaf of each example in each tree, int32 (n_trees, n)."""
    parts = [batch.inputs.numpy().astype(np.int32) for batch in examples.batches(_BATCH)]
    return np.ascontiguousarray(np.concatenate(parts).T)


def target_matrix(task: Task, examples: Examples) -> np.ndarray:
    """Targets (n, n_outputs) as the trees' training loss takes them."""
    targets, trees = present(examples.targets, "targets"), trees_of(task)
    if task.problem_type != "classification":
        return targets.double().numpy().reshape(len(examples), -1)
    positions = class_positions(targets).numpy()
    if trees.loss == "logistic":
        return (positions == 1)[:, None].astype(float)
    return np.eye(trees.n_outputs)[positions]


def scores_of(task: Task, leaves: np.ndarray) -> torch.Tensor:
    """Outputs (n, n_outputs) of rows from their leaves (n_trees, n)."""
    with torch.no_grad():
        blocks = np.array_split(leaves, max(1, leaves.shape[1] // _BATCH), axis=1)
        return torch.cat([task.forward(torch.as_tensor(part.T.copy())) for part in blocks])


def output_slopes(
    task: Task, output: Any, targets: torch.Tensor | None, outputs: torch.Tensor
) -> np.ndarray:
    """Derivative (n_outputs, n) of the explained output with respect to the outputs of its own row.

    Parameters
    ----------
    task : Task
    output : str or callable
    targets : Tensor or None
        None explains the model's own prediction.
    outputs : Tensor of shape (n, n_outputs)

    Returns
    -------
    ndarray of shape (n_outputs, n)
    """
    function = resolve_output(task, output, targets is not None, finite=True)
    targets = predicted_targets(task, outputs) if targets is None else targets
    outputs = outputs.clone().requires_grad_()
    values = function(outputs, targets)
    (slopes,) = torch.autograd.grad(values.sum(), outputs, allow_unused=True)
    slopes = torch.zeros_like(outputs) if slopes is None else slopes
    return np.ascontiguousarray(slopes.double().numpy().T)


def loss_slopes(task: Task, targets: torch.Tensor, outputs: torch.Tensor) -> np.ndarray:
    """The same for minus each row's loss."""
    return output_slopes(task, lambda z, t: -task.loss(z, t), targets, outputs)
