"""Several outputs, or several targets, of each example in one tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError

__all__ = ["Packing", "map_structure", "pack"]


@dataclass(frozen=True)
class _Place:
    """Where the numbers of one tensor are among the columns."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Packing:
    """How several tensors stand side by side in one, a row for each example.

    Attributes
    ----------
    template : object
        What was packed, with places instead of tensors.
    width : int
        Number of columns.
    """

    template: Any
    width: int

    def unpack(self, packed: Tensor) -> Any:
        """What was packed, with the numbers of ``packed`` (n, width)."""

        def tensor(place: _Place) -> Tensor:
            columns = packed[:, place.start : place.start + prod(place.shape)]
            found = columns.reshape(len(packed), *place.shape)
            if place.dtype.is_floating_point:
                return found
            return found.round().to(place.dtype)

        return map_structure(tensor, self.template, _Place)


def pack(tree: Any, name: str, dtype: torch.dtype | None = None) -> tuple[Tensor, Packing]:
    """All tensors of a structure side by side, (n, width).

    Parameters
    ----------
    tree : object
        Tuples, lists, mappings, named tuples, dataclasses or objects of tensors (n, ...).
    name : str
        What they are, for errors.
    dtype : torch.dtype, default=None
        None is the widest floating dtype among the tensors.

    Returns
    -------
    packed : Tensor of shape (n, width)
    packing : Packing

    Raises
    ------
    UnsupportedModelError
        If a tensor has no row for each example.
    """
    parts: list[Tensor] = []
    start = 0

    def place(tensor: Tensor) -> _Place:
        nonlocal start
        if tensor.ndim == 0 or tensor.is_complex() or (parts and len(tensor) != len(parts[0])):
            raise UnsupportedModelError(
                f"{name}: one of several tensors has shape {tuple(tensor.shape)}, dtype "
                f"{tensor.dtype}; accepted are real tensors with a row for each example, "
                "(n_examples, ...). A mean over the batch belongs into the loss."
            )
        parts.append(tensor)
        found = _Place(start, tuple(tensor.shape[1:]), tensor.dtype)
        start += prod(found.shape)
        return found

    template = map_structure(place, tree)
    floats = [t.dtype for t in parts if t.is_floating_point()] or [torch.float32]
    dtype = dtype or max(floats, key=lambda kind: torch.finfo(kind).bits)
    flat = [part.reshape(len(part), -1).to(dtype) for part in parts]
    return torch.cat(flat, dim=1), Packing(template, start)


def map_structure(function: Callable, tree: Any, kind: type = Tensor) -> Any:
    """Apply a function to every tensor of a structure, which is copied; the rest stays.

    Parameters
    ----------
    function : callable
    tree : object
        Tuples, lists, mappings, named tuples, dataclasses or objects with attributes.
    kind : type, default=Tensor
        What the function is applied to.

    Returns
    -------
    object
    """
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, Mapping):
        return _with_items(tree, {k: map_structure(function, v, kind) for k, v in tree.items()})
    if isinstance(tree, (tuple, list)):
        items = [map_structure(function, item, kind) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if hasattr(tree, "__dict__") and not isinstance(tree, type) and not callable(tree):
        other = copy.copy(tree)
        for key, value in vars(tree).items():
            object.__setattr__(other, key, map_structure(function, value, kind))
        return other
    return tree


def _with_items(tree: Any, items: dict) -> Any:
    """A mapping of the same kind with other values."""
    try:
        return type(tree)(**items) if type(tree) is not dict else items
    except TypeError:
        return items
