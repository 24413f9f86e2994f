"""Autograd as the library needs it, whatever the caller has switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = ["SavedBytes", "count_saved_bytes", "with_gradients"]

F = TypeVar("F", bound=Callable)


def with_gradients(function: F) -> F:
    """Run a function with gradients, also under ``torch.no_grad`` and ``torch.inference_mode``.

    Every public entry that runs a model carries it.  Under inference mode it is not enough
    to switch gradients on later: tensors that were made before can never be saved for a
    backward pass.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        The same function; the caller's mode is back when it returns.
    """
    mode = _each_item if isgeneratorfunction(function) else _whole_call
    return cast(F, wraps(function)(mode(function)))


def _whole_call(function: Callable) -> Callable:
    def inner(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return inner


def _each_item(function: Callable) -> Callable:
    """The mode belongs to the caller again while a generator waits."""
    following = _whole_call(next)

    def inner(*args: Any, **kwargs: Any) -> Iterator:
        items, end = function(*args, **kwargs), object()
        while (item := following(items, end)) is not end:
            yield item

    return inner


class SavedBytes:
    """Bytes that forward passes kept for their backward passes."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd saves.

        The tensor itself would hold the graph that holds it, and no garbage collector sees
        such a circle: it would stay in memory for good.  So its data go on without the graph.
        """
        self.total += tensor.numel() * tensor.element_size()
        return tensor.detach()


@contextmanager
def count_saved_bytes() -> Iterator[SavedBytes]:
    """Count what forward passes inside the block save for backward passes, which must not follow.

    Yields
    ------
    SavedBytes
        Its ``total`` grows inside the block.
    """
    saved = SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
        yield saved
