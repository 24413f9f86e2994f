"""Dot products of all pairs of gradients of two sets, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._store import FeatureStore, disk_room

__all__ = ["Side", "all_dots", "all_self_dots"]


@dataclass
class Side:
    """One set of gradients: how large it is and how to go through it.

    Parameters
    ----------
    batches : callable
        A fresh iterator over the set's gradients, a batch at a time.
    n_rows : int
    nbytes : int
        Bytes of all of them.
    """

    batches: Callable[[], Iterator[GradientFeatures]]
    n_rows: int
    nbytes: int


def all_dots(a: Side, b: Side, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, b.n_rows).

    The set that fits is held in memory and the other streamed past it.  If neither fits, b is
    spilled to a temporary folder, or made anew for every large piece of a when the disk is full.
    """
    if b.nbytes > memory and a.nbytes < b.nbytes:
        all_dots(b, a, out.T, memory)
        return out
    if b.nbytes <= memory or disk_room() > 2 * b.nbytes:
        with FeatureStore(b.batches(), memory // 2 if b.nbytes > memory else memory) as store:
            pieces = _pieces(a.batches(), memory // 4) if store.spilled else a.batches()
            _fill(pieces, lambda: store, out)
    else:
        _fill(_pieces(a.batches(), memory // 2), b.batches, out)
    return out


def all_self_dots(a: Side, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, a.n_rows), taking each pair of batches once."""
    if a.nbytes > memory and disk_room() <= 2 * a.nbytes:
        return all_dots(a, a, out, memory)
    with FeatureStore(a.batches(), memory) as store:
        starts = [0]
        for part in store:
            starts.append(starts[-1] + part.n_rows)
        for i in range(len(store)):
            rows = slice(starts[i], starts[i + 1])
            out[rows, rows] = store[i].gram(out.dtype)
            for j in range(i + 1, len(store)):
                columns = slice(starts[j], starts[j + 1])
                out[rows, columns] = store[i].dot(store[j], out.dtype)
                out[columns, rows] = out[rows, columns].T
    return out


def _fill(
    lefts: Iterable[GradientFeatures], rights: Callable[[], Iterable[GradientFeatures]], out: Tensor
) -> None:
    row = 0
    for left in lefts:
        column = 0
        for right in rights():
            tile = out[row : row + left.n_rows, column : column + right.n_rows]
            tile.copy_(left.dot(right, out.dtype))
            column += right.n_rows
        row += left.n_rows


def _pieces(batches: Iterable[GradientFeatures], memory: int) -> Iterator[GradientFeatures]:
    """Batches joined into larger pieces of at most ``memory`` bytes (or one batch)."""
    held: list[GradientFeatures] = []
    for features in batches:
        if held and sum(f.nbytes for f in held) + features.nbytes > memory:
            yield GradientFeatures.cat(held)
            held = []
        held.append(features)
    if held:
        yield GradientFeatures.cat(held)
