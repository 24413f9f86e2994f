"""A function of a model's tensors, for all models of a stack at once or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from influencekit.training._randomness import RandomStream

__all__ = ["call_all", "call_in_turn"]


#: Dropouts that multiply their input by noise that depends only on its shape.
DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)


class StackedDropout(TorchFunctionMode):
    """While active, dropout in a vmapped forward draws from the models' random streams.

    The noise is the native function's result for a tensor of ones under the stream's random state,
    so a stacked model uses its stream exactly as it would alone. Other random functions are
    unchanged, and ``vmap(randomness="error")`` refuses them.

    Parameters
    ----------
    streams : RandomStream or sequence of RandomStream
        One stream shared by all models, which then see the same noise; or one for each model, in
        the order of the stack. The streams are advanced in place.
    """

    def __init__(self, streams: RandomStream | Sequence[RandomStream]):
        super().__init__()
        self.streams = _Streams(streams)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        x, p, training, inplace = _arguments(*args, **kwargs)
        if p == 0 or not training:
            return x
        noise = _Noise.apply(x.detach(), func, p, self.streams)
        return x.mul_(noise) if inplace else x * noise


class _Streams:
    """Opaque to vmap, which would copy a list."""

    def __init__(self, streams: RandomStream | Sequence[RandomStream]):
        self.shared = streams if isinstance(streams, RandomStream) else None
        self.each = () if isinstance(streams, RandomStream) else streams


def _arguments(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> tuple[Tensor, float, bool, bool]:
    return input, p, training, inplace


def _draw(like: Tensor, func: Callable, p: float, stream: RandomStream) -> Tensor:
    with stream.use():
        return func(torch.ones_like(like), p, True)


class _Noise(torch.autograd.Function):
    """Noise for dropout's input, drawn outside of vmap: once, or for each model."""

    @staticmethod
    def forward(x: Tensor, func: Callable, p: float, streams: _Streams) -> Tensor:
        if streams.shared is None:
            raise RuntimeError("dropout of a tensor that all stacked models share")
        return _draw(x, func, p, streams.shared)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Keep nothing: noise does not have a gradient."""

    @staticmethod
    def backward(_ctx: Any, _gradient: Tensor) -> tuple:
        return None, None, None, None

    @staticmethod
    def vmap(
        _info: Any, in_dims: Any, x: Tensor, func: Callable, p: float, streams: _Streams
    ) -> tuple[Tensor, int | None]:
        x = x.movedim(in_dims[0], 0)
        if streams.shared is not None:
            return _draw(x[0], func, p, streams.shared), None
        noise = [_draw(one, func, p, s) for one, s in zip(x, streams.each, strict=True)]
        return torch.stack(noise), 0


def call_all(
    function: Callable[[Any, Any], Any],
    tensors: Any,
    batch: Any,
    streams: RandomStream | Sequence[RandomStream] | None,
    shared: bool = False,
) -> Any:
    """Call a function for all models at once.

    Parameters
    ----------
    function : callable
        ``function(tensors, batch) -> tree of Tensor`` of one model.
    tensors : tree of Tensor of shape (n_models, ...)
    batch : tree of Tensor
        Of shape (batch, ...) if ``shared``, else (n_models, batch, ...).
    streams : RandomStream, sequence of RandomStream or None
        Streams for dropout: shared by all models, or one for each; advanced in place.
    shared : bool, default=False
        Whether all models get the same batch.

    Returns
    -------
    tree of Tensor of shape (n_models, ...)
    """
    mapped = vmap(function, in_dims=(0, None if shared else 0), randomness="error")
    with nullcontext() if streams is None else StackedDropout(streams):
        return mapped(tensors, batch)


def call_in_turn(
    function: Callable[[Any, Any], Any],
    tensors: Any,
    batch: Any,
    stream: RandomStream | None,
    shared: bool = False,
) -> Any:
    """The same, one model after the other; they share the random stream."""
    results = []
    for model in range(len(tree_leaves(tensors)[0])):
        if stream is not None:
            stream.restore()

        def own(tensor: Any, model: Any = model) -> Tensor:
            return tensor[model]

        results.append(function(tree_map(own, tensors), batch if shared else tree_map(own, batch)))
    if stream is not None:
        stream.advance()
    return tree_map(lambda *parts: torch.stack(parts), *results)
