"""A block of gradients of an embedding: indices in place of one-hot inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from influencekit.gradients.blocks._base import (
    COLUMNS,
    WORKSPACE,
    Block,
    BlockSpec,
    RowProvider,
    add_products,
    reached_positions,
    row_slice,
    unit_rows,
    weighted_moment,
)
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.utils._long_work import chunks

__all__ = ["IndexBlock"]

#: What reading an entry of a dense row costs, in multiplications of a matrix product.
_READ = 4
#: Bytes of such entries at a time, so that they are in cache and take no new memory.
_READ_BYTES = 2**22
#: Most bytes of dense rows that are made for products alone.
_MOST_ROWS = 2**28


class IndexBlock(Block):
    """Gradients ``G[i, r] = Σ_t onehot(index[i, t]) ⊗ b[i, r, t]`` of an embedding's weight.

    Parameters
    ----------
    spec : BlockSpec
        ``d_out`` is the number of embeddings, ``d_in`` their dimension.
    index : int64 Tensor of shape (n_examples, T)
    b : Tensor of shape (n_examples, rows_per_example, T, d_in)
        Gradients with respect to the layer's outputs.
    """

    has_factors = True

    def __init__(self, spec: BlockSpec, index: Tensor, b: Tensor):
        self.spec = spec
        self.index = index
        self.b = b
        self.n_examples, self.rows_per_example, self.length = b.shape[:3]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.index, self.b)

    @property
    def factor_shape(self) -> tuple[int, int, int]:
        return self.length, self.spec.d_in, self.spec.d_out

    @property
    def pair_flops(self) -> int:
        return min(self.length**2 * self.spec.d_in, self.spec.width)

    @property
    def sum_flops(self) -> int:
        return self.spec.width + self.length * self.spec.d_in

    def padded(self, length: int) -> Block:
        missing = length - self.length
        if missing == 0:
            return self
        return self.replace(F.pad(self.index, (0, missing)), F.pad(self.b, (0, 0, 0, missing)))

    def dense(self) -> Tensor:
        return self.dense_rows(self.index, self.spec.d_out)

    def dense_rows(self, index: Tensor, n_entries: int) -> Tensor:
        """Gradients (n_rows, n_entries * d_in) of some entries; ``index`` is relative to them."""
        n, rows, dim = self.n_examples, self.rows_per_example, self.spec.d_in
        out = self.b.new_zeros(n, rows, n_entries, dim)
        places = index[:, None, :, None].expand(n, rows, self.length, dim)
        return out.scatter_add_(2, places, self.b).flatten(2).flatten(0, 1)

    def put(self, out: Tensor, *, add: bool) -> None:
        entries = (out if add else out.zero_()).unflatten(2, (self.spec.d_out, self.spec.d_in))
        places = self.index[:, None, :, None].expand_as(self.b)
        # Σ_t onehot(e_t) b_tᵀ, in place
        entries.scatter_add_(2, places, self.b)

    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:
        out = self.b.new_empty(self.n_examples, self.rows_per_example)
        each = self.length**2 * (1 + 2 * self.rows_per_example) * self.b.element_size()
        for part in chunks(self.n_examples, each, workspace):
            index, b = self.index[part], self.b[part]
            same = (index[:, :, None] == index[:, None, :]).to(b.dtype)
            # Σ_tu [e_t = e_u] <b_t, b_u>
            out[part] = ((b @ b.mT) * same[:, None]).sum((2, 3))
        return out.flatten()

    def add_dot(
        self, other: Block, out: Tensor, workspace: int = WORKSPACE, route: str = "auto"
    ) -> None:
        if isinstance(other, DenseBlock):
            return self._add_dot_rows(other, out, workspace)
        if not isinstance(other, IndexBlock):
            return super().add_dot(other, out, workspace)
        used = torch.unique(torch.cat([self.index.flatten(), other.index.flatten()]))
        if route == "auto":
            rows = self.rows_per_example * other.rows_per_example
            factors = self.length * other.length * (1 + rows * (self.spec.d_in + 4))
            route = "factors" if factors <= rows * len(used) * self.spec.d_in else "dense"
        if route == "factors":
            return self._add_dot_factors(other, out, workspace)
        return self._add_dot_dense(other, out, used, workspace)

    def rows_are_cheaper(self, other: IndexBlock, n: int, m: int) -> bool:
        """Whether products of n and m examples take less with the smaller side as dense rows."""
        t, u, dim, entries = self.length, other.length, self.spec.d_in, self.spec.d_out
        pairs = n * m * self.rows_per_example * other.rows_per_example
        fewer = min(n * self.rows_per_example, m * other.rows_per_example)
        rows = pairs * min(t, u) * dim * _READ + fewer * self.spec.width
        used = min(entries, n * t + m * u)
        fits = fewer * self.spec.width * self.b.element_size() <= _MOST_ROWS
        return fits and rows < pairs * min(t * u * (dim + 5), used * dim)

    def _add_dot_rows(self, other: DenseBlock, out: Tensor, workspace: int) -> None:
        """Products with dense rows, of which only the entries of each example are read."""
        r, dim, matrices = self.rows_per_example, self.spec.d_in, other.dense()
        matrices = matrices.unflatten(1, (self.spec.d_out, dim))
        for t in chunks(self.length, dim, COLUMNS):  # few enough to be summed in one precision
            each = (t.stop - t.start) * dim * (len(matrices) + r) * self.b.element_size()
            for some in chunks(self.n_examples, each, min(_READ_BYTES, workspace)):
                index = self.index[some, t]
                entries = matrices.index_select(1, index.flatten()).unflatten(1, index.shape)
                # Σ_t <b_t, H[e_t]>
                found = torch.bmm(
                    self.b[some, :, t].flatten(2), entries.flatten(2).permute(1, 2, 0)
                )
                out[row_slice(some, r)] += found.flatten(0, 1)

    def _add_dot_dense(self, other: IndexBlock, out: Tensor, used: Tensor, workspace: int) -> None:
        # only the entries that occur on either side need columns
        size = len(used) * self.spec.d_in * self.b.element_size()
        r, s = self.rows_per_example, other.rows_per_example
        for right in chunks(other.n_examples, s * size, workspace // 2):
            part = other[right]
            dense = part.dense_rows(torch.searchsorted(used, part.index.contiguous()), len(used))
            for left in chunks(self.n_examples, r * size, workspace // 2):
                part = self[left]
                rows = part.dense_rows(torch.searchsorted(used, part.index.contiguous()), len(used))
                add_products(rows, dense, out[row_slice(left, r), row_slice(right, s)])

    def _add_dot_factors(self, other: IndexBlock, out: Tensor, workspace: int) -> None:
        r, s, t, u = self.rows_per_example, other.rows_per_example, self.length, other.length
        side = max(1, int((workspace // (t * u * (1 + 2 * r * s) * self.b.element_size())) ** 0.5))
        for left in chunks(self.n_examples, 1, side):
            index, b = self.index[left], self.b[left].flatten(0, 2)
            for right in chunks(other.n_examples, 1, side):
                index_other = other.index[right]
                same = (index[:, None, :, None, None, None] == index_other[:, None, :]).to(b.dtype)
                # Σ_tu [e_t = e'_u] <b_t, b'_u>
                products = (b @ other.b[right].flatten(0, 2).T).view(len(index), r, t, -1, s, u)
                products *= same
                sums = products.sum((2, 5)).flatten(2).flatten(0, 1)
                out[row_slice(left, r), row_slice(right, s)] += sums

    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        dim, k, size = self.spec.d_in, out.shape[1], out.element_size()
        target = out.unflatten(0, (self.n_examples, self.rows_per_example))
        for entries in chunks(self.spec.d_out, dim * k * size, workspace // 2):
            inside = (self.index >= entries.start) & (self.index < entries.stop)
            example, place = inside.nonzero(as_tuple=True)
            if not len(example):
                continue
            matrix = rows(entries.start * dim, entries.stop * dim).view(-1, dim, k)
            for part in chunks(len(example), dim * k * size, workspace // 2):
                i, t = example[part], place[part]
                # Σ_t b_t M[e_t], with the rows of the entry e_t
                moved = torch.bmm(self.b[i, :, t], matrix[self.index[i, t] - entries.start])
                target.index_add_(0, i, moved)

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        out = weights.new_zeros(len(weights), self.spec.d_out, self.spec.d_in)
        each = len(weights) * self.length * self.spec.d_in * out.element_size()
        for part in chunks(self.n_examples, each, workspace):
            # Σ_it onehot(e_it) (Σ_r w_gir b_irt)ᵀ
            summed = torch.einsum("gir,irtd->gitd", weights[:, part], self.b[part])
            out.index_add_(1, self.index[part].flatten(), summed.flatten(1, 2))
        return out.flatten(1)

    # -- both sides of the weight: entries by their indices, vectors by b ------------------

    def two_sided(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        # Σ_t outputs[e_t] (inputsᵀ b_t)ᵀ
        return outputs[self.index][:, None].mT @ (self.b @ inputs)

    @property
    def _form_numbers(self) -> int:
        return self.length * (1 + 2 * self.rows_per_example)

    def forms(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        # Σ_t outputs[e_t, j] <b_t, inputs_j>
        products = (self.b @ inputs).mul_(outputs[self.index][:, None])
        return products.sum(2).flatten(0, 1)

    def second_moments(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        of_b = weighted_moment(self.b.to(torch.float64).flatten(1, 2), weights)
        counts = of_b.new_zeros(self.spec.d_out)
        return counts.index_add_(0, self.index.flatten(), self.shares(weights).flatten()), of_b

    def shares(self, weights: Tensor) -> Tensor:
        """An example's weight at each of its positions, (n, T); 0 where no gradient reaches."""
        each, reached = (
            weights[:, None].expand(self.index.shape),
            reached_positions(self.spec, self.b),
        )
        return each if reached is None else each * reached

    # -- squares: of the sums of each entry that an example uses ----------------------------

    def add_squares(self, weights: Tensor, out: Tensor, workspace: int = WORKSPACE) -> None:
        for rows in chunks(self.n_examples, self.nbytes // max(1, self.n_examples), workspace):
            owners, entries, sums = self[rows].entry_sums()
            # Σ_i w_i s_ie², with s_ie = Σ_r (Σ_{t at e} b_irt)²
            squares = sums.square().sum(1).to(torch.float64) * weights[rows][owners, None]
            out.view(self.spec.d_out, -1).index_add_(0, entries, squares)

    def quadratic_forms(self, tables: Tensor, workspace: int = WORKSPACE) -> Tensor:
        out = torch.zeros(self.n_examples, len(tables), dtype=torch.float64, device=self.device)
        matrices = tables.unflatten(1, (self.spec.d_out, self.spec.d_in))
        each = self.length * self.spec.d_in * self.b.element_size() * 4
        for rows in chunks(self.n_examples, each, workspace):
            owners, entries, sums = self[rows].entry_sums()
            unit, scale = unit_rows(sums[:, 0])
            squares = unit.square().to(tables.dtype)
            for j, matrix in enumerate(matrices):
                # Σ_e Σ_k T_ek (Σ_{t at e} b_tk)²
                forms = (squares * matrix[entries]).sum(1).to(torch.float64)
                out[rows, j].index_add_(0, owners, forms * scale[:, 0].square())
        return out

    def entry_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Example, entry and gradient (rows_per_example, d) of every entry that an example uses."""
        n = self.spec.d_out
        keys = torch.arange(self.n_examples, device=self.device)[:, None] * n + self.index
        unique, places = torch.unique(keys, return_inverse=True)
        sums = self.b.new_zeros(len(unique), self.rows_per_example, self.spec.d_in)
        sums.index_add_(0, places.flatten(), self.b.transpose(1, 2).flatten(0, 1))
        return unique // n, unique % n, sums
