"""Hex digests of data, configuration and code, equal in every process that holds the same."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections import deque
from collections.abc import Iterable, Mapping
from pickle import Pickler
from typing import Any

import joblib
import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from skorch import NeuralNet

from influencekit.training._code import CodeText, imported_module, is_users, read_code

__all__ = ["fingerprint"]


def fingerprint(*parts: Any) -> str:
    """Hex digest of data and configuration.

    Arrays, tensors and frames count by value, estimators by class and parameters (not by
    what they learned).  Functions and classes of the user's own modules count by what they do: by
    instructions and constants, closures, defaults, base classes, and the user's functions, classes
    and constants that they look up.  Comments, docstrings and lines do not count.  Installed ones
    count by name and version.

    Parameters
    ----------
    *parts : any

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a part does not have a stable description.
    """
    digest = _Digest()
    for part in parts:
        digest.feed(part)
    return digest.sha.hexdigest()[:32]


#: Attributes of every class that say nothing of what it does.
_CLASS_TEXT = {
    "__abstractmethods__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__dataclass_fields__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__match_args__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__slotnames__",  # that pickle leaves there
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}
#: Attributes of every torch module, which its state and its parts tell.
_MODULE_STATE = set(vars(torch.nn.Module())) | {"training"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class _Digest:
    """A digest that is fed part by part, and knows which code and objects it has met."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.met: dict[int, int] = {}
        self.kept: list = []  # alive, so that nobody else gets their ids
        self.lenient = False  # whether what cannot be described counts by its type

    def tell(self, *texts: Any) -> None:
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode()
            self.sha.update(f"{len(data)}:".encode())
            self.sha.update(data)

    def feed(self, part: Any) -> None:
        if part is None or isinstance(part, (bool, int, float, complex, str, bytes)):
            self.tell(type(part).__name__, part if isinstance(part, bytes) else repr(part))
        elif isinstance(part, (np.ndarray, np.generic)) and part.dtype != object:
            part = np.asarray(part)
            self.tell("array", part.dtype.str, part.shape, np.ascontiguousarray(part).tobytes())
        elif isinstance(part, torch.Tensor):
            self.tell("tensor", part.dtype)
            self.feed(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            self.tell(tuple(part.shape))
        elif sparse.issparse(part):
            part = part.tocsr()
            for piece in (part.shape, part.indptr, part.indices, part.data):
                self.feed(piece)
        elif isinstance(part, (list, tuple, np.ndarray)):
            self.tell(type(part).__name__, len(part))
            for item in part:
                self.feed(item)
        elif isinstance(part, Mapping):
            self.tell("mapping", len(part))
            for key in sorted(part, key=repr):
                self.feed(key)
                self.feed(part[key])
        else:
            self._feed_object(part)

    def _feed_object(self, part: Any) -> None:
        if isinstance(part, type):
            self._feed_class(part)
        elif isinstance(part, types.MethodType):
            self.feed(part.__func__)
            self.feed(part.__self__)
        elif isinstance(part, types.FunctionType):
            self._feed_function(part)
        elif isinstance(part, (BaseEstimator, NeuralNet)):
            self.tell("estimator")
            self._feed_class(type(part))
            self.feed(part.get_params(deep=False))
        elif isinstance(part, torch.nn.Module):
            self._feed_module(part)
        elif isinstance(part, functools.partial):
            self.tell("partial")
            self.feed((part.func, part.args, part.keywords))
        elif callable(part) and hasattr(part, "__qualname__"):  # builtin
            self.tell("code", part.__qualname__, getattr(part, "__module__", None))
        else:
            self._feed_instance(part)

    def _first_met(self, part: Any) -> bool:
        """Whether a part is new; one that is known counts by its place."""
        place = self.met.setdefault(id(part), len(self.met))
        if place == len(self.kept):
            self.kept.append(part)
            return True
        self.tell("met", place)
        return False

    def _feed_function(self, function: types.FunctionType) -> None:
        if not self._first_met(function):
            return
        module = function.__globals__.get("__name__")
        self.tell("function", function.__qualname__)
        code = CodeText("")
        if is_users(module):
            code = read_code(function.__code__)
            self.tell(code.text)
            self._feed_looked_up(code, function.__globals__)
        else:
            self._tell_installed(module)
        self.feed(function.__defaults__)
        self.feed(function.__kwdefaults__)
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            self._feed_closed_over(name, cell, code)
        self.feed(getattr(function, "__wrapped__", None))

    def _feed_closed_over(self, name: str, cell: Any, code: CodeText) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            self.tell("empty cell")
            return
        if _is_state(name, value, code):
            self.tell("state", type(value).__name__)
        elif name == "__class__":  # of super(): the class itself is read elsewhere
            self.tell(value.__qualname__)
            self._feed_class(value)
        else:
            self.feed(value)

    def _feed_looked_up(self, code: CodeText, names: Mapping[str, Any]) -> None:
        """Global values that code looks up, and what it takes from the user's modules."""
        attributes = sorted(set(code.attributes))
        modules = [imported_module(m, names.get("__package__")) for m in sorted(set(code.modules))]
        for module in modules:
            if module is not None:
                self._feed_from_module(module, attributes)
        for name in sorted(set(code.global_names)):
            if name in names:
                self.tell("global", name)
                self._feed_leniently(name, names[name], code, attributes)

    def _feed_leniently(self, name: str, value: Any, code: CodeText, attributes: list) -> None:
        before, self.lenient = self.lenient, True
        if _is_state(name, value, code):
            self.tell("state", type(value).__name__)
        elif isinstance(value, types.ModuleType):
            self._feed_from_module(value, attributes)
        else:
            self.feed(value)
        self.lenient = before

    def _feed_from_module(self, module: types.ModuleType, attributes: list[str]) -> None:
        """What code takes from a module of the user's; another module by name and version."""
        if not is_users(module.__name__):
            self._tell_installed(module.__name__)
        elif self._first_met(module):
            for name in attributes:
                if name in vars(module):
                    self.tell("global", name)
                    self._feed_leniently(name, vars(module)[name], CodeText(""), attributes)

    def _tell_installed(self, module_name: Any) -> None:
        top = str(module_name).split(".")[0]
        self.tell("installed", module_name, getattr(sys.modules.get(top), "__version__", ""))

    def _feed_class(self, cls: type) -> None:
        if not self._first_met(cls):
            return
        self.tell("class", cls.__qualname__)
        if not is_users(cls.__module__):
            self._tell_installed(cls.__module__)
            return
        before, self.lenient = self.lenient, True
        for name, value in sorted(vars(cls).items()):
            if name not in _CLASS_TEXT:
                self.tell(name)
                self.feed([_bare(one) for one in _parts_of_attribute(value)])
        self.lenient = before
        for base in (*cls.__bases__, type(cls)):
            self._feed_class(base)

    def _feed_module(self, module: torch.nn.Module) -> None:
        if not self._first_met(module):
            return
        self.tell("module", repr(module))
        self.feed({**module.state_dict(), **dict(module.named_buffers())})
        before, self.lenient = self.lenient, True
        for name, part in module.named_modules():
            self.tell(name)
            self._feed_class(type(part))
            own = vars(part)
            self.feed({k: v for k, v in own.items() if k not in _MODULE_STATE})
            self.feed([list(own.get(hooks, {}).values()) for hooks in _HOOKS])
        self.lenient = before

    def _feed_instance(self, part: Any) -> None:
        """An object of another class: by its pickle, or by class and attributes."""
        kind = type(part)
        plain = (
            _plain_hash(part) if _pickles_itself(kind) or not is_users(kind.__module__) else None
        )
        if plain is not None:
            self.tell("object", plain)
            self.feed(_users_code_in(part))
        elif hasattr(part, "__dict__") or hasattr(kind, "__slots__"):
            if self._first_met(part):
                self.tell("object")
                self._feed_class(kind)
                self.feed(_state(part))
        elif self.lenient:
            self.tell("object", kind.__qualname__)
        else:
            _refuse(part)


def _is_state(name: str, value: Any, code: CodeText) -> bool:
    """Whether code itself changes what a name outside of it holds, such as a counter."""
    filled = isinstance(value, (list, dict, set, deque)) and name in code.filled
    return filled or name in code.stored


def _parts_of_attribute(value: Any) -> list:
    """Functions and values that make an attribute of a class."""
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, functools.cached_property):
        return [value.func]
    return [value]


