"""Coordinates of many examples: held in memory while they fit, made again where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from influencekit.curvature.kronecker._bases import BlockBasis
from influencekit.gradients import DenseBlock, GradientFeatures, OuterBlock

if TYPE_CHECKING:
    from influencekit.data import Examples
    from influencekit.gradients import GradientEngine

__all__ = ["CoordinateStore", "held_or_streamed"]

#: Examples of one piece of coordinates in memory.
_PIECE = 4_096


class CoordinateStore:
    """Coordinates of the gradients of some examples in the bases of all blocks.

    Parameters
    ----------
    engine : GradientEngine
    bases : dict of str to BlockBasis
    examples : Examples
    cotangent : callable
        One gradient an example.
    memory : int
        Bytes that may stay in memory; beyond, coordinates are made again whenever needed.
    """

    def __init__(
        self,
        engine: GradientEngine,
        bases: dict[str, BlockBasis],
        examples: Examples,
        cotangent: Callable,
        memory: int,
    ):
        self.engine = engine
        self.bases = bases
        self.examples = examples
        self.cotangent = cotangent
        self.memory = memory
        self.parts = held_or_streamed(self._fresh, len(examples), memory)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[tuple[slice, GradientFeatures]]:
        start = 0
        for features in self._fresh() if self.parts is None else self.parts:
            yield slice(start, start + len(features)), features
            start += len(features)

    def take(self, rows: torch.Tensor, memory: int) -> CoordinateStore:
        """The same for some of the examples, in the order of ``rows``."""
        if self.parts is None:
            examples = self.examples.take(rows)
            return CoordinateStore(self.engine, self.bases, examples, self.cotangent, memory)
        some = object.__new__(CoordinateStore)
        some.__dict__.update(self.__dict__)
        some.examples = self.examples.take(rows)
        some.parts = [_rows_of(self.parts, rows.to(self.parts[0].device))]
        return some

    def _fresh(self) -> Iterator[GradientFeatures]:
        for features in self.engine.batches(self.examples, self.cotangent, keep_factors=True):
            yield rotate(features, self.bases)


def rotate(features: GradientFeatures, bases: dict[str, BlockBasis]) -> GradientFeatures:
    """Gradients as coordinates, kept in whichever form is smaller."""
    blocks = {}
    for name, basis in bases.items():
        block = basis.rotate(features.blocks[name])
        dense_is_smaller = block.dense_bytes * block.n_examples < block.nbytes
        if isinstance(block, OuterBlock) and block.length > 1 and dense_is_smaller:
            block = DenseBlock(block.spec, block.dense().unflatten(0, (block.n_examples, -1)))
        blocks[name] = block
    return features.with_blocks(blocks)


def held_or_streamed(
    batches: Callable[[], Iterator[GradientFeatures]], n: int, memory: int
) -> list[GradientFeatures] | None:
    """All features, in pieces of some thousand examples; None if they do not fit.

    Parameters
    ----------
    batches : callable
        A fresh iterator over the features.
    n : int
        Number of examples of all batches.
    memory : int
        Bytes.
    """
    parts: list[GradientFeatures] = []
    waiting: list[GradientFeatures] = []
    for features in batches():
        if not parts and not waiting and features.nbytes * n > memory * len(features):
            return None
        waiting.append(features)
        if sum(map(len, waiting)) >= _PIECE:
            parts.append(GradientFeatures.cat(waiting))
            waiting = []
    if waiting:
        parts.append(GradientFeatures.cat(waiting))
    return parts


def _rows_of(parts: list[GradientFeatures], rows: torch.Tensor) -> GradientFeatures:
    """Some examples out of all pieces."""
    if len(parts) == 1:
        return parts[0][rows]
    starts = torch.tensor([0, *(len(part) for part in parts)], device=rows.device).cumsum(0)
    owners = torch.searchsorted(starts, rows, right=True) - 1
    found = [part[rows[owners == i] - starts[i]] for i, part in enumerate(parts)]
    order = torch.argsort(owners, stable=True).argsort()
    return GradientFeatures.cat(found)[order]
