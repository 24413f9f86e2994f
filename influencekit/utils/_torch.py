"""torch settings that the library needs: locks, transformable kernels, gradients on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from inspect import isgeneratorfunction
from math import isnan
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from influencekit.utils._long_work import one_notice

__all__ = [
    "MODULE_LOCK",
    "SavedBytes",
    "TrueDerivatives",
    "callers_device",
    "count_rows",
    "count_saved_bytes",
    "flat_gradient",
    "flop_counter",
    "has_reentrant_checkpoints",
    "largest",
    "largest_difference",
    "map_tensors",
    "no_hidden_loops",
    "plain_kernels",
    "reaches_all",
    "rounding_floor",
    "select_rows",
    "simple_kernels",
    "tolerance",
    "twice",
    "uncompiled",
    "with_gradients",
    "without_cudnn",
]

F = TypeVar("F", bound=Callable)

#: Entries of tensors that are compared at a time.
_PIECE = 2**18

#: A module's hooks, its parameters under functional_call, torch's kernel switches and its levels of
#: forward-mode derivatives are shared by all threads: hold this lock to run or copy a model, or to
#: change them.
MODULE_LOCK = threading.RLock()

#: Where the caller's own code makes tensors, if not on the CPU (``torch.set_default_device``).
_CALLERS_DEVICE: ContextVar[torch.device | None] = ContextVar("callers_device", default=None)


def with_gradients(function: F) -> F:
    """Run a function with gradients and in full precision, whatever mode the caller is in.

    ``torch.no_grad``, ``torch.inference_mode`` and ``torch.autocast`` of the caller end here; an
    autocast inside a model's forward stays. A default device of the caller (``set_default_device``)
    is for the model and the functions that it gave (``callers_device``): ours stays the CPU.

    Every public function that runs a model has this decorator. Under inference mode it is not
    enough to switch gradients on later: tensors created before that can never be saved for a
    backward pass.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        The same function; it restores the caller's mode when it returns.
    """
    mode = _each_item if isgeneratorfunction(function) else _gradients_on()
    return cast(F, mode(function))


@contextmanager
def _gradients_on() -> Iterator[None]:
    with ExitStack() as modes:
        for kind in filter(torch.is_autocast_enabled, _kinds_of_device()):
            modes.enter_context(torch.autocast(kind, enabled=False))
        for mode in (torch.inference_mode(False), torch.enable_grad(), one_notice()):
            modes.enter_context(mode)
        default = torch.get_default_device()
        if default.type != "cpu":
            found = _CALLERS_DEVICE.set(default)
            modes.callback(_CALLERS_DEVICE.reset, found)
            modes.enter_context(torch.device("cpu"))
        yield


def callers_device() -> AbstractContextManager:
    """The caller's default device, for its model, loss and output functions."""
    return _CALLERS_DEVICE.get() or nullcontext()


def _kinds_of_device() -> Iterator[str]:
    yield "cpu"
    accelerator = getattr(torch, "accelerator", None)  # from torch 2.6 on
    if accelerator is not None and accelerator.is_available():
        yield accelerator.current_accelerator().type


def _each_item(function: Callable) -> Callable:
    """The caller's mode is restored while a generator waits."""
    following = _gradients_on()(next)

    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Iterator:
        items, end = function(*args, **kwargs), object()
        while (item := following(items, end)) is not end:
            yield item

    return inner


class SavedBytes:
    """Bytes that forward passes kept for their backward passes, without some tensors' own."""

    def __init__(self, without: Iterable[Tensor] = ()) -> None:
        self.total = 0
        self._without = {place for tensor in without for place in _places(tensor)}

    def add(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd saves.

        The tensor itself would reference the graph that references it, and the garbage collector
        does not see this cycle: it would stay in memory forever. So only its data are saved,
        without the graph.
        """
        if not _places(tensor) <= self._without:
            self.total += sum(part.numel() * part.element_size() for part in _stored(tensor))
        return tensor.detach()


def _stored(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that hold a tensor's numbers: of a sparse one, its parts."""
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]  # noqa: SLF001  not coalesced: a copy
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]


def _places(tensor: Tensor) -> set[int]:
    """Addresses of the memory that a tensor's numbers are in."""
    return {part.untyped_storage().data_ptr() for part in _stored(tensor)}


