"""Whether an example's outputs are its own, or change with the other examples of the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._module import duplicate
from influencekit.models._task import Task
from influencekit.utils._torch import (
    largest,
    largest_difference,
    map_tensors,
    plain_kernels,
    tolerance,
)

__all__ = ["check_not_moved", "check_unmixed", "mixed"]

#: Parameters of a model in half precision that is also looked at in float32 if nothing moves.
_MOST_COPIED = 2**28


def check_unmixed(task: Task, single: Tensor, together: Tensor, dtype: torch.dtype) -> None:
    """Refuse a model whose outputs of an example change with the other examples of the batch."""
    if single.shape == together.shape:
        allowed = 10 * tolerance(dtype) * (1e-30 + largest(single))
        if largest_difference(single, together) <= allowed or bool(single.isnan().any()):
            return
    raise UnsupportedModelError(mixed(task))


def mixed(task: Task) -> str:
    """What is said of such a model."""
    return (
        f"model: an example's outputs change with the other examples in the batch of {task.name}, "
        "so it has no gradient per example. Causes: batch statistics (BatchNorm with "
        "track_running_stats=False), attention or normalization across the batch dimension, a "
        "batch that is not the first dimension, inputs that point to other rows (offsets of an "
        "EmbeddingBag, edges of graphs), or noise drawn in forward even in eval mode. "
        "Replace that operation, or give the model inputs whose first dimension runs over examples."
    )


def check_not_moved(
    task: Task, inputs: tuple[Any, Any], outputs: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    """Refuse a model whose outputs of the first example move when the second is exchanged.

    The same kernels run on the same shapes, so nothing moves, not even by rounding, unless the
    second example reaches the first. Only where examples decide about shapes (``layer(x[mask])``)
    is there another rounding.

    Parameters
    ----------
    task : Task
    inputs : pair of (Tensor, tuple or dict of Tensor)
        Two examples, and the first with another one.
    outputs : pair of Tensor of shape (2, *output_shape)
        Of both, by the same kernels.
    dtype : torch.dtype
        That of the largest rounding in the model.
    """
    moved, rounding = _moved(task, *outputs), 10 * torch.finfo(dtype).eps
    half = task.input_dtype.itemsize < 4  # whose rounding would hide what is mixed
    if half and (moved > 0 or task.n_parameters <= _MOST_COPIED):
        moved, dtype = _moved_when_wide(task, inputs, moved, dtype)
    if torch.finfo(dtype).bits >= 32:
        rounding = 300 * torch.finfo(dtype).eps
    if moved > rounding:
        raise UnsupportedModelError(mixed(task))


def _moved_when_wide(
    task: Task, inputs: tuple[Any, Any], moved: float, dtype: torch.dtype
) -> tuple[float, torch.dtype]:
    """The same of the model in float32, and that dtype, if it runs there."""
    both = map_tensors(lambda t: t.float() if t.is_floating_point() else t, inputs)
    try:
        wide = replace(task, module=duplicate(task.module).float())
        with torch.no_grad(), plain_kernels():
            return _moved(wide, *map(wide.forward, both)), torch.float32
    except (RuntimeError, ValueError, TypeError):  # a cast inside, quantized weights
        return moved, dtype


def _moved(task: Task, one: Tensor, other: Tensor) -> float:
    """How far the first example's outputs move, relative to the largest."""
    if one.shape != other.shape:
        raise UnsupportedModelError(mixed(task))
    return largest(one[0] - other[0]) / (largest(one[0]) + 1e-30)
