"""What all blocks of gradients share: the place in the flat gradient, and general, slow methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from influencekit.utils._long_work import chunks

__all__ = [
    "COLUMNS",
    "WORKSPACE",
    "Block",
    "BlockSpec",
    "add_products",
    "row_slice",
    "symmetrize",
    "unit_rows",
    "weighted_moment",
]

#: Default number of bytes for the intermediates of one operation.
WORKSPACE = 2**27
#: Columns of a product in one precision before it is added to a sum in a finer one.
COLUMNS = 2**14
#: Rows from which a matrix product is fast.
_FEW = 15
#: Products of so few pairs cost less than the calls for their parts.
_FEW_PAIRS = 2**10
#: Bytes of dense rows and what is made of them at a time: larger tensors get new memory from the
#: system each time, which costs more than the work on them.
_NEW_BYTES = 2**25

#: ``rows(start, stop)`` of a matrix with one row for each column of the block: matrices too large
#: for memory are given to :meth:`Block.add_matmul` in this form.
RowProvider = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class BlockSpec:
    """Position of a block in the flat gradient, and its shape.

    Parameters
    ----------
    name : str
        Name of the module whose parameters these are, or "rest".
    columns : tuple of slice
        Positions in the flat gradient, in the order of the block's own dense columns:
        the weight (row-major), then the bias.
    d_out, d_in : int
        The weight as a matrix (d_out, d_in); both are 0 if the block is not such a matrix.
    has_bias : bool
        Whether a bias of length d_out follows the weight.
    image : bool
        Whether positions are those of an image, all of which count, whatever a gradient reaches.
    """

    name: str
    columns: tuple[slice, ...]
    d_out: int = 0
    d_in: int = 0
    has_bias: bool = False
    image: bool = False

    @property
    def width(self) -> int:
        """Number of scalars in the block."""
        return sum(c.stop - c.start for c in self.columns)

    @property
    def is_matrix(self) -> bool:
        """Whether the block is a weight matrix, perhaps with a bias."""
        return self.d_out > 0

    def scatter(self, dense: Tensor, out: Tensor) -> None:
        """Write dense columns (rows, width) to their positions in ``out`` (rows, n_parameters)."""
        start = 0
        for c in self.columns:
            out[:, c] = dense[:, start : start + c.stop - c.start]
            start += c.stop - c.start

    def add_products(self, right: BlockSpec, products: Tensor, out: Tensor) -> None:
        """Add products (width, right.width) at their positions in ``out`` (p, p)."""
        row = 0
        for a in self.columns:
            column, height = 0, a.stop - a.start
            for b in right.columns:
                width = b.stop - b.start
                out[a, b] += products[row : row + height, column : column + width]
                column += width
            row += height

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


def row_slice(examples: slice, rows_per_example: int) -> slice:
    """Rows that belong to a slice of examples."""
    return slice(examples.start * rows_per_example, examples.stop * rows_per_example)


def symmetrize(specs: tuple[BlockSpec, ...], out: Tensor) -> Tensor:
    """Copy the blocks above the diagonal below it, and return ``out``.

    Parameters
    ----------
    specs : tuple of BlockSpec
        Specs in the order in which the blocks were added.
    out : Tensor of shape (p, p)
    """
    for i, upper in enumerate(specs):
        for lower in specs[i + 1 :]:
            for a in upper.columns:
                for b in lower.columns:
                    out[b, a] = out[a, b].T
    return out


def add_products(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Add ``left @ rightᵀ`` to ``out``; where its dtype is finer, it sums parts of the product."""
    turned = right.stride(0) == 1 and right.stride(1) > 1  # as they are multiplied fastest
    if len(left) > max(_FEW, len(right)) and not turned:  # few columns take longer than few rows
        left, right, out = right, left, out.mT
    if left.dtype == out.dtype:
        out.addmm_(left, right.mT)
        return
    cut = left.shape[1] // COLUMNS * COLUMNS
    if cut and out.numel() <= _FEW_PAIRS:  # one call for all parts
        parts = [
            side[:, :cut].unflatten(1, (-1, COLUMNS)).transpose(0, 1) for side in (left, right)
        ]
        out += torch.bmm(parts[0], parts[1].mT).sum(0, dtype=out.dtype)
        left, right = left[:, cut:], right[:, cut:]
    for columns in chunks(left.shape[1], 1, COLUMNS):
        # Σ_c G_c H_cᵀ of some columns c at a time
        out += left[:, columns] @ right[:, columns].mT


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows scaled to largest entry 1, against underflow of squares, and their float64 scales."""
    scale = rows.abs().amax(1, keepdim=True)
    return rows / torch.where(scale > 0, scale, 1.0), scale.to(torch.float64)


def reached_positions(spec: BlockSpec, b: Tensor) -> Tensor | None:
    """Positions from the first to the last that a gradient reaches, (n, T) bool; None for all.

    ``b`` (n, R, T, d) are output gradients. What is left out are the positions before and after
    an example's text: how many there are depends on its batch where a net cuts padding itself.
    """
    if spec.image or b.shape[2] == 1 or bool((b[:, :, [0, -1]] != 0).any(3).any(1).all()):
        return None
    found = (b != 0).any(3).any(1).int()
    return (found.cumsum(1) > 0) & (found.flip(1).cumsum(1).flip(1) > 0)


def weighted_moment(values: Tensor, weights: Tensor) -> Tensor:
    """``Σ_i w_i Σ_t v_it v_itᵀ`` of values (n, t, d)."""
    scaled = values * weights[:, None, None]
    return scaled.flatten(0, 1).mT @ values.flatten(0, 1)


class Block(ABC):
    """Gradients of ``n_examples * rows_per_example`` rows with respect to some parameters.

    Concrete blocks define how their rows are stored. Every operation works on any block by making
    dense rows in chunks, and is overridden if the stored form is faster. The constructor takes the
    spec and then :attr:`tensors`.
    """

    spec: BlockSpec
    n_examples: int
    rows_per_example: int

    #: Whether the rows are stored as factors: inputs shared by all rows of an example, and ``b``.
    has_factors: bool = False
    #: Number of terms that a row is a sum of.
    length: int = 1

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The stored tensors: first dimension examples; second of the last tensor rows."""

    @property
    def is_single(self) -> bool:
        """Whether each row is the outer product of two stored vectors."""
        return False

    @property
    def is_dense(self) -> bool:
        """Whether dense rows are stored."""
        return False

    @property
    def factor_shape(self) -> tuple[int, int, int]:
        """(T, inputs, outputs) of the factors; (0, width, 1) without factors."""
        return 0, self.spec.width, 1

    @property
    def pair_flops(self) -> int:
        """Multiplications of a dot product of two examples' gradients."""
        return self.spec.width

    @property
    def sum_flops(self) -> int:
        """Multiplications per example in a weighted sum and in a product with that sum."""
        return 2 * self.spec.width

    def replace(self, *tensors: Tensor) -> Self:
        """A block of the same kind around other tensors."""
        return type(self)(self.spec, *tensors)  # type: ignore[call-arg]

    def with_spec(self, spec: BlockSpec) -> Block:
        """The same gradients at another place."""
        return type(self)(spec, *self.tensors)  # type: ignore[call-arg]

    def padded(self, length: int) -> Block:  # noqa: ARG002  blocks with terms take it
        """The same gradients, padded with zero terms to ``length`` terms."""
        return self

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

    def __getitem__(self, examples: Any) -> Self:
        return self.replace(*(t[examples] for t in self.tensors))

    def rows_of(self, rows: slice) -> Block:
        """Some rows of every example, as a view."""
        return self.replace(*self.tensors[:-1], self.tensors[-1][:, rows])

    def compact(self) -> Block:
        """The same block, contiguous in memory."""
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
        self,
        other: Block,
        out: Tensor,
        workspace: int = WORKSPACE,
        route: str = "auto",  # noqa: ARG002  blocks with factors take it
    ) -> None:
        """Add the dot products of all rows to ``out`` (n_rows, other.n_rows).

        Products are taken in the dtype of the blocks; ``out`` may have a finer one.
        """
        for left in chunks(self.n_examples, self.dense_bytes, workspace // 2):
            dense = self[left].dense()
            rows = row_slice(left, self.rows_per_example)
            for right in chunks(other.n_examples, other.dense_bytes, workspace // 2):
                columns = row_slice(right, other.rows_per_example)
                add_products(dense, other[right].dense(), out[rows, columns])

    @abstractmethod
    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        """Add the product with a matrix (width, k), given by its rows, to ``out`` (n_rows, k).

        Every row of the matrix is requested at most once.
        """

    def put(self, out: Tensor, *, add: bool) -> None:
        """Write the dense rows to ``out`` (n_examples, rows_per_example, width), or add them."""
        rows = self.dense().unflatten(0, out.shape[:2])
        out.add_(rows) if add else out.copy_(rows)

    def two_sided(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """``outputsᵀ G inputs`` of every row, (n_examples, rows_per_example, k_out, k_in).

        ``inputs`` has a row for the bias, if there is one: the last column of ``G``.
        """
        d_in, d_out = self.spec.d_in, self.spec.d_out
        dense = self.dense().unflatten(0, (self.n_examples, self.rows_per_example))
        # G inputs, whose last row meets the bias
        moved = dense[..., : d_in * d_out].unflatten(-1, (d_out, d_in)) @ inputs[:d_in]
        if self.spec.has_bias:
            moved += dense[..., d_in * d_out :, None] * inputs[-1]
        return outputs.T @ moved

    def add_forms(self, outputs: Tensor, inputs: Tensor, out: Tensor, workspace: int) -> None:
        """Add ``outputs[:, j]ᵀ G inputs[:, j]`` of every row to ``out`` (n_rows, k)."""
        r = self.rows_per_example
        each = self._form_numbers * out.shape[1] * out.element_size()
        for part in chunks(self.n_examples, each, workspace):
            out[row_slice(part, r)] += self[part].forms(outputs, inputs)

    @property
    def _form_numbers(self) -> int:
        """Number of intermediate entries of :meth:`forms` for one example and column."""
        return 2 * self.rows_per_example * self.spec.d_out

    def forms(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """``outputs[:, j]ᵀ G inputs[:, j]`` of every row, (n_rows, k)."""
        d_in, d_out, dense = self.spec.d_in, self.spec.d_out, self.dense()
        # G inputs, (n_rows, d_out, k)
        moved = dense[:, : d_in * d_out].unflatten(1, (d_out, d_in)) @ inputs[:d_in]
        if self.spec.has_bias:
            moved += dense[:, d_in * d_out :, None] * inputs[-1]
        # Σ_o outputs_oj (G inputs)_oj
        return (moved * outputs).sum(1)

    def second_moments(self, weights: Tensor) -> tuple[Tensor, Tensor] | None:  # noqa: ARG002  blocks with factors take them
        """Weighted second moments of both sides of the weight, float64; None without factors.

        Output gradients first, then inputs with their 1. For an embedding, the one-hot inputs come
        first, and only with their diagonal.
        """
        return None

    def add_squares(self, weights: Tensor, out: Tensor, workspace: int = WORKSPACE) -> None:
        """Add ``Σ_i w_i Σ_r g_ir²`` to ``out`` (width,), float64.

        ``weights`` (n_examples,) are float64.
        """
        for rows in chunks(self.n_examples, 2 * self.dense_bytes, min(_NEW_BYTES, workspace)):
            each = weights[rows].to(self.dtype).repeat_interleave(self.rows_per_example)
            # Σ_i w_i Σ_r g_ir²
            out += each @ self[rows].dense().square()

    def quadratic_forms(self, tables: Tensor, workspace: int = WORKSPACE) -> Tensor:
        """``Σ_k tables[j, k] g_ik²`` of every example i and table j, float64.

        There is one row for each example; ``tables`` (n_tables, width) are in the dtype of the
        products.
        """
        out = torch.empty(self.n_examples, len(tables), dtype=torch.float64, device=self.device)
        for rows in chunks(self.n_examples, 2 * self.dense_bytes, min(_NEW_BYTES, workspace)):
            # g = scale u, so that Σ_k T_jk g_k² = scale² Σ_k T_jk u_k²
            unit, scale = unit_rows(self[rows].dense())
            out[rows] = (unit.square().to(tables.dtype) @ tables.mT) * scale.square()
        return out

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        """Sums (g, width) of the rows, weighted by ``weights`` (g, n_examples, R)."""
        out = weights.new_zeros(len(weights), self.spec.width)
        for left in chunks(self.n_examples, self.dense_bytes, workspace):
            # W G, (g, width)
            out.addmm_(weights[:, left].flatten(1), self[left].dense())
        return out
