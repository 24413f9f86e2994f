"""What a user's own loss takes, checked on the first examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._sources import (
    Source,
    check_dtype,
    check_finite,
    check_tensor,
    map_tree,
    to_tensor,
)
from influencekit.models._task import Task
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._packing import pack
from influencekit.models.losses._separate import check_separate, check_slopes

__all__ = ["check_own_loss", "is_structured", "pack_targets"]

#: Examples on which a loss is tried.
_SOME = 8


@torch.no_grad()
def check_own_loss(task: Task, examples: Any, name: str) -> None:
    """Refuse a user's loss that mixes examples.

    Batches of one example would not show that.

    Parameters
    ----------
    task : Task
    examples : Examples
        With targets.
    name : str
        The name of the targets in messages.
    """
    if len(examples) == 1:
        return
    first = next(examples.batches(_SOME))
    try:
        outputs = task.forward(first.inputs)
    except Exception:  # whatever a model raises is said where data are read
        return
    targets = first.targets
    try:
        _check(task.loss, outputs, targets)
    except ValueError as error:
        if targets.ndim == 1 and outputs.shape[1:] == (1,) and _passes(task.loss, outputs, targets):
            n = len(examples)
            raise ValueError(
                f"{name}: got shape ({n},), but {task.name} has outputs of shape ({n}, 1), so the "
                f"loss broadcasts them to (n, n). Give y the shape of the outputs, {name}[:, None]."
            ) from error
        raise


def _check(loss: OutputLoss, outputs: Tensor, targets: Tensor) -> None:
    check_separate(loss, outputs, targets, loss(outputs, targets))
    check_slopes(loss, outputs, targets)
    if isinstance(loss, CustomLoss):
        loss.check_total(outputs, targets)


def _passes(loss: OutputLoss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a loss keeps examples apart once targets have a column."""
    try:
        _check(loss, outputs, targets[:, None])
    except (ValueError, RuntimeError):
        return False
    return True


def is_structured(y: Any) -> bool:
    """Whether targets are several arrays, in a tuple or a dict."""
    values = y.values() if isinstance(y, Mapping) else y
    return len(y) > 0 and all(len(getattr(value, "shape", ())) > 0 for value in values)


def pack_targets(task: Task, source: Source, y: Any, name: str) -> Tensor:
    """Several targets of each example side by side, float64, for a loss that takes them.

    Parameters
    ----------
    task : Task
    source : Source
    y : tuple or dict of arrays (n_examples, ...)
    name : str
        The argument's name in messages.

    Returns
    -------
    Tensor of shape (n_examples, n_columns)

    Raises
    ------
    TypeError
        If the task's loss takes one array of targets.
    ValueError
        If an array has another length.
    """
    if not isinstance(task.loss, CustomLoss):
        raise TypeError(
            f"{name}: got a {type(y).__name__} of {len(y)} arrays, but the loss of {task.name} "
            f"({type(task.loss).__name__}) takes one; accepted is an array with a target for each "
            "example. For several targets give the loss as a function of them: "
            "as_task(model, loss=lambda outputs, y: ...)."
        )

    def read(leaf: Any, path: str) -> Tensor:
        check_tensor(leaf, name + path)
        array = leaf if isinstance(leaf, Tensor) else np.asarray(leaf)
        check_dtype(array, name + path)
        check_finite(array, name + path, task.dtype)
        if len(array) != len(source):
            raise ValueError(
                f"{name}{path}: got {len(array)} rows for {len(source)} examples; accepted is one "
                "row for each example."
            )
        return to_tensor(array).detach()

    # float64 holds class positions and counts exactly
    packed, task.loss.targets_packing = pack(map_tree(read, y), name, torch.float64)
    return packed.to(task.device)
