"""The same model with other trained weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influencekit.models._module import copy_module
from influencekit.models._task import Task, TaskList, as_task

__all__ = ["load_checkpoints"]


def load_checkpoints(model: Any, checkpoints: Iterable[Any], loss: Any = None) -> TaskList:
    """The same model with other trained weights, for ensembles and methods along training.

    Parameters
    ----------
    model : fitted model or Task
        Model with the architecture, loss and preprocessing of all checkpoints.
    checkpoints : iterable of mapping, str or path
        State dicts of the torch module: a mapping of names to tensors, or the path of a file
        written by ``torch.save(module.state_dict(), path)`` or safetensors (skorch's Checkpoint
        callback writes such a ``params.pt``).  Files are read with ``weights_only=True``: nothing
        is unpickled.
    loss : callable or torch.nn.Module, default=None
        The loss, needed for a bare torch module.

    Returns
    -------
    TaskList
        List of Tasks for any attributor: ``fit(load_checkpoints(model, paths), X, y)``.

    Raises
    ------
    ValueError
        If the names or shapes of a checkpoint are not those of the module.

    Examples
    --------
    >>> import torch
    >>> from influencekit.models import load_checkpoints
    >>> net = torch.nn.Linear(2, 1)
    >>> states = [net.state_dict(), {k: v + 1 for k, v in net.state_dict().items()}]
    >>> len(load_checkpoints(net, states, loss=torch.nn.MSELoss()))
    2
    """
    if not isinstance(checkpoints, Iterable) or isinstance(checkpoints, (str, Mapping)):
        raise TypeError(
            f"checkpoints: got {type(checkpoints).__name__}; accepted is a list of state dicts or "
            "of paths of files with a state dict."
        )
    task = as_task(model) if loss is None else as_task(model, loss)
    tasks = TaskList(_with_state(task, state, i) for i, state in enumerate(checkpoints))
    if not tasks:
        raise ValueError(
            "checkpoints: got an empty list; accepted is at least one state dict or file."
        )
    return tasks


def _with_state(task: Task, checkpoint: Any, position: int) -> Task:
    state = checkpoint if isinstance(checkpoint, Mapping) else _read(checkpoint)
    module = copy_module(task.module)
    try:
        module.load_state_dict(dict(state), strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoints: item {position} is not a state dict of {type(module).__name__}: "
            f"{error}. Accepted is what module.state_dict() returns, for the same architecture."
        ) from error
    return replace(task, module=module)


def _read(path: Any) -> Mapping[str, Tensor]:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"checkpoints: got an item of type {type(path).__name__}; accepted are state dicts "
            f"and paths of files with a state dict."
        )
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"checkpoints: {os.fspath(path)} does not exist; accepted are paths of files with a "
            "state dict."
        )
    if os.fspath(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
