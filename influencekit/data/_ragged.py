"""Collators that pad: every batch gets the shapes of a batch of all examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._sources import leaves
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.utils._long_work import chunks
from influencekit.utils._random import MAX_SEED, seeds_set

__all__ = ["EvenCollation", "draws_random_numbers", "same_batches"]

#: Examples collated at once while the longest are looked for.
_CHUNK = 256
#: Examples that are collated twice, to see whether a collator draws random numbers.
_TRIED = 64


class EvenCollation:
    """A collate function whose batches have one shape, that of a batch of all examples.

    A collator that pads makes a batch as long as its longest example, so the shape of an example
    would depend on its batch.  Here the longest examples of the data join each call and are
    taken out of the batch again.  Inputs and targets come from the same call.

    A collator that draws random numbers (masked language models) gets each example alone, with
    a seed made of its position, so that an example is the same in every pass.

    Parameters
    ----------
    items_at : callable
        ``items_at(positions) -> list`` of the Dataset's items.
    n : int
        Number of examples.
    collate_fn : callable
    name : str
        The argument's name in messages.

    Raises
    ------
    ValueError
        If the collator draws from a generator of its own, or does not give one row for each item.
    """

    def __init__(
        self, items_at: Callable[[list[int]], list], n: int, collate_fn: Callable, name: str
    ):
        self.items_at, self.n, self.collate_fn, self.name = items_at, n, collate_fn, name
        self.draws = draws_random_numbers(collate_fn, items_at(list(range(min(n, _TRIED)))), name)
        if self.draws:
            warn_user(
                f"{name}: its collate_fn ({_name(collate_fn)}) draws random numbers, as for masked "
                "tokens. Each example keeps one draw, seeded by its position; training saw others.",
                InfluenceKitWarning,
            )
        with seeds_set(0):
            self.longest = items_at(self._longest()) if n > 1 else []

    def __call__(self, positions: list[int]) -> Any:
        """The batch of the examples at some positions."""
        items = self.items_at(positions)
        if not self.draws:
            return self._with_longest(items)
        parts = []
        for position, item in zip(positions, items, strict=True):
            with seeds_set(position % MAX_SEED):
                parts.append(self._with_longest([item]))
        return _joined(parts)

    def alone(self, position: int) -> Any:
        """One example as the collator gives it without any other."""
        with seeds_set(position % MAX_SEED):
            return _collated(self.collate_fn, self.items_at([position]), self.name)

    def _with_longest(self, items: list) -> Any:
        batch = _collated(self.collate_fn, [*items, *self.longest], self.name)
        return _first(batch, len(items), len(items) + len(self.longest), self.name)

    def _longest(self) -> list[int]:
        """Positions of examples that together have the largest size along each axis."""
        largest: dict[tuple[str, int], tuple[int, list[int]]] = {}
        for rows in chunks(self.n, 1, _CHUNK):
            positions = list(range(self.n))[rows]
            for key, size in self._sizes(positions).items():
                if key not in largest or size > largest[key][0]:
                    largest[key] = (size, positions)
        found: list[int] = []
        for key, (size, positions) in largest.items():
            if found and self._sizes(found).get(key) == size:
                continue
            while len(positions) > 1:
                half = positions[: len(positions) // 2]
                reaches = self._sizes(half).get(key) == size
                positions = half if reaches else positions[len(half) :]
            found += positions
        return found

    def _sizes(self, positions: list[int]) -> dict[tuple[str, int], int]:
        """Size of each axis after the first of a batch's tensors."""
        batch = _collated(self.collate_fn, self.items_at(positions), self.name)
        return {
            (path, axis): size
            for path, leaf in leaves(batch)
            for axis, size in enumerate(getattr(leaf, "shape", ())[1:])
        }


def draws_random_numbers(collate_fn: Callable, items: list, name: str) -> bool:
    """Whether a collator draws random numbers, from torch, numpy or Python's random.

    Parameters
    ----------
    collate_fn : callable
    items : list
        Some of a Dataset's items.
    name : str
        The argument's name in messages.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If it draws from a generator of its own.
    """

    def batch(seed: int) -> Any:
        with seeds_set(seed):
            return _collated(collate_fn, items, name)

    first = batch(0)
    if not same_batches(first, batch(0)):
        raise ValueError(
            f"{name}: its collate_fn ({_name(collate_fn)}) gives other batches each "
            "time, though the generators of torch, numpy and Python were seeded alike; "
            "accepted is one without a generator of its own. Leave out its seed, or mask the "
            "data once and give them with their labels."
        )
    # a short text may by chance be masked alike several times
    others = range(1, 1 + max(1, _TRIED // len(items)))
    return not all(same_batches(first, batch(seed)) for seed in others)


def _collated(collate_fn: Callable, items: list, name: str) -> Any:
    """A batch; what the user's function raises is said with the argument."""
    try:
        return collate_fn(items)
    except Exception as error:
        raise ValueError(
            f"{name}: a batch of {len(items)} items of the Dataset cannot be made. Its collate_fn "
            f"({_name(collate_fn)}) raises {type(error).__name__}: {error}. Accepted are items "
            "whose tensors have one shape, in the same entries. Pad them, or give a DataLoader "
            "with a collate_fn that does."
        ) from error


def _name(function: Any) -> str:
    function = getattr(function, "inner", None) or function  # the user's, inside the package's
    return getattr(function, "__name__", type(function).__name__)


def _first(batch: Any, k: int, total: int, name: str) -> Any:
    """The first k of a batch's ``total`` examples."""
    if isinstance(batch, Mapping):
        return {key: _first(value, k, total, name) for key, value in batch.items()}
    tensors = isinstance(batch, (tuple, list)) and any(
        isinstance(value, (Tensor, np.ndarray)) for value in batch
    )
    if isinstance(batch, tuple) or tensors:
        return tuple(_first(value, k, total, name) for value in batch)
    if isinstance(batch, (list, Tensor, np.ndarray)):
        if np.shape(batch)[:1] == (total,) or (isinstance(batch, list) and len(batch) == total):
            return batch[:k]
        shape = tuple(getattr(batch, "shape", (len(batch),)))
        raise ValueError(
            f"{name}: its collate_fn made shape {shape} of {total} examples; accepted is one row "
            "for each example. Give a collate_fn that stacks padded rows."
        )
    return batch


def _joined(parts: Sequence[Any]) -> Any:
    """Batches one after the other."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(some) for some in zip(*parts, strict=True))
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, np.ndarray):
        return np.concatenate(list(parts))
    return [item for part in parts for item in part] if isinstance(first, list) else first


def same_batches(one: Any, other: Any) -> bool:
    """Whether two batches are equal."""
    mine, theirs = list(leaves(one)), list(leaves(other))
    return len(mine) == len(theirs) and all(
        path == place and _equal(a, b) for (path, a), (place, b) in zip(mine, theirs, strict=True)
    )


def _equal(a: Any, b: Any) -> bool:
    if hasattr(a, "shape"):
        mine, theirs = (x if isinstance(x, Tensor) else np.asarray(x) for x in (a, b))
        if mine.shape != theirs.shape:
            return False
        return bool(((mine == theirs) | ((mine != mine) & (theirs != theirs))).all())  # NaN is NaN
    return True  # text and other objects do not become inputs
