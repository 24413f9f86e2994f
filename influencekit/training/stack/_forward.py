"""One function of a model's tensors, for all models of a stack at once or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from influencekit.training._randomness import RandomStream
from influencekit.training.stack._dropout import StackedDropout

__all__ = ["call_all", "call_in_turn"]


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
        Of dropout: shared by all models, or one for each; advanced in place.
    shared : bool, default=False
        Whether all models look at the same batch.

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

        def own(tensor, model=model):
            return tensor[model]

        results.append(function(tree_map(own, tensors), batch if shared else tree_map(own, batch)))
    if stream is not None:
        stream.advance()
    return tree_map(lambda *parts: torch.stack(parts), *results)
