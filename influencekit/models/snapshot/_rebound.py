"""Functions that a copied module holds, bound to the copy in place of the original."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError

__all__ = ["computed_tensors", "copied", "rebind"]

#: Objects without a copy that two modules can share: a lock keeps its meaning.
_SHARED = (type(threading.Lock()), type(threading.RLock()))
_OWN = ("_parameters", "_buffers", "_modules")


def copied(module: nn.Module) -> nn.Module:
    """Deep copy of a module whose functions are bound to the copy.

    ``copy.deepcopy`` copies bound methods, and leaves functions as they are: a lambda on an
    attribute, a hook or a replaced ``forward`` would go on with the original's weights.

    Raises
    ------
    UnsupportedModelError
        If an attribute cannot be copied; the message names it.
    """
    memo: dict[int, Any] = computed_tensors(module)
    try:
        twin = copy.deepcopy(module, memo)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise _uncopied(module, error) from error
    rebind(twin, memo)
    return twin


def computed_tensors(module: nn.Module) -> dict[int, Any]:
    """Memo for deepcopy: kept tensors that have a graph, without it, and locks, as they are."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in _within([v for k, v in vars(part).items() if _may_hold(k, v)], set()):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif isinstance(value, _SHARED):
                memo[id(value)] = value
    return memo


def _may_hold(key: str, value: Any) -> bool:
    """Whether an attribute may hold functions or computed tensors."""
    plain = isinstance(value, (bool, int, float, str)) or value is None
    return not plain and key not in _OWN and not (isinstance(value, dict) and not value)


def _within(value: Any, seen: set[int]) -> Iterator[Any]:
    """A value, what containers in it hold, and the attributes of plain objects."""
    if id(value) in seen or isinstance(value, (nn.Module, type, FunctionType)):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, Tensor):
        return
    inner: Any = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, dict):
        inner += list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner += list(value)
    for one in inner:
        yield from _within(one, seen)


def _uncopied(module: nn.Module, error: Exception) -> UnsupportedModelError:
    kind = type(module).__name__
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key in _OWN or isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value, computed_tensors(module))
            except Exception as cause:  # whatever an attribute's copying raises
                where = f"{name}.{key}" if name else key
                return UnsupportedModelError(
                    f"model: the attribute {where!r} of {kind}, a {type(value).__name__}, cannot "
                    f"be copied ({str(cause)[:100]}), and scores are computed from a copy of the "
                    f"model. Delete it first: del model.{where}."
                )
    return UnsupportedModelError(
        f"model: {kind} cannot be copied ({str(error)[:200]}), and scores are computed from a copy "
        "of the model. Accepted are modules that copy.deepcopy copies."
    )


def rebind(twin: nn.Module, memo: dict[int, Any]) -> None:
    """Bind the functions that a copy holds to the copy.

    Parameters
    ----------
    twin : torch.nn.Module
    memo : dict
        That of ``copy.deepcopy``: what became of each object of the original.
    """
    binder = _Binder(memo)
    for part in list(twin.modules()):
        held = {k: v for k, v in vars(part).items() if _may_hold(k, v)}
        for key, value in held.items():
            new = binder.of(value)
            if new is not value:
                vars(part)[key] = new


class _Binder:
    """Functions with what they hold of the original replaced by the copy's."""

    def __init__(self, memo: dict[int, Any]):
        self.memo = memo
        self.own = {id(value) for value in memo.values()}
        self.done: dict[int, Any] = {}

    def renew(self, holder: Any) -> None:
        """Replace functions in a container of the copy, in place."""
        if id(holder) in self.done:
            return
        self.done[id(holder)] = holder
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in list(items):
            if isinstance(value, nn.Module):
                continue
            new = self.of(value)
            if new is not value:
                holder[key] = new

    def of(self, value: Any) -> Any:
        """What takes the place of a value."""
        if id(value) in self.memo:
            return self.memo[id(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            owner = self.of(value.__self__)
            return value if owner is value.__self__ else MethodType(value.__func__, owner)
        if isinstance(value, partial):
            parts = [self.of(value.func), self.of(value.args), self.of(value.keywords)]
            same = _same(parts, (value.func, value.args, value.keywords))
            return value if same else partial(parts[0], *parts[1], **parts[2])
        if isinstance(value, (dict, list)):
            return self._container(value)
        if type(value) is tuple:
            items = tuple(map(self.of, value))
            return value if _same(items, value) else items
        if id(value) in self.own and hasattr(value, "__dict__") and not isinstance(value, type):
            self.renew(vars(value))
        return value

    def _container(self, value: Any) -> Any:
        if id(value) not in self.own:
            held = copy.copy(value)
            self.renew(held)
            both = (held, value) if isinstance(value, list) else (held.values(), value.values())
            return value if _same(*both) else held
        self.renew(value)
        return value

    def _function(self, function: Any) -> Any:
        if id(function) in self.done:
            return self.done[id(function)]
        self.done[id(function)] = function
        compiled = getattr(function, "_torchdynamo_orig_callable", None)
        if compiled is not None:
            plain = self.of(compiled)
            new = function if plain is compiled else plain
        else:
            new = self._rebuilt(function)
        self.done[id(function)] = new
        return new

    def _rebuilt(self, function: Any) -> Any:
        cells = [self._cell(cell) for cell in function.__closure__ or ()]
        names = {name for name in _names(function.__code__) if name in function.__globals__}
        globals_ = {name: self._global(function, name) for name in names}
        changed = {k: v for k, v in globals_.items() if v is not function.__globals__[k]}
        defaults, keywords = self.of(function.__defaults__), self.of(function.__kwdefaults__)
        same = defaults is function.__defaults__ and keywords is function.__kwdefaults__
        if same and not changed and _same(cells, function.__closure__ or ()):
            return function
        space = {**function.__globals__, **changed} if changed else function.__globals__
        new = FunctionType(function.__code__, space, function.__name__, defaults, tuple(cells))
        new.__kwdefaults__ = keywords
        new.__dict__.update(function.__dict__)
        return new

    def _cell(self, cell: CellType) -> CellType:
        try:
            inner = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        new = self.of(inner)
        return cell if new is inner else CellType(new)

    def _global(self, function: Any, name: str) -> Any:
        value = function.__globals__[name]
        if isinstance(value, FunctionType) and value.__globals__ is not function.__globals__:
            return value  # of another file
        known = id(value) in self.memo or isinstance(value, (FunctionType, MethodType, partial))
        return self.of(value) if known else value


def _same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(some, others, strict=True))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
