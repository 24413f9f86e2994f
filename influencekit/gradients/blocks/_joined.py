"""A block of gradients that is a sum of blocks, each at columns of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor

from influencekit.gradients.blocks._base import WORKSPACE, Block, BlockSpec, RowProvider, row_slice
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.utils._long_work import chunks

__all__ = ["DenseRows", "JoinedBlock"]


class JoinedBlock(Block):
    """Gradients of layers without factors, and of shared weights, which have several: their sum.

    Nothing is copied into one tensor. A tied embedding keeps the factors of the layers that share
    it, whose products are summed; its dense rows are made where they are asked for.

    Parameters
    ----------
    spec : BlockSpec
    parts : sequence of Block
        They have the same examples and rows.
    starts : sequence of int
        First column of each part among those of the block. Parts with the same are added.
    """

    def __init__(self, spec: BlockSpec, parts: Sequence[Block], starts: Sequence[int]):
        self.spec, self.parts, self.starts = spec, tuple(parts), tuple(starts)
        self.n_examples, self.rows_per_example = parts[0].n_examples, parts[0].rows_per_example

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(tensor for part in self.parts for tensor in part.tensors)

    @property
    def is_dense(self) -> bool:
        return all(part.is_dense for part in self.parts)

    def with_parts(self, parts: Sequence[Block]) -> JoinedBlock:
        """A block of the same kind of other parts, at the same columns."""
        return JoinedBlock(self.spec, parts, self.starts)

    def replace(self, *tensors: Tensor) -> Self:
        left, parts = list(tensors), []
        for part in self.parts:
            k = len(part.tensors)
            parts.append(part.replace(*left[:k]))
            left = left[k:]
        return self.with_parts(parts)  # type: ignore[return-value]

    def with_spec(self, spec: BlockSpec) -> Block:
        return JoinedBlock(spec, self.parts, self.starts)

    def __getitem__(self, examples: Any) -> Self:
        return self.with_parts([part[examples] for part in self.parts])  # type: ignore[return-value]

    def rows_of(self, rows: slice) -> Block:
        return self.with_parts([part.rows_of(rows) for part in self.parts])

    def dense(self) -> Tensor:
        shape = (self.n_examples, self.rows_per_example, self.spec.width)
        out = self.tensors[-1].new_empty(shape)
        self.put(out, add=False)
        return out.flatten(0, 1)

    def put(self, out: Tensor, *, add: bool) -> None:
        for start, group in self.by_start().items():
            columns = out[:, :, start : start + group[0].spec.width]
            # entries of an embedding are added in place to rows that are there already
            for i, part in enumerate(sorted(group, key=lambda b: isinstance(b, IndexBlock))):
                part.put(columns, add=add or i > 0)

    def with_dense_parts(self) -> JoinedBlock:
        """The same gradients, a dense block for each place."""
        groups = self.by_start()
        return self.with_places([_dense(group) for group in groups.values()], list(groups))

    def with_places(self, parts: Sequence[Block], starts: Sequence[int]) -> JoinedBlock:
        """A block of the same columns, of other parts at other places."""
        return JoinedBlock(self.spec, parts, starts)

    def by_start(self) -> dict[int, list[Block]]:
        """The parts of each place."""
        groups: dict[int, list[Block]] = {}
        for start, part in zip(self.starts, self.parts, strict=True):
            groups.setdefault(start, []).append(part)
        return groups

    def add_dot(
        self, other: Block, out: Tensor, workspace: int = WORKSPACE, route: str = "auto"
    ) -> None:
        others = _places_of(other, self.by_start())
        for start, group in self.by_start().items():
            _add_dot_of_place(group, others[start], out, workspace, route)

    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:
        norms = (_squared_norms(group, workspace) for group in self.by_start().values())
        return reduce(torch.add, norms)

    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        for start, group in self.by_start().items():

            def own(first: int, last: int, start: int = start) -> Tensor:
                return rows(start + first, start + last)

            # G M, the columns of one place of G at a time
            _dense(group).add_matmul(own, out, workspace)

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        out = weights.new_zeros(len(weights), self.spec.width)
        for start, part in zip(self.starts, self.parts, strict=True):
            out[:, start : start + part.spec.width] += part.weighted_sums(weights, workspace)
        return out


class DenseRows:
    """Dense rows of blocks that come one after the other, written where they stay.

    Parameters
    ----------
    like : Block
        The first of them.
    n : int
        Most examples of all together.
    """

    def __init__(self, like: Block, n: int):
        self._like, self._n = like, 0
        self._rows = {
            start: group[0].tensors[-1].new_empty(n, like.rows_per_example, group[0].spec.width)
            for start, group in _groups(like).items()
        }

    def add(self, block: Block) -> None:
        """Write the rows of the next block."""
        start, self._n = self._n, self._n + block.n_examples
        for place, group in _groups(block).items():
            _put(group, self._rows[place][start : self._n])

    def block(self) -> Block:
        """All rows."""
        specs = (group[0].spec for group in _groups(self._like).values())
        rows = (rows[: self._n] for rows in self._rows.values())
        parts = [DenseBlock(spec, own) for spec, own in zip(specs, rows, strict=True)]
        if isinstance(self._like, JoinedBlock):
            return self._like.with_places(parts, list(self._rows))
        return parts[0]


def _groups(block: Block) -> dict[int, list[Block]]:
    """The parts of each place."""
    return block.by_start() if isinstance(block, JoinedBlock) else {0: [block]}


def _put(group: Sequence[Block], out: Tensor) -> None:
    """Write the sum of blocks of one place to ``out``."""
    # entries of an embedding are added in place to rows that are there already
    for i, part in enumerate(sorted(group, key=lambda b: isinstance(b, IndexBlock))):
        part.put(out, add=i > 0)


def _dense(group: Sequence[Block]) -> DenseBlock:
    """The sum of blocks of one place, dense."""
    first = group[0]
    if len(group) == 1 and isinstance(first, DenseBlock):
        return first
    shape = (first.n_examples, first.rows_per_example, first.spec.width)
    rows = first.tensors[-1].new_empty(shape)
    _put(group, rows)
    return DenseBlock(first.spec, rows)


def _places_of(block: Block, like: dict[int, list[Block]]) -> dict[int, list[Block]]:
    """A block cut at the places of another of the same parameters."""
    if isinstance(block, JoinedBlock):
        return block.by_start()
    rows = block.dense().unflatten(0, (block.n_examples, block.rows_per_example))
    return {
        start: [DenseBlock(group[0].spec, rows[:, :, start : start + group[0].spec.width])]
        for start, group in like.items()
    }


def _add_dot_of_place(
    own: list[Block], others: list[Block], out: Tensor, workspace: int, route: str
) -> None:
    """Add the dot products of the sums of two lists of blocks: one of them must be dense."""
    if others[0].is_dense and len(others) == 1:
        # <Σ_k A_k, H> = Σ_k <A_k, H>
        for part in own:
            part.add_dot(others[0], out, workspace, route)
    elif own[0].is_dense and len(own) == 1:
        _add_dot_of_place(others, own, out.mT, workspace, route)
    else:
        rows = others[0].rows_per_example
        for some in chunks(others[0].n_examples, others[0].dense_bytes, workspace // 2):
            dense = _dense([part[some] for part in others])
            _add_dot_of_place(own, [dense], out[:, row_slice(some, rows)], workspace, route)


def _squared_norms(group: Sequence[Block], workspace: int) -> Tensor:
    if len(group) == 1:
        return group[0].squared_norms(workspace)
    parts = [
        _dense([part[some] for part in group]).squared_norms()
        for some in chunks(group[0].n_examples, group[0].dense_bytes, workspace)
    ]
    return torch.cat(parts) if parts else group[0].tensors[-1].new_zeros(0)
