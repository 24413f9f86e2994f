"""What the reference lists: the names in ``__all__`` of public rooms, and what they return."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path

import influencekit

#: a public module that is not a room of its own
FURTHER = ["influencekit.utils.estimator_checks"]
PAGES = sorted(Path(__file__).parent.glob("api/*.rst"))


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
            if not name.startswith("_"):
                value = getattr(module, name)
                found[f"{room}.{name}"] = first.setdefault(id(value), f"{room}.{name}")
    return found


@cache
def listed() -> list[str]:
    """The dotted names on the pages of ``docs/api``."""
    entry = re.compile(r"^   ~(influencekit[\w.]*)$|^\.\. py:data:: ([\w.]+)$", re.MULTILINE)
    found = (entry.findall(page.read_text(encoding="utf-8")) for page in PAGES)
    return [name or data for names in found for name, data in names]


@cache
def results() -> dict[str, str]:
    """From the class names of results, which no package exports, to where the classes stand."""
    return {name.rsplit(".", 1)[1]: name for name in listed() if "._" in name}


@cache
def short_names() -> dict[str, str]:
    """From a name without its modules to its page."""
    return {home.rsplit(".", 1)[1]: home for home in [*homes().values(), *results().values()]}


def public_name(name: str) -> str | None:
    """The name under which an object has its page; None for what has none.

    A file's own docstrings write its names bare, and results by the package that they are of.
    """
    module, _, last = name.rpartition(".")
    bare = not module or "._" in module or last in results()
    return homes().get(name) or (short_names().get(last) if bare else None)
