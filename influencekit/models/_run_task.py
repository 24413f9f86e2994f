"""A model together with checkpoints of the training that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task

__all__ = ["RunTask", "run_task"]


@dataclass(frozen=True, eq=False)
class RunTask(Task):
    """Task of a model at the end of its training, with checkpoints of that training.

    Every attributor treats it as the model at the end; :class:`~influencekit.RunAverage` also uses
    the checkpoints. Made by :func:`run_task`.

    Parameters
    ----------
    checkpoints : tuple of Task
        The model at some steps of its training, in order.
    """

    checkpoints: tuple[Task, ...] = ()

    __repr__ = Task.__repr__


def run_task(end: Task, checkpoints: Sequence[Task]) -> RunTask:
    """A model with checkpoints of its training.

    Parameters
    ----------
    end : Task
        The model at the end of its training.
    checkpoints : sequence of Task
        Checkpoints with the same architecture and classes, in the order of training.

    Returns
    -------
    Task
        Every attributor treats it as the model at the end; its attribute ``checkpoints`` holds the
        checkpoints, for :class:`~influencekit.RunAverage`.

    Raises
    ------
    UnsupportedModelError
        If the parameters of a checkpoint differ from those of the model.

    Examples
    --------
    >>> import torch
    >>> from influencekit.models import as_task, load_checkpoints
    >>> from influencekit.models._run_task import run_task
    >>> net, loss = torch.nn.Linear(2, 1), torch.nn.MSELoss()
    >>> start = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    >>> run = run_task(as_task(net, loss), load_checkpoints(net, [start], loss))
    >>> len(run.checkpoints)
    1
    """
    wanted = {name: p.shape for name, p in end.parameters.items()}
    for i, task in enumerate(checkpoints):
        if {name: p.shape for name, p in task.parameters.items()} != wanted:
            raise UnsupportedModelError(
                f"checkpoints: the trainable parameters of item {i} differ from those of "
                f"{end.name}. Accepted "
                "are models of one training run: the same architecture, with other weights."
            )
    shared = {f.name: getattr(end, f.name) for f in fields(Task)}
    # held-out rows are determined once, for the model at the end
    own = tuple(replace(task, training_rows=None) for task in checkpoints)
    return RunTask(**shared, checkpoints=own)
