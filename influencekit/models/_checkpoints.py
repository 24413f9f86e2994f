"""The same model with other trained weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
        callback writes such a ``params.pt``), or a folder that a Trainer or ``save_pretrained``
        wrote.  Files are read with ``weights_only=True``: nothing is unpickled.  Frozen weights and
        further names of a tied weight may be missing.
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
        module.load_state_dict(_filled(module, dict(state)), strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoints: item {position} is not a state dict of {type(module).__name__}: "
            f"{error}. Accepted is what module.state_dict() returns, for the same architecture."
        ) from error
    return replace(task, module=module)


def _filled(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with the weights that it may leave out: frozen ones, and other names of its own."""
    own = module.state_dict()
    trained = dict(module.named_parameters(remove_duplicate=False))
    if not state.keys() & own.keys():
        state = _of_adapter(own, state)
    places = {name: value.data_ptr() for name, value in own.items() if _has_place(value)}
    given = {places[name]: name for name in state if name in places}
    for name in own.keys() - state.keys():
        if places.get(name) in given:
            state[name] = state[given[places[name]]]
        elif given and name in trained and not trained[name].requires_grad:
            state[name] = own[name]
    return state


def _has_place(value: Any) -> bool:
    """Whether an entry of a state is a tensor whose numbers stand in one place."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.numel() > 0


def _of_adapter(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an adapter by their names in the model, from those in its file."""
    short = {name.removeprefix("base_model.model."): value for name, value in saved.items()}
    names = {n.replace(".modules_to_save.default", "").replace(".default", ""): n for n in own}
    return {names.get(name, name): value for name, value in short.items()}


def _file_in(folder: Path) -> Path:
    """The file of weights in a folder of the transformers library."""
    for name in ("adapter_model.safetensors", "model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"checkpoints: the folder {folder} has no model.safetensors, adapter_model.safetensors or "
        "pytorch_model.bin; accepted is one that a Trainer or save_pretrained wrote in one piece, "
        "or a state dict."
    )


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
    path = _file_in(Path(path)) if Path(path).is_dir() else path
    if os.fspath(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
