"""A model's outputs for the first example, or what is wrong with the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.data._sources import leaves
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task

__all__ = ["first_outputs"]


@torch.no_grad()
def first_outputs(task: Task, examples: Any, name: str) -> Tensor:
    """Outputs for the first example, with a clear error if the model cannot take it.

    Parameters
    ----------
    task : Task
    examples : Examples
    name : str
        The argument's name in messages.

    Returns
    -------
    Tensor of shape (1, ...)
    """
    inputs = next(examples.batches(1)).inputs
    try:
        outputs = task.forward(inputs)
    except UnsupportedModelError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(_not_taken(task, inputs, name)) from error
    if not outputs.numel():
        raise UnsupportedModelError(
            f"model: {task.name} has outputs of shape {('n', *outputs.shape[1:])}, without any "
            "number; accepted are outputs that a loss can depend on."
        )
    return outputs


def _not_taken(task: Task, inputs: Any, name: str) -> str:
    """What is said of inputs that a model cannot take."""
    found = ", ".join(f"{p or name} {tuple(t.shape)} {t.dtype}" for p, t in leaves(inputs))
    whole = [p or name for p, t in leaves(inputs) if t.dtype == torch.long]
    cast = ""
    if whole:
        cast = (
            f" Whole numbers, uint8 too, are given as torch.int64; if those of {whole[0]} are no "
            f"indices, cast and scale them as in training, for instance pixels {whole[0]} / 255."
        )
    return (
        f"{name}: {task.name} cannot take it. Its first example as a batch has the shape "
        f"{found}; accepted are inputs as in training: the axes, features and dtype (floats "
        "for numbers), or integers within its embedding. The model's own error is shown above."
        f"{cast}"
    )
