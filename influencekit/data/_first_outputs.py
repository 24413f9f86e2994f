"""Outputs of a model for one example, to which targets are compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.data._sources import leaves
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task

__all__ = ["first_outputs"]


@torch.no_grad()
def first_outputs(task: Task, inputs: Any, name: str) -> Tensor:
    """Outputs for the first example, with a clear error if the model cannot take it.

    Parameters
    ----------
    task : Task
    inputs : Tensor, or tuple or dict of Tensors
        One example as a batch.
    name : str
        The argument's name in messages.

    Returns
    -------
    Tensor of shape (1, ...)

    Raises
    ------
    ValueError
        If the model raises an error.
    """
    try:
        return task.forward(inputs)
    except UnsupportedModelError:
        raise
    except Exception as error:
        found = ", ".join(f"{p or name} {tuple(t.shape)} {t.dtype}" for p, t in leaves(inputs))
        known = isinstance(error, (RuntimeError, IndexError, TypeError, ValueError))
        own = "" if known else f" ({type(error).__name__}: {error})"
        raise ValueError(
            f"{name}: {task.name} cannot take it. Its first example as a batch has the shape "
            f"{found}; accepted are inputs as in training: the axes, features and dtype (floats "
            "for numbers), or indices within its embedding. The model's own error is shown above"
            f"{own}."
        ) from error
