"""What every block of gradients has in common: its place in the flat gradient and slow routes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["WORKSPACE", "Block", "BlockSpec", "chunks", "row_slice"]

#: Bytes that an intermediate of one operation may take when nothing else is said.
WORKSPACE = 2**27

#: ``rows(start, stop)`` of a matrix with one row a column of the block: how matrices too big
#: to be held are given to :meth:`Block.add_matmul`.
RowProvider = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class BlockSpec:
    """Where a block stands in the flat gradient and what shape it has.

    Parameters
    ----------
    name : str
        Name of the module whose parameters these are, or "rest".
    columns : tuple of slice
        Positions in the flat gradient, in the order of the block's own dense columns:
        the weight (row-major), then the bias.
    d_out, d_in : int
        The weight as a matrix (d_out, d_in); both 0 where there is no such structure.
    has_bias : bool
        Whether a bias of length d_out stands behind the weight.
    """

    name: str
    columns: tuple[slice, ...]
    d_out: int = 0
    d_in: int = 0
    has_bias: bool = False

    @property
    def width(self) -> int:
        """Number of scalars in the block."""
        return sum(c.stop - c.start for c in self.columns)

    @property
    def is_matrix(self) -> bool:
        """Whether the block is a weight matrix, perhaps with a bias."""
        return self.d_out > 0

    def scatter(self, dense: Tensor, out: Tensor) -> None:
        """Write dense columns (rows, width) to their places in ``out`` (rows, n_parameters)."""
        start = 0
        for c in self.columns:
            out[:, c] = dense[:, start : start + c.stop - c.start]
            start += c.stop - c.start

    def provider(self, rows: RowProvider) -> RowProvider:
        """The block's own rows of a matrix whose rows follow the flat gradient."""
        if len(self.columns) == 1:
            first = self.columns[0].start
            return lambda start, stop: rows(first + start, first + stop)

        def own(start: int, stop: int) -> Tensor:
            parts, offset = [], 0
            for c in self.columns:
                low, high = max(start - offset, 0), min(stop - offset, c.stop - c.start)
                if low < high:
                    parts.append(rows(c.start + low, c.start + high))
                offset += c.stop - c.start
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return own


def chunks(n: int, bytes_each: int, workspace: int) -> Iterator[slice]:
    """Slices of ``range(n)`` whose items together take at most ``workspace`` bytes."""
    size = max(1, min(n, workspace // max(1, bytes_each)))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def row_slice(examples: slice, rows_per_example: int) -> slice:
    """Rows that belong to a slice of examples."""
    return slice(examples.start * rows_per_example, examples.stop * rows_per_example)


class Block(ABC):
    """Gradients of ``n_examples * rows_per_example`` rows with respect to some parameters.

    Concrete blocks say how their rows are stored; every operation works on any of them by
    making dense rows a chunk at a time, and is overridden where the stored form is faster.
    """

    spec: BlockSpec
    n_examples: int
    rows_per_example: int

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """What is stored: first dimension examples; in the last tensor the second is rows."""

    @abstractmethod
    def replace(self, *tensors: Tensor) -> Block:
        """A block of the same kind around other tensors."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Dense rows (n_examples * rows_per_example, width), weight first, then bias."""

    @abstractmethod
    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:
        """Squared norm of every row (n_rows,)."""

    @property
    def n_rows(self) -> int:
        """Number of gradients."""
        return self.n_examples * self.rows_per_example

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the gradients."""
        return self.tensors[-1].dtype

    @property
    def device(self) -> torch.device:
        """Device of the gradients."""
        return self.tensors[-1].device

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors)

    @property
    def dense_bytes(self) -> int:
        """Bytes of one example's dense rows."""
        return self.rows_per_example * self.spec.width * self.tensors[-1].element_size()

    def __getitem__(self, examples) -> Block:
        return self.replace(*(t[examples] for t in self.tensors))

    def rows_of(self, rows: slice) -> Block:
        """Some rows of every example, as a view."""
        return self.replace(*self.tensors[:-1], self.tensors[-1][:, rows])

    def compact(self) -> Block:
        """The same block without gaps in memory."""
        return self.replace(*(tensor.contiguous() for tensor in self.tensors))

    def to(self, dtype: torch.dtype | None) -> Block:
        """The same block in another floating dtype (integers stay)."""
        if dtype is None or dtype == self.dtype:
            return self
        return self.replace(*(t.to(dtype) if t.is_floating_point() else t for t in self.tensors))

    def to_device(self, device: torch.device) -> Block:
        """The same block on another device."""
        return (
            self if self.device == device else self.replace(*(t.to(device) for t in self.tensors))
        )

    def add_dot(
        self, other: Block, out: Tensor, workspace: int = WORKSPACE, route: str = "auto"
    ) -> None:
        """Add the dot products of all rows to ``out`` (n_rows, other.n_rows)."""
        for right in chunks(other.n_examples, other.dense_bytes, workspace // 2):
            dense = other[right].dense().T
            columns = row_slice(right, other.rows_per_example)
            for left in chunks(self.n_examples, self.dense_bytes, workspace // 2):
                tile = out[row_slice(left, self.rows_per_example), columns]
                tile.addmm_(self[left].dense(), dense)

    @abstractmethod
    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        """Add the product with a matrix (width, k), given by its rows, to ``out`` (n_rows, k).

        Every row of the matrix is asked for at most once.
        """

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        """Sums (g, width) of the rows, weighted by ``weights`` (g, n_examples, R)."""
        out = weights.new_zeros(len(weights), self.spec.width)
        for left in chunks(self.n_examples, self.dense_bytes, workspace):
            out.addmm_(weights[:, left].flatten(1), self[left].dense())
        return out
