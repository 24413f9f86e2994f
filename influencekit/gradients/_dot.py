"""Dot products of all pairs of gradients of two sets, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._store import FeatureStore, disk_room

__all__ = ["all_dots", "all_self_dots"]


def all_dots(a, b, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, b.n_rows) for gradients a and b.

    Those that fit are held in memory and the others streamed past them.  If neither fit, b is
    spilled to a temporary folder, or made anew for every large piece of a when the disk is full.
    """
    if b.nbytes > memory and a.nbytes < b.nbytes:
        all_dots(b, a, out.T, memory)
        return out
    if b.nbytes <= memory or disk_room() > 2 * b.nbytes:
        share = memory // 2 if b.nbytes > memory else memory
        with FeatureStore(_features(b), share) as store:
            lefts = _pieces(_features(a), memory // 4) if store.spilled else _features(a)
            _fill(lefts, lambda: store, out)
    else:
        _fill(_pieces(_features(a), memory // 2), lambda: _features(b), out)
    return out


def all_self_dots(a, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, a.n_rows), taking each pair of batches once."""
    held = a.held(memory, spill=True)
    if held.parts is None:
        return all_dots(a, a, out, memory)
    starts, parts = [0], held.parts
    for part in parts:
        starts.append(starts[-1] + part.n_rows)
    for i in range(len(parts)):
        rows, left = slice(starts[i], starts[i + 1]), parts[i]
        out[rows, rows] = left.gram(out.dtype)
        for j in range(i + 1, len(parts)):
            columns = slice(starts[j], starts[j + 1])
            out[rows, columns] = left.dot(parts[j], out.dtype)
            out[columns, rows] = out[rows, columns].T
    return out


def _features(gradients) -> Iterator[GradientFeatures]:
    return (features for _, features in gradients)


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
