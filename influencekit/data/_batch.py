"""A batch of examples, and the trees of arrays that inputs come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "Placement", "leaves", "map_tree"]


class Batch(NamedTuple):
    """A run of consecutive examples.

    Attributes
    ----------
    inputs : Tensor, or tuple or dict of Tensors, each of shape (batch, ...)
        What the module takes, on the task's device; floats are in the task's dtype.
    targets : Tensor of shape (batch, ...) or None
        Encoded for the task's loss.
    rows : slice
        Positions of the batch in the Examples.
    """

    inputs: Any
    targets: Tensor | None
    rows: slice


@dataclass(frozen=True)
class Placement:
    """Where tensors go and in which dtype.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Floating dtype of the model.
    all_float : bool
        Cast integers too: scikit-learn's models read every feature as a number, while a
        torch module may look integers up in an embedding.
    """

    device: torch.device
    dtype: torch.dtype
    all_float: bool = False

    def place(self, inputs: Any) -> Any:
        """Copy a tensor, or a tuple or dict of tensors, to the task's device and dtype."""
        if isinstance(inputs, Tensor):
            flags_are_numbers = inputs.dtype == torch.bool
            return self._place(inputs, self.all_float or flags_are_numbers)
        return map_tree(lambda tensor, _: self._place(tensor, self.all_float), inputs)

    def _place(self, tensor: Tensor, as_float: bool) -> Tensor:
        if as_float or tensor.is_floating_point():
            dtype = self.dtype
        else:
            dtype = torch.bool if tensor.dtype == torch.bool else torch.long
        # always a copy: a module that works in place must not reach the user's data;
        # and in the usual order: some layers and function transforms take no other strides
        return tensor.detach().to(
            device=self.device, dtype=dtype, copy=True, memory_format=torch.contiguous_format
        )


def map_tree(function: Callable[[Any, str], Any], tree: Any, path: str = "") -> Any:
    """Apply ``function(leaf, path)`` to the leaves of nested tuples, lists and mappings."""
    if isinstance(tree, Mapping):
        return {k: map_tree(function, v, f"{path}[{k!r}]") for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(map_tree(function, v, f"{path}[{i}]") for i, v in enumerate(tree))
    return function(tree, path)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs (path, leaf) of nested tuples, lists and mappings, in order.

    Parameters
    ----------
    tree : Any
        Anything else is a leaf.
    path : str, default=""
        Where the tree stands.

    Yields
    ------
    path : str
    leaf : Any
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, tree
