"""What is said of inputs that a model cannot take."""

from __future__ import annotations

from typing import Any

import torch

from influencekit.data._sources import leaves
from influencekit.models._task import Task

__all__ = ["not_taken"]


def not_taken(task: Task, inputs: Any, name: str) -> ValueError:
    """An error for inputs on which a model's forward fails.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
        The first example, as a batch.
    name : str
        The argument's name in messages.

    Returns
    -------
    ValueError
    """
    found = ", ".join(f"{p or name} {tuple(t.shape)} {t.dtype}" for p, t in leaves(inputs))
    whole = [p or name for p, t in leaves(inputs) if t.dtype == torch.long]
    cast = ""
    if whole:
        cast = (
            f" Whole numbers, uint8 too, are given as torch.int64; if those of {whole[0]} are not "
            f"indices, cast and scale them as in training, for instance pixels {whole[0]} / 255."
        )
    return ValueError(
        f"{name}: {task.name} cannot take it. Its first example as a batch has the shape "
        f"{found}; accepted are inputs as in training: the axes, features and dtype (floats "
        "for numbers), or integers within its embedding. The model's own error is shown above."
        f"{cast}"
    )