def _bare(value: Any) -> Any:
    """A function without the descriptor around it; nothing for a place of ``__slots__``."""
    if isinstance(value, (staticmethod, classmethod)):
        return [type(value).__name__, value.__func__]
    if inspect.ismemberdescriptor(value) or inspect.isgetsetdescriptor(value):
        return None
    return value


def _pickles_itself(kind: type) -> bool:
    """Whether a class says itself what its pickle holds."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__")
    return any(getattr(kind, n, None) is not getattr(object, n, None) for n in names)


def _state(part: Any) -> dict:
    """Attributes of an object."""
    slots = {
        name: getattr(part, name)
        for cls in type(part).__mro__
        for name in _names(vars(cls).get("__slots__", ()))
        if name not in ("__dict__", "__weakref__") and hasattr(part, name)
    }
    return {**slots, **getattr(part, "__dict__", {})}


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _plain_hash(part: Any) -> str | None:
    try:
        return joblib.hash(part)
    except Exception:  # whatever a foreign __reduce__ raises
        return None


class _UsersCode(Pickler):
    """Finds the user's functions and classes that a pickle names."""

    def __init__(self) -> None:
        super().__init__(self, protocol=5, buffer_callback=lambda _: None)
        self.found: list = []

    def write(self, _: bytes) -> None:
        """Drop what is written."""

    def reducer_override(self, part: Any) -> Any:
        code = part if isinstance(part, (type, types.FunctionType)) else type(part)
        if is_users(code.__module__) and code not in self.found:
            self.found.append(code)
        return NotImplemented


def _users_code_in(part: Any) -> list:
    finder = _UsersCode()
    try:
        finder.dump(part)
    except Exception:  # joblib can describe what pickle cannot
        return finder.found
    return finder.found


def _refuse(part: Any) -> None:
    raise ValueError(
        f"cache_dir: a {type(part).__name__} among data or parameters cannot be fingerprinted, "
        "so a later call could not check whether stored results belong to it. "
        "Make it picklable, or leave cache_dir out and keep results with SubsetOutputs.save."
    )
