"""A block of gradients stored as factors: layer inputs and output gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from influencekit.gradients.blocks._base import (
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

__all__ = ["OuterBlock"]

#: What writing and reading an entry of a product costs, in multiplications of a matrix product.
_ENTRY = 32
#: Bytes of dense rows that are multiplied at a time, so that they are still in cache.
_DENSE_BYTES = 2**23
#: Dense rows that are multiplied with others at a time, and bytes of some of their columns.
_DENSE_ROWS, _DENSE_PIECE = 256, 2**22


class OuterBlock(Block):
    """Gradients ``G[i, r] = Σ_t b[i, r, t] ⊗ (a[i, t], 1)`` of a linear map and its bias.

    The inputs ``a`` are shared by all rows of an example and never copied.

    Parameters
    ----------
    spec : BlockSpec
    a : Tensor of shape (n_examples, T, d_in)
        Inputs of the layer; T = 1 unless it is applied along a sequence or an image.
    b : Tensor of shape (n_examples, rows_per_example, T, d_out)
        Gradients with respect to the layer's outputs.
    """

    has_factors = True

    def __init__(self, spec: BlockSpec, a: Tensor, b: Tensor):
        self.spec = spec
        self.a = a
        self.b = b
        self.n_examples, self.rows_per_example, self.length = b.shape[:3]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.a, self.b)

    @property
    def is_single(self) -> bool:
        return self.length == 1

    @property
    def factor_shape(self) -> tuple[int, int, int]:
        return self.length, self.spec.d_in + self.spec.has_bias, self.spec.d_out

    @property
    def pair_flops(self) -> int:
        d_in, d_out = self.spec.d_in, self.spec.d_out
        return min(self.length**2 * (d_in + d_out), d_in * d_out)

    @property
    def sum_flops(self) -> int:
        return (self.length + 1) * self.spec.d_in * self.spec.d_out

    def padded(self, length: int) -> Block:
        missing = (0, 0, 0, length - self.length)
        if length == self.length:
            return self
        return self.replace(F.pad(self.a, missing), F.pad(self.b, missing))

    def dense(self) -> Tensor:
        n, rows, d_out = self.n_examples, self.rows_per_example, self.spec.d_out
        d_in, size = self.spec.d_in, self.spec.d_out * self.spec.d_in
        if self.length > 1 and not self.spec.has_bias:
            return self._dense_weight().view(n * rows, size)
        out = self.b.new_empty(n, rows, size + d_out * self.spec.has_bias)
        weight = out[:, :, :size].unflatten(2, (d_out, d_in))
        # Σ_t b_t a_tᵀ, followed by Σ_t b_t
        if self.length == 1:
            torch.mul(self.b[:, :, 0, :, None], self.a[:, None, 0, None, :], out=weight)
        elif rows == 1:
            torch.bmm(self.b[:, 0].mT, self.a, out=weight[:, 0])
        else:
            weight.copy_(self._dense_weight().view(n, rows, d_out, d_in))
        if self.spec.has_bias:
            torch.sum(self.b, dim=2, out=out[:, :, size:])
        return out.flatten(0, 1)

    def _dense_weight(self) -> Tensor:
        # Σ_t b_t a_tᵀ, (n, R d_out, d_in)
        left = self.b.mT.flatten(1, 2)
        return torch.bmm(left, self.a)

    def put(self, out: Tensor, *, add: bool) -> None:
        if add or self.rows_per_example > 1 or self.spec.has_bias:
            return super().put(out, add=add)
        weight = out[:, 0].unflatten(1, (self.spec.d_out, self.spec.d_in))
        # Σ_t b_t a_tᵀ, in place
        torch.bmm(self.b[:, 0].mT, self.a, out=weight)

    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:
        if self.length == 1:
            # ‖b‖² (‖a‖² + 1), with the 1 of the bias
            inputs = self.a[:, 0].square().sum(-1) + self.spec.has_bias
            return (self.b[:, :, 0].square().sum(-1) * inputs[:, None]).flatten()
        length, rows = self.length, self.rows_per_example
        d_in, d_out = self.spec.d_in, self.spec.d_out
        by_factors = length**2 * (d_in + rows * d_out) < length * rows * d_in * d_out
        out = self.b.new_empty(self.n_examples, rows)
        each = length**2 * (1 + 2 * rows) * self.b.element_size()
        for part in chunks(self.n_examples, each if by_factors else self.dense_bytes, workspace):
            if by_factors:
                a, b = self.a[part], self.b[part]
                # Σ_tu <b_t, b_u> (<a_t, a_u> + 1)
                products = (b @ b.mT) * (a @ a.mT + float(self.spec.has_bias))[:, None]
                out[part] = products.sum((2, 3))
            else:
                out[part] = self[part].dense().square().sum(1).view(-1, rows)
        return out.flatten()

    # -- dot products ---------------------------------------------------------------------

    def add_dot(
        self, other: Block, out: Tensor, workspace: int = WORKSPACE, route: str = "auto"
    ) -> None:
        if isinstance(other, DenseBlock) and self.length > 1:
            return self._add_dot_dense(other, out)
        if not isinstance(other, OuterBlock):
            return super().add_dot(other, out, workspace)
        if route == "auto":
            route = "factors" if self.factors_are_cheaper(other) else "dense"
        if route == "dense":
            return super().add_dot(other, out, workspace)
        if self.length == other.length == 1:
            return self._add_dot_single(other, out, workspace)
        return self._add_dot_sequence(other, out, workspace)

    def factors_are_cheaper(
        self, other: OuterBlock, n: int | None = None, m: int | None = None
    ) -> bool:
        """Whether (a aᵀ) ∘ (b bᵀ) takes less time than dense rows that are made once.

        ``n`` and ``m`` are numbers of examples on both sides, if not those of the blocks.
        """
        spec, r, s = self.spec, self.rows_per_example, other.rows_per_example
        n, m = n or self.n_examples, m or other.n_examples
        pairs, entry = self.length * other.length, _ENTRY if self.length > 1 else 4
        factors = n * m * pairs * (spec.d_in + r * s * (spec.d_out + entry))
        making = n * r * self.length + m * s * other.length
        return factors <= (n * m * r * s + making) * spec.d_in * spec.d_out

    def _add_dot_single(self, other: OuterBlock, out: Tensor, workspace: int) -> None:
        left_rows, right_rows = self.rows_per_example, other.rows_per_example
        b_other = other.b.flatten(0, 2).T
        each = 2 * left_rows * other.n_rows * self.b.element_size()
        for part in chunks(self.n_examples, each, workspace):
            # <b, b'> (<a, a'> + 1)
            inputs = self[part].input_products(other)
            if self.spec.has_bias:
                inputs += 1
            if right_rows > 1:
                inputs = inputs.repeat_interleave(right_rows, dim=1)
            outputs = self.b[part].flatten(0, 2) @ b_other
            target = out[row_slice(part, left_rows)].unflatten(0, (-1, left_rows))
            target.addcmul_(outputs.unflatten(0, (-1, left_rows)), inputs[:, None])

    def _add_dot_dense(self, other: DenseBlock, out: Tensor) -> None:
        """Dense rows of some outputs at a time, for many examples together."""
        r, d_in, d_out = self.rows_per_example, self.spec.d_in, self.spec.d_out
        others = other.dense()
        for part in chunks(self.n_examples, r, _DENSE_ROWS):
            own = out[row_slice(part, r)]
            each = r * (part.stop - part.start) * d_in * self.b.element_size()
            for units in chunks(d_out, each, _DENSE_PIECE):
                piece = self.replace(self.a[part], self.b[part][..., units])
                columns = slice(units.start * d_in, units.stop * d_in)
                # Σ_t b_t a_tᵀ of some outputs
                dense = piece._dense_weight().view(own.shape[0], -1)  # noqa: SLF001  of its own kind
                add_products(dense, others[:, columns], own)
        if self.spec.has_bias:
            add_products(self.b.sum(2).flatten(0, 1), others[:, d_in * d_out :], out)

    def input_products(self, other: OuterBlock) -> Tensor:
        """``<a_i, a'_j>`` of blocks with one position, (n_examples, other.n_examples)."""
        return other.products_with_rows(self.a[:, 0])

    def products_with_rows(self, rows: Tensor) -> Tensor:
        """``<rows_i, a_j>`` of a block with one position, (len(rows), n_examples)."""
        return rows @ self.a[:, 0].T

    def _add_dot_sequence(self, other: OuterBlock, out: Tensor, workspace: int) -> None:
        r, s, t, u = self.rows_per_example, other.rows_per_example, self.length, other.length
        pair = t * u * (1 + 2 * r * s) * self.b.element_size()
        side = max(1, int((workspace // pair) ** 0.5))
        for left in chunks(self.n_examples, 1, side):
            a, b = self.a[left].flatten(0, 1), self.b[left].flatten(0, 2)
            for right in chunks(other.n_examples, 1, side):
                # Σ_tu <b_t, b'_u> (<a_t, a'_u> + 1)
                inputs = a @ other.a[right].flatten(0, 1).T
                if self.spec.has_bias:
                    inputs += 1
                products = (b @ other.b[right].flatten(0, 2).T).view(
                    -1, r, t, inputs.shape[1] // u, s, u
                )
                products *= inputs.view(-1, 1, t, products.shape[3], 1, u)
                sums = products.sum((2, 5)).flatten(2).flatten(0, 1)
                out[row_slice(left, r), row_slice(right, s)] += sums

    # -- products with matrices -----------------------------------------------------------

    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        r, t, k = self.rows_per_example, self.length, out.shape[1]
        d_in, d_out = self.spec.d_in, self.spec.d_out
        by_factors = t * k * (d_in + r) < r * d_in * (t + k) and (r > 1 or t > 1)
        for units in chunks(d_out, d_in * k * out.element_size(), workspace // 4):
            matrix = rows(units.start * d_in, units.stop * d_in)
            spec = BlockSpec("", (), units.stop - units.start, d_in)
            part = OuterBlock(spec, self.a, self.b[..., units])
            if by_factors:
                part._add_matmul_factors(matrix, out, workspace)
            else:
                part._add_matmul_dense(matrix, out, workspace)
        if self.spec.has_bias:
            # Σ_t b_t times the rows of the bias
            out.addmm_(self.b.sum(2).flatten(0, 1), rows(d_in * d_out, self.spec.width))

    def _add_matmul_dense(self, matrix: Tensor, out: Tensor, workspace: int) -> None:
        each = self.rows_per_example * len(matrix) * self.b.element_size()
        for part in chunks(self.n_examples, each, min(_DENSE_BYTES, workspace // 2)):
            # G M
            out[row_slice(part, self.rows_per_example)].addmm_(self[part].dense(), matrix)

    def _add_matmul_factors(self, matrix: Tensor, out: Tensor, workspace: int) -> None:
        # multiply the matrix with the inputs first, once for all rows of an example
        r, t, d_in, units, k = (
            self.rows_per_example,
            self.length,
            self.spec.d_in,
            self.spec.d_out,
            out.shape[1],
        )
        matrix = matrix.view(units, d_in, k)
        each = 2 * units * t * k * self.b.element_size()
        for part in chunks(self.n_examples, each, workspace // 2):
            # Σ_tu b_tu (a_t M_u), with the rows M_u of output unit u
            moved = torch.matmul(self.a[part].flatten(0, 1), matrix)  # (units, n t, k)
            moved = moved.unflatten(1, (-1, t)).permute(1, 2, 0, 3).flatten(1, 2)
            target = out[row_slice(part, r)].unflatten(0, (-1, r))
            target += torch.bmm(self.b[part].flatten(2), moved)

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        g, t, d_in, d_out = len(weights), self.length, self.spec.d_in, self.spec.d_out
        if g == self.rows_per_example == 1 and self.b.nbytes <= workspace:
            return self._weighted_sum(weights[0])
        out = weights.new_zeros(g, self.spec.width)
        weight = out.new_zeros(g * d_out, d_in)
        for part in chunks(self.n_examples, 2 * g * t * d_out * self.b.element_size(), workspace):
            w, b = weights[:, part], self.b[part]
            # Σ_r w_gir b_irt
            if self.rows_per_example == 1:
                summed = w[:, :, 0].T[:, None, :, None] * b[:, 0, :, None, :]  # (n, t, g, d_out)
            else:
                summed = torch.bmm(w.permute(1, 0, 2), b.flatten(2))
                summed = summed.unflatten(2, (t, d_out)).transpose(1, 2)
            if self.spec.has_bias:
                out[:, d_out * d_in :] += summed.sum((0, 1))
            # Σ_it (Σ_r w_gir b_irt) a_itᵀ
            weight.addmm_(summed.reshape(-1, g * d_out).T, self.a[part].flatten(0, 1))
        out[:, : d_out * d_in] = weight.view(g, -1)
        return out

    def _weighted_sum(self, weights: Tensor) -> Tensor:
        """One sum (1, width), of one row for each example: few operations, for small blocks."""
        # Σ_it (w_i b_it) (a_it, 1)ᵀ
        b = (weights[:, :, None] * self.b[:, 0]).flatten(0, 1)
        weight = (b.T @ self.a.flatten(0, 1)).view(1, -1)
        return torch.cat([weight, b.sum(0, keepdim=True)], dim=1) if self.spec.has_bias else weight

    # -- both sides of the weight -------------------------------------------------------------

    def inputs_times(self, matrix: Tensor) -> Tensor:
        """``(a, 1) @ matrix``, (n_examples, T, k)."""
        moved = self.a @ matrix[: self.spec.d_in]
        return moved.add_(matrix[-1]) if self.spec.has_bias else moved

    def two_sided(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        # Σ_t (outputsᵀ b_t) (inputsᵀ (a_t, 1))ᵀ
        return (self.b @ outputs).mT @ self.inputs_times(inputs)[:, None]

    @property
    def _form_numbers(self) -> int:
        return self.length * (1 + 2 * self.rows_per_example)

    def forms(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        # Σ_t <b_t, outputs_j> <(a_t, 1), inputs_j>
        products = (self.b @ outputs).mul_(self.inputs_times(inputs)[:, None])
        return products.sum(2).flatten(0, 1)

    def second_moments(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        of_b = weighted_moment(self.b.to(torch.float64).flatten(1, 2), weights)
        a = self.a.to(torch.float64)
        if self.spec.has_bias:
            a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], dim=2)
        reached = reached_positions(self.spec, self.b)
        a = a if reached is None else a * reached[:, :, None]
        return of_b, weighted_moment(a, weights)

    # -- outer products of rows: an example's rows share their inputs, so R cost as much as one --

    def add_outer_products(self, other: OuterBlock, weights: Tensor | None, out: Tensor) -> None:
        """Add ``Σ_rows w g hᵀ = Σ (Σ_r w b b'ᵀ) ⊗ (a a'ᵀ)`` at their positions in ``out`` (p, p).

        Both blocks have one position per example; ``weights`` (n_rows,) may be None.
        """
        inputs, others = self._with_one().T, other._with_one()
        b = self.b[:, :, 0]
        if weights is not None:
            b = b * weights.view(b.shape[0], b.shape[1], 1)
        middle = b.mT @ other.b[:, :, 0]  # (n, d_out, other d_out)
        d_in = self.spec.d_in
        for unit in range(self.spec.d_out):
            scaled = (middle[:, unit, :, None] * others[:, None, :]).flatten(1)
            # Σ_i (Σ_r w b b'ᵀ)_iu (a_i a'_iᵀ) for the output unit u
            products = (inputs @ scaled).unflatten(1, (other.spec.d_out, -1))
            start = self.spec.columns[0].start + unit * d_in
            _add_rows(other.spec, products[:d_in], out[start : start + d_in])
            if self.spec.has_bias:
                start = self.spec.columns[1].start + unit
                _add_rows(other.spec, products[d_in:], out[start : start + 1])

    def _with_one(self) -> Tensor:
        a = self.a[:, 0]
        return torch.cat([a, a.new_ones(len(a), 1)], dim=1) if self.spec.has_bias else a

    # -- squares: of a product of two vectors they are a product too --------------------------

    def add_squares(self, weights: Tensor, out: Tensor, workspace: int = WORKSPACE) -> None:
        if not self.is_single:
            return super().add_squares(weights, out, workspace)
        size = self.spec.d_out * self.spec.d_in
        # Σ_i w_i (Σ_r b_ir²) (a_i²)ᵀ
        b = self.b[:, :, 0].square().sum(1) * weights.to(self.dtype)[:, None]
        out[:size] += (b.mT @ self.a[:, 0].square()).flatten()
        if self.spec.has_bias:
            out[size:] += b.sum(0)

    def quadratic_forms(self, tables: Tensor, workspace: int = WORKSPACE) -> Tensor:
        if not self.is_single or self.spec.has_bias:
            return super().quadratic_forms(tables, workspace)
        inputs, scale_in = unit_rows(self.a[:, 0])
        outputs, scale_out = unit_rows(self.b[:, 0, 0])
        inputs, outputs = inputs.square().to(tables.dtype), outputs.square().to(tables.dtype)
        matrices = tables.unflatten(1, (self.spec.d_out, self.spec.d_in))
        if self.spec.d_out > self.spec.d_in:  # the longer side goes into the matrix product
            inputs, outputs, matrices = outputs, inputs, matrices.mT
        out = torch.empty(len(inputs), len(tables), dtype=torch.float64, device=self.device)
        each = matrices[0].numel() + len(inputs) * outputs.shape[1]
        for some in chunks(len(tables), 2 * each * tables.element_size(), workspace):
            part = matrices[some]
            # Σ_kl b_k² T_kl a_l² for every table T
            moved = (inputs @ part.flatten(0, 1).mT).unflatten(1, part.shape[:2])
            out[:, some] = torch.bmm(moved, outputs[:, :, None])[:, :, 0].to(torch.float64)
        return out * (scale_in * scale_out).square()


def _add_rows(spec: BlockSpec, products: Tensor, out: Tensor) -> None:
    """Add products (rows, d_out, d_in [+ 1]) to rows of the result."""
    weight = out[:, spec.columns[0]].unflatten(1, (spec.d_out, spec.d_in))
    weight += products[:, :, : spec.d_in]
    if spec.has_bias:
        out[:, spec.columns[1]] += products[:, :, -1]
