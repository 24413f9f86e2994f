"""A Task of which only some layers count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from influencekit.models._module import duplicate
from influencekit.models._run_task import RunTask
from influencekit.models._task import Task
from influencekit.utils._suggest import did_you_mean

__all__ = ["task_of_layers"]


def task_of_layers(task: Task, layers: str | Sequence[str] | None) -> Task:
    """The same model with all other parameters as constants.

    Parameters
    ----------
    task : Task
    layers : str, sequence of str or None
        "last", or names or patterns of modules or parameters, such as ``"encoder.*.attention"``;
        a module stands for all that it contains. None is all of them.

    Returns
    -------
    Task

    Raises
    ------
    ValueError
        If a pattern matches no trainable parameter, or the model is a recorded run.
    """
    if layers is None:
        return task
    if isinstance(task, RunTask):
        raise ValueError(
            "layers: a recorded run is differentiated as a whole. Give the model at its end, or "
            "leave layers out."
        )
    names = list(task.parameters)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if not patterns:
        raise ValueError(f"layers: got {layers!r}; accepted are names of layers, and None.")
    kept: set[str] = set()
    for pattern in patterns:
        found = _matching(names, pattern)
        if not found:
            known = sorted({part for name in names for part in _parts(name)})
            raise ValueError(
                f"layers: {pattern!r} is the name of no trainable layer of {task.name}; accepted "
                f"are 'last', and names or patterns such as {known[:6]}."
                f"{did_you_mean(str(pattern), known)}"
            )
        kept.update(found)
    module = duplicate(task.module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in kept)
    return replace(task, module=module)


def _matching(names: list[str], pattern: Any) -> list[str]:
    if pattern == "last":
        owner = names[-1].rpartition(".")[0]
        return [name for name in names if name.rpartition(".")[0] == owner]
    return [name for name in names if any(fnmatchcase(p, str(pattern)) for p in _parts(name))]


def _parts(name: str) -> Iterator[str]:
    """The names of a parameter and of the modules that contain it."""
    while name:
        yield name
        name = name.rpartition(".")[0]
