"""What code does, told without its layout: instructions, constants and names of a function."""

from __future__ import annotations

import dis
import importlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

__all__ = ["CodeText", "imported_module", "is_users", "read_code"]

#: Methods by which a function changes a list, dict or set: what it holds is then state, not code.
_CHANGING = {"add", "append", "appendleft", "clear", "extend", "insert", "pop", "setdefault"}
_CHANGING |= {"update", "write", "discard", "remove", "popleft"}
#: Instructions that depend on the layout of the source alone.
_LAYOUT = {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "RESUME"}
#: What a module is called and where it lies.
_FILE_NAMES = {"__name__", "__file__", "__package__"}
#: Names that the body of a class sets from the layout of the source.
_TEXT_NAMES = {"__doc__", "__firstlineno__", "__qualname__", "__module__", "__static_attributes__"}


@dataclass(frozen=True)
class CodeText:
    """A code object and those inside it.

    Parameters
    ----------
    text : str
        Instructions, constants and names, without file names, line numbers and docstrings.
    global_names, attributes, modules : list of str
        What the code looks up: global names, attributes, and modules that it imports.
    filled : list of str
        Names of lists, dicts and sets that the code itself changes.
    stored : list of str
        Names outside of the code that it gives other values.
    """

    text: str
    global_names: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


@lru_cache(maxsize=4096)
def read_code(code: CodeType) -> CodeText:
    """Describe a code object.

    Parameters
    ----------
    code : code object

    Returns
    -------
    CodeText
    """
    kept = [one for one in dis.get_instructions(code) if one.opname not in _LAYOUT]
    place = _places(code, kept)
    found = CodeText("")
    texts = [_signature(code)]
    for at, one in enumerate(kept):
        after = kept[at + 1] if at + 1 < len(kept) else None
        texts.append(f"{one.opname} {_argument(one, after, place, found)}")
        _note_names(code, one, after, found)
    return CodeText("\n".join(texts), *list(vars(found).values())[1:])


def _signature(code: CodeType) -> str:
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return repr((counts, names, code.co_flags, code.co_freevars))


def _places(code: CodeType, kept: list[dis.Instruction]) -> dict[int, int]:
    """Position among the kept instructions of each offset, that jumps may lead to."""
    starts = {one.offset: at for at, one in enumerate(kept)}
    place, at = {}, len(kept)
    for offset in range(len(code.co_code), -1, -2):
        at = starts.get(offset, at)
        place[offset] = at
    return place


def _argument(
    one: dis.Instruction, after: dis.Instruction | None, place: dict[int, int], found: CodeText
) -> str:
    if one.opcode in dis.hasconst:
        if after is not None and after.opname == "STORE_NAME" and after.argval in _TEXT_NAMES:
            return ""
        return _constant(one.argval, found)
    if one.opcode in dis.hasname or one.opcode in dis.hasfree:
        return str(one.argval)
    if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
        return str(place.get(one.argval, one.argval))
    return str(one.arg)


def _constant(value: Any, found: CodeText) -> str:
    """A constant with its type; code inside is read as well."""
    if isinstance(value, CodeType):
        inner = read_code(value)
        for name in ("global_names", "attributes", "modules", "filled", "stored"):
            getattr(found, name).extend(getattr(inner, name))
        return f"({inner.text})"
    if isinstance(value, tuple):
        return f"({', '.join(_constant(item, found) for item in value)})"
    if isinstance(value, frozenset):  # its order depends on the process
        return f"set({', '.join(sorted(_constant(item, found) for item in value))})"
    return f"{type(value).__name__} {value!r}"


def _note_names(
    code: CodeType, one: dis.Instruction, after: dis.Instruction | None, found: CodeText
) -> None:
    """Keep what an instruction looks up or changes."""
    name = one.argval
    if one.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name not in _FILE_NAMES:
        found.global_names.append(name)
    elif one.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
        found.attributes.append(name)
    elif one.opname == "IMPORT_NAME":
        found.modules.append(name)
    elif one.opname == "STORE_GLOBAL" or (one.opname == "STORE_DEREF" and name in code.co_freevars):
        found.stored.append(name)
    if one.opname.startswith("LOAD_") and after is not None and after.argval in _CHANGING:
        found.filled.append(name)


def is_users(module_name: str | None) -> bool:
    """Whether a module is the user's own: neither installed, nor Python's, nor this package's.

    Parameters
    ----------
    module_name : str or None
        None for code without a module.

    Returns
    -------
    bool
    """
    if module_name is None or module_name in ("__main__", "__mp_main__"):
        return True
    if not isinstance(module_name, str):  # a class of compiled code has a descriptor there
        return False
    top = module_name.split(".")[0]
    if top in sys.stdlib_module_names or top in ("influencekit", "builtins"):
        return False
    if top.startswith("_cython_"):  # shared by all that Cython compiled
        return False
    module = sys.modules.get(module_name)
    return module is None or _is_users_spec(module, getattr(module, "__spec__", None))


def _is_users_spec(module: ModuleType | None, spec: Any) -> bool:
    file = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    if file is None or file in ("built-in", "frozen"):
        return spec is None  # made by hand
    return not str(file).startswith(_installed_folders())


@lru_cache(maxsize=1)
def _installed_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_path(name) for name in names] + [site.getusersitepackages()]
    return tuple(folder for folder in folders + site.getsitepackages() if folder)


def imported_module(name: str, package: str | None) -> ModuleType | None:
    """The user's module that a function imports when it runs; None if it is not the user's.

    Parameters
    ----------
    name : str
        As the import statement says it.
    package : str or None
        Package of the function, for relative imports.

    Returns
    -------
    module or None
    """
    for full in _full_names(name, package):
        if full in sys.modules:
            return sys.modules[full] if is_users(full) else None
        with suppress(Exception):  # whatever the import of a parent package raises
            spec = importlib.util.find_spec(full)
            if spec is not None:
                return importlib.import_module(full) if _is_users_spec(None, spec) else None
    return None


def _full_names(name: str, package: str | None) -> Iterator[str]:
    parts = package.split(".") if package else []
    if name and name.split(".")[0] not in sys.stdlib_module_names:
        yield name
    for length in range(len(parts), 0, -1):
        yield ".".join([*parts[:length], *([name] if name else [])])
