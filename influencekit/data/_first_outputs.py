"""Outputs of a model for one example, to which targets are compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.data._not_taken import not_taken
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
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise not_taken(task, inputs, name) from error
    except Exception as error:
        raise ValueError(
            f"{name}: {task.name} cannot take it: its forward raises {type(error).__name__}: "
            f"{error}. Accepted are inputs as in training; its own error is shown above."
        ) from error
