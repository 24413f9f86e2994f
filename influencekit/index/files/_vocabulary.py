"""What may stand in a saved attributor: the package's own classes, and parts of the model."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch import nn

from influencekit.models._task import Task
from influencekit.utils._archives import DamagedFile

__all__ = [
    "class_named",
    "follow",
    "function_named",
    "is_algebra",
    "is_known",
    "name_of",
    "parts_of_models",
]

#: Rooms whose functions and methods only compute, but for those of WRITING: these may be saved.
ALGEBRA = ("influencekit.curvature.", "influencekit.gradients.", "influencekit.models.losses.")
WRITING = ("influencekit.gradients._store",)
#: Modules whose objects open the files that they name, which a manifest must not choose.
OPENING = ("influencekit.data._mapped",)
_PLAIN = (type(None), bool, int, float, str)


def is_known(cls: type) -> bool:
    """Whether objects of a class are saved as their attributes.

    Parameters
    ----------
    cls : type
        Classes of this package, and torch's own layers.

    Returns
    -------
    bool
    """
    own = cls.__module__.startswith("influencekit.") and cls.__module__ not in OPENING
    layer = cls.__module__.startswith("torch.nn.modules.") and issubclass(cls, nn.Module)
    return (own or layer) and "<" not in cls.__qualname__


def name_of(cls: Any) -> str:
    """The name of a class or function in a manifest."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_named(name: Any) -> type:
    """The class with a name in a manifest; only modules of the package and torch's layers.

    Raises
    ------
    DamagedFile
        For every other name.
    """
    module, _, qualname = name.partition(":") if isinstance(name, str) else ("", "", "")
    allowed = module.startswith(("influencekit.", "torch.nn.modules."))
    found: Any = None
    if allowed and all(part.isidentifier() for part in module.split(".")):
        try:
            found = importlib.import_module(module)
            for part in qualname.split("."):
                found = vars(found).get(part)
        except (ImportError, TypeError):
            found = None
    if not isinstance(found, type) or not is_known(found) or name_of(found) != name:
        raise DamagedFile(
            f"the manifest names the class {str(name)[:100]!r}; accepted are influencekit's own"
        )
    return found


def parts_of_models(tasks: Any) -> Iterator[tuple[list[Any], Any]]:
    """Everything that an attributor may share with its models, with the way to it.

    Parameters
    ----------
    tasks : sequence of Task

    Yields
    ------
    path : list of int and str
        Steps of :func:`follow`.
    part : object
    """
    for i, task in enumerate(tasks):
        yield from _parts(task, [i])


def _parts(task: Any, path: list[Any]) -> Iterator[tuple[list[Any], Any]]:
    yield path, task
    for field in fields(task):
        part = getattr(task, field.name)
        if field.name == "checkpoints":
            for i, checkpoint in enumerate(part):
                yield from _parts(checkpoint, [*path, "checkpoints", i])
        elif not isinstance(part, (*_PLAIN, tuple)) or (isinstance(part, tuple) and part):
            # Python has one empty tuple for all
            yield [*path, field.name], part


def follow(tasks: Any, path: Any) -> Any:
    """The part of the models at the end of a path.

    Raises
    ------
    DamagedFile
        If the models do not have it.
    """
    found = tasks
    try:
        for step in path:
            if isinstance(found, Task) and step in {field.name for field in fields(found)}:
                found = getattr(found, step)
            elif isinstance(found, (list, tuple)) and type(step) is int and step >= 0:
                found = found[step]
            else:
                raise LookupError
    except (LookupError, TypeError):
        raise DamagedFile(
            f"the manifest refers to the model's {str(path)[:80]}, which it does not have"
        ) from None
    return found


def is_algebra(function: Any) -> bool:
    """Whether a function or bound method is one of those that only compute."""
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, types.FunctionType) or "<" in plain.__qualname__:
        return False
    return plain.__module__.startswith(ALGEBRA) and plain.__module__ not in WRITING


def function_named(name: Any) -> types.FunctionType:
    """The function with a name in a manifest, of those that only compute.

    Raises
    ------
    DamagedFile
        For every other name.
    """
    module, _, short = name.partition(":") if isinstance(name, str) else ("", "", "")
    found: Any = None
    if module.startswith(ALGEBRA) and all(part.isidentifier() for part in module.split(".")):
        try:
            found = vars(importlib.import_module(module)).get(short)
        except ImportError:
            found = None
    if not is_algebra(found) or name_of(found) != name:
        raise DamagedFile(
            f"the manifest names the function {str(name)[:100]!r}; accepted are those of "
            f"influencekit that only compute"
        )
    return found
