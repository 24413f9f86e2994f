"""Values of targets against what a loss is defined for."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.models._task import Task
from influencekit.models.losses._cross_entropy import CrossEntropy

__all__ = ["check_values"]

#: How far the shares of an example may be from a sum of 1.
_SUM = 1e-3


def check_values(task: Task, targets: Tensor, name: str) -> None:
    """Refuse targets outside the range of the task's loss, whose value would have no meaning.

    Parameters
    ----------
    task : Task
    targets : Tensor of shape (n, ...)
        Numbers, encoded for the loss.
    name : str
        The argument's name in messages.

    Raises
    ------
    ValueError
        If a target is outside the range, or shares of classes do not sum to 1.
    """
    if isinstance(task.loss, CrossEntropy):
        _check_shares(targets, name)
    limits = task.loss.target_range
    if limits is None:
        return
    bad = targets > limits.high
    bad |= targets <= limits.low if limits.open else targets < limits.low
    if limits.ends:
        bad |= (targets != limits.low) & (targets != limits.high)
    if bool(bad.any()):
        row = _first(bad)
        raise ValueError(
            f"{name}: got {float(targets[bad][0]):g} in row {row}; accepted by the loss of "
            f"{task.name} ({type(task.loss).__name__}) are targets {limits.words}. Encode them as "
            "for the model's training, or give as_task the loss that it was trained with."
        )


def _check_shares(shares: Tensor, name: str) -> None:
    """Refuse shares of classes below 0, or with a sum that is not 1."""
    sums = shares.flatten(1).sum(1)
    bad = (shares.flatten(1) < 0).any(1) | ((sums - 1).abs() > _SUM)
    if bool(bad.any()):
        row = _first(bad)
        found = [round(v, 4) for v in shares[row].flatten().tolist()[:5]]
        raise ValueError(
            f"{name}: got {found} in row {row}, the share of each class, with the sum "
            f"{float(sums[row]):g}; accepted are shares that are not negative and sum to 1. "
            f"Divide each row by its sum ({name} / {name}.sum(axis=1, keepdims=True)), or give "
            "as_task the loss as a function of outputs and targets."
        )


def _first(bad: Tensor) -> int:
    return int(torch.nonzero(bad)[0, 0])
