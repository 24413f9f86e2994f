"""Small tools for batches: rows of nested inputs, and kernels that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from influencekit.models._module import MODULE_LOCK

__all__ = [
    "count_rows",
    "map_tensors",
    "no_hidden_loops",
    "plain_kernels",
    "select_rows",
    "simple_kernels",
]


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """Apply a function to a tensor or to every tensor of a tuple, list or dict."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {k: map_tensors(function, v) for k, v in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(map_tensors(function, v) for v in inputs)
    return inputs


def select_rows(inputs: Any, rows: slice | Tensor, n: int) -> Any:
    """Some rows of a batch of ``n``; tensors without a batch dimension stay as they are."""
    return map_tensors(lambda t: t[rows] if t.ndim and len(t) == n else t, inputs)


def count_rows(inputs: Any) -> int:
    """Number of examples in a batch: the length of its first tensor."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    values = inputs.values() if isinstance(inputs, dict) else inputs
    return next(count_rows(v) for v in values)


@contextmanager
def simple_kernels() -> Iterator[None]:
    """Use kernels that ``torch.func.vmap`` can look into (for attention)."""
    with plain_kernels(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def no_hidden_loops() -> Iterator[None]:
    """Let ``torch.func.vmap`` fail on operations that it would run example by example.

    Without this an LSTM under vmap takes many times as long as a plain loop.
    """
    functorch = torch._C._functorch
    if not hasattr(functorch, "_set_vmap_fallback_enabled"):
        yield
        return
    with MODULE_LOCK:
        before = functorch._is_vmap_fallback_enabled()
        functorch._set_vmap_fallback_enabled(False)
        try:
            yield
        finally:
            functorch._set_vmap_fallback_enabled(before)


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Switch off fused inference kernels, which go past hooks and function transforms.

    Threads take turns inside: the switch, hooks and replaced parameters are everybody's.
    """
    with MODULE_LOCK:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