@contextmanager
def count_saved_bytes(without: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Count the bytes that forward passes in the block save; no backward pass may follow.

    Parameters
    ----------
    without : iterable of Tensor
        Not counted, such as parameters, which are there anyway.

    Yields
    ------
    SavedBytes
        The counter; its ``total`` grows inside the block.
    """
    saved = SavedBytes(without)
    with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
        yield saved


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
    """Some rows of a batch of ``n``; tensors without a batch dimension are unchanged."""
    return map_tensors(lambda t: t[rows] if t.ndim and len(t) == n else t, inputs)


def flat_gradient(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """A parameter's gradient as a dense vector: zeros where it was not used."""
    if gradient is None:
        return torch.zeros_like(parameter).flatten()
    return (gradient.to_dense() if gradient.is_sparse else gradient).flatten()


def largest(x: Tensor) -> float:
    """The largest absolute value, NaN where one is, without a copy of the tensor; 0 of nothing."""
    if not x.numel():
        return 0.0
    if x.is_complex():
        return float(x.abs().max())
    return float(torch.stack(torch.aminmax(x)).abs().max())


def largest_difference(x: Tensor, y: Tensor) -> float:
    """The largest absolute difference of tensors of one shape, NaN where one is.

    Differences are taken in pieces that stay in cache.
    """
    if x.dtype != y.dtype or x.numel() <= _PIECE:
        return largest(x - y)
    parts = zip(x.flatten().split(_PIECE), y.flatten().split(_PIECE), strict=True)
    found = [largest(a - b) for a, b in parts]
    return float("nan") if any(map(isnan, found)) else max(found)


def has_reentrant_checkpoints(outputs: Tensor) -> bool:
    """Whether the graph of outputs has checkpoints that only ``backward`` can pass."""
    return any(type(node).__name__ == "CheckpointFunctionBackward" for node in _nodes(outputs))


def reaches_all(outputs: Tensor, leaves: Iterable[Tensor]) -> bool:
    """Whether outputs depend on all of some leaves, from their graph alone.

    False may mean "not known": a function of a user's own may pass no gradient on.
    """
    left = {id(leaf) for leaf in leaves}
    for node in _nodes(outputs):
        name = type(node).__name__
        if name == "AccumulateGrad":
            left.discard(id(node.variable))
        elif not name[-1].isdigit():  # torch's own functions are numbered: AddmmBackward0
            return False
    return not left


def _nodes(outputs: Tensor) -> Iterator[Any]:
    """Nodes of the graph of outputs, each once."""
    seen: set[Any] = set()
    nodes: list[Any] = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        nodes.extend(following for following, _ in node.next_functions)


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference that counts as rounding."""
    return 2 * torch.finfo(dtype).eps ** 0.5


def rounding_floor(dtype: torch.dtype) -> float:
    """The same relative to the largest gradient of all parameters.

    In half precision, 100 roundings would be about as large as that gradient.
    """
    return min(100 * torch.finfo(dtype).eps, 1e-4)


def twice(inputs: Any) -> Any:
    """A batch of one example, as a batch of this example twice."""
    return map_tensors(lambda t: torch.cat([t, t]) if t.ndim and len(t) == 1 else t, inputs)


def count_rows(inputs: Any) -> int:
    """Number of examples in a batch: the length of its first tensor."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    values = inputs.values() if isinstance(inputs, dict) else inputs
    return next(count_rows(v) for v in values)


@contextmanager
def simple_kernels() -> Iterator[None]:
    """Use operations that ``torch.func`` can transform and that can be differentiated twice."""
    with plain_kernels(), sdpa_kernel(SDPBackend.MATH), TrueDerivatives():
        yield


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    # w = g v / ‖v‖, one norm for each index of the axis; torch's own has wrong second derivatives
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _embedding(
    rows: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    # the row of padding is a constant: torch's own is one in backward mode alone
    found = nn.functional.embedding(rows, weight, None, *args, **kwargs)
    if padding_idx is None:
        return found
    padding = (rows == padding_idx % len(weight))[..., None]
    return torch.where(padding, found.detach(), found)


_INSTEAD = {torch._weight_norm: _weight_norm, nn.functional.embedding: _embedding}  # noqa: SLF001  torch has no other name


class TrueDerivatives(TorchFunctionMode):
    """Operations whose derivatives are the same in both modes, and right when taken twice."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:  # types has a fixed place
        return _INSTEAD.get(func, func)(*args, **(kwargs or {}))


def uncompiled() -> AbstractContextManager:
    """Run parts that ``torch.compile`` made as they were written: compiled code skips hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def without_cudnn(module: nn.Module) -> AbstractContextManager:
    """Run recurrent layers without cuDNN, which has no backward pass of them in eval mode.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    context manager
    """
    if not torch.backends.cudnn.is_available():
        return nullcontext()
    recurrent = (part for part in module.modules() if isinstance(part, nn.RNNBase))
    if not any(torch.backends.cudnn.is_acceptable(next(part.parameters())) for part in recurrent):
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=False)


@contextmanager
def no_hidden_loops() -> Iterator[None]:
    """Make ``torch.func.vmap`` fail on operations that it would run example by example.

    Without this an LSTM under vmap takes many times as long as a plain loop.
    """
    functorch: Any = torch._C._functorch  # noqa: SLF001  torch has no other name
    if not hasattr(functorch, "_set_vmap_fallback_enabled"):
        yield
        return
    with MODULE_LOCK:
        before = functorch._is_vmap_fallback_enabled()  # noqa: SLF001  torch has no other name
        functorch._set_vmap_fallback_enabled(False)  # noqa: SLF001  torch has no other name
        try:
            yield
        finally:
            functorch._set_vmap_fallback_enabled(before)  # noqa: SLF001  torch has no other name


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Switch off fused inference kernels, which bypass hooks and function transforms.

    Only one thread at a time runs the block: the switch, hooks and replaced parameters are shared.
    """
    with MODULE_LOCK:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


class _NoModules:
    """In place of torch's tracker of modules, whose hooks run in the forward of other threads."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def flop_counter() -> FlopCounterMode:
    """Counts the multiplications of what runs inside, in this thread alone."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    return counter
