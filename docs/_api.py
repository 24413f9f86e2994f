"""What the reference lists: the names in ``__all__`` of every public room."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

import influencekit

#: a public module that is not a room of its own
FURTHER = ["influencekit.utils.estimator_checks"]


@cache
def rooms() -> list[str]:
    """The package first, since its names are the ones to import, then its public modules."""
    found = [m.name for m in pkgutil.iter_modules(influencekit.__path__)]
    named = [f"influencekit.{name}" for name in found if not name.startswith("_")]
    listed = ["influencekit", *named, *FURTHER]
    return [room for room in listed if hasattr(importlib.import_module(room), "__all__")]


@cache
def homes() -> dict[str, str]:
    """From every public name to the one that has the page: the same, or the package's."""
    first: dict[int, str] = {}
    found = {}
    for room in rooms():
        module = importlib.import_module(room)
        for name in module.__all__:
            value = getattr(module, name)
            found[f"{room}.{name}"] = first.setdefault(id(value), f"{room}.{name}")
    return found


def public_name(name: str) -> str | None:
    """The name under which an object has its page; None for what is not public."""
    return homes().get(name)


def api_of(room: str) -> dict[str, list[str]]:
    """The names of a room by kind: classes, functions, data, and those shown elsewhere."""
    module = importlib.import_module(room)
    kinds: dict[str, list[str]] = {"elsewhere": [], "classes": [], "functions": [], "data": []}
    for name in sorted(module.__all__, key=str.lower):
        home = homes()[f"{room}.{name}"]
        kinds[kind_of(home, f"{room}.{name}", getattr(module, name))].append(home)
    return kinds


def kind_of(home: str, name: str, value: object) -> str:
    """Which list of its room's page a name belongs to."""
    if home != name:
        return "elsewhere"
    if inspect.isclass(value):
        return "classes"
    return "functions" if inspect.isfunction(value) else "data"
