"""A trial before runs are trained together: they must equal one model alone; and what they cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from influencekit.models import Task
from influencekit.training._probe import _close, _first_line, _size
from influencekit.training._randomness import RandomStream
from influencekit.training.further._stack import ModelStack
from influencekit.training.further._step import TrainingRows
from influencekit.utils import count_saved_bytes

__all__ = ["bytes_per_run", "why_not_together"]

#: Rows of the trial batch.
N_ROWS = 4


def why_not_together(task: Task, rows: TrainingRows) -> str | None:
    """Compare two runs together with each alone: outputs, gradients and random stream.

    Parameters
    ----------
    task : Task
    rows : TrainingRows

    Returns
    -------
    str or None
        What went wrong, or None.
    """
    try:
        together = _trial(ModelStack(task), task, rows)
    except Exception as error:  # torch raises whatever an unsupported operation raises
        return f"its forward cannot be vmapped ({_first_line(error)})"
    alone = _trial(ModelStack(task, together=False), task, rows)
    for name, value in alone.items():
        if not _close(together[name], value, _size(value)):
            return f"{name} differs between the stack and a model alone"
    return None


def _trial(stack: ModelStack, task: Task, rows: TrainingRows) -> dict[str, Tensor]:
    stack.train_mode()
    parameters = stack.initial(2)
    with torch.no_grad():
        for p in parameters.values():
            p[1] *= 0.9  # told apart
    torch.manual_seed(0)
    stream = RandomStream.capture(task.device)
    inputs, targets = rows.take(torch.arange(min(N_ROWS, len(rows.targets))))
    outputs = stack.outputs(parameters, inputs, True, stream)
    own = list(parameters.values())
    losses = stack.losses(outputs, targets, True)
    gradients = torch.autograd.grad(losses.sum(), own, allow_unused=True)
    found = {"the output": outputs.detach(), "the random stream": stream.cpu}
    return found | {
        f"the gradient of {n}": g
        for n, g in zip(parameters, gradients, strict=True)
        if g is not None
    }


def bytes_per_run(task: Task, rows: TrainingRows, length: int) -> int:
    """Bytes that a run takes in training: parameters, optimiser, activations and batch."""
    stack = ModelStack(task, together=False)
    stack.train_mode()
    few = min(length, 16)
    inputs, _ = rows.take(torch.arange(few))
    with count_saved_bytes() as saved:
        stack.outputs(stack.initial(1), inputs, True, RandomStream.capture(task.device))
    parameters = sum(p.numel() * p.element_size() for p in task.parameters.values())
    batch = sum(t.numel() * t.element_size() for t in tree_leaves(inputs))
    return max(1, 8 * parameters + (3 * saved.total + 2 * batch) * length // few)
