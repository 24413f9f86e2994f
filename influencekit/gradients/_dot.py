"""Dot products of all pairs of gradients of two sets, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import row_slice

__all__ = ["all_dots", "all_self_dots"]


def all_dots(a: Any, b: Any, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, b.n_rows) for gradients a and b.

    The side that fits is held in memory while the other is streamed. If neither fits, b is spilled
    to a temporary folder, or computed again for every large piece of a if the disk is full.
    """
    if b.nbytes > memory and a.nbytes < b.nbytes:
        all_dots(b, a, out.T, memory)
        return out
    if b.nbytes <= memory:
        _fill(_features(a), b.held(memory, spill=True), out)
    else:
        held = b.held(memory // 2, spill=True)
        share = memory // 2 if held.parts is None else memory // 4
        _fill(_pieces(_features(a), share), held, out)
    return out


def all_self_dots(a: Any, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, a.n_rows), computing each pair of batches once."""
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


def _features(gradients: Any) -> Iterator[GradientFeatures]:
    return (features for _, features in gradients)


def _fill(lefts: Iterable[GradientFeatures], b: Any, out: Tensor) -> None:
    row = 0
    for left in lefts:
        own = out[row : row + left.n_rows]
        for columns, right in b:
            own[:, row_slice(columns, right.rows_per_example)] = left.dot(right, out.dtype)
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
