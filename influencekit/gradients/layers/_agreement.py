"""Whether gradients or outputs that were computed in two ways are the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task

__all__ = ["agrees", "check_unmixed", "forward_alone", "tolerance"]


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that counts as rounding."""
    return 2 * torch.finfo(dtype).eps ** 0.5


def agrees(found: Tensor, expected: Tensor, scale: float) -> bool:
    """Whether gradients agree, given the largest gradient of all parameters."""
    floor = 100 * torch.finfo(expected.dtype).eps * scale
    allowed = tolerance(expected.dtype) * float(expected.abs().max()) + floor
    return found.shape == expected.shape and bool(((found - expected).abs() <= allowed).all())


def forward_alone(task: Task, inputs: Any) -> Tensor:
    """Outputs of a single example."""
    try:
        return task.forward(inputs)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{_mixed(task)} The first example alone fails with: {error}"
        ) from error


def check_unmixed(task: Task, single: Tensor, together: Tensor) -> None:
    """Refuse a model whose outputs of an example change with the other examples of the batch."""
    if single.shape == together.shape:
        allowed = 10 * tolerance(single.dtype) * (1e-30 + float(single.abs().max()))
        if bool(((single - together).abs() <= allowed).all()) or bool(single.isnan().any()):
            return
    raise UnsupportedModelError(_mixed(task))


def _mixed(task: Task) -> str:
    return (
        f"model: an example's outputs change with the other examples in the batch of {task.name}, "
        "so it has no gradient per example. Causes: batch statistics (BatchNorm with "
        "track_running_stats=False), attention or normalization across the batch dimension, a "
        "batch that is not the first dimension, or noise drawn in forward even in eval mode. "
        "Replace that operation, or give the model inputs whose first dimension runs over examples."
    )
