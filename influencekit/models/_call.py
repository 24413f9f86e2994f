"""Calls of a module, also with other tensors in place of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from influencekit.utils._torch import callers_device

__all__ = ["call_module", "functional_call"]

#: Names of a module's tensors that it reaches by these names alone, not by a list or a function.
_REACHED: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


def call_module(
    module: nn.Module, inputs: Any, parameters: Mapping[str, Tensor] | None = None
) -> Any:
    """Call a module on a tensor, a dict (keyword arguments) or a tuple (positional).

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Tensor, dict or tuple of Tensor
    parameters : mapping of str to Tensor, default=None
        Tensors that replace the module's own.

    Returns
    -------
    object
        Return value of the module's forward.
    """
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    with callers_device():
        if parameters is None:
            return module(*args, **kwargs)
        return functional_call(module, dict(parameters), args, kwargs)


def functional_call(
    module: nn.Module, tensors: dict[str, Tensor], args: tuple, kwargs: dict | None = None
) -> Any:
    """Call a module with other tensors in place of its own, wherever it uses these.

    :func:`torch.func.functional_call` leaves the tensors of a layer that has two names in a module
    replaced after the call, and goes on with a module's own where a list or a function holds them.

    Parameters
    ----------
    module : torch.nn.Module
    tensors : dict of str to Tensor
        By names of parameters and buffers. Buffers that the call replaces are written back.
    args : tuple
    kwargs : dict, default=None

    Returns
    -------
    object
        Return value of the module's forward.
    """
    places = dict(_places(module))
    new = {id(places[name]): value for name, value in tensors.items() if name in places}
    once = {name: new[id(own)] for name, own in places.items() if id(own) in new}
    once = {**tensors, **once}
    reached = _REACHED.setdefault(module, set())
    elsewhere = None if reached.issuperset(tensors) else _Elsewhere(new)
    with nullcontext() if elsewhere is None else elsewhere:
        result = torch.func.functional_call(module, once, args, kwargs, tie_weights=False)
    if elsewhere is not None and not elsewhere.found:
        reached.update(tensors)
    tensors.update({name: once[name] for name in tensors})
    return result


def _places(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every place of a parameter or buffer under one name: tied tensors have several."""
    for prefix, part in module.named_modules():
        start = prefix + "." if prefix else ""
        for held in (part._parameters, part._buffers):  # noqa: SLF001  quicker than the public names
            yield from ((start + name, own) for name, own in held.items() if own is not None)


class _Elsewhere(TorchFunctionMode):
    """Gives torch's functions other tensors than they are called with."""

    def __init__(self, new: Mapping[int, Tensor]):
        super().__init__()
        self.new, self.found = new, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:  # types has a fixed place
        own = [self._of(value) for value in args]
        return func(*own, **{key: self._of(value) for key, value in (kwargs or {}).items()})

    def _of(self, value: Any) -> Any:
        if isinstance(value, Tensor) and id(value) in self.new:
            self.found = True
            return self.new[id(value)]
        if type(value) in (tuple, list):
            return type(value)(map(self._of, value))
        return value
