"""A block of gradients of a linear layer whose inputs are rows of a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from influencekit.gradients.blocks._base import (
    WORKSPACE,
    Block,
    BlockSpec,
    RowProvider,
)
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.utils._long_work import chunks

__all__ = ["SparseBlock", "SparseInputs"]


@dataclass(frozen=True)
class SparseInputs:
    """Inputs of a linear layer: rows of a sparse matrix, centered without being made dense.

    Attributes
    ----------
    matrix : scipy csr matrix of shape (n, d_in)
        As the user gave it; never changed.
    means : Tensor of shape (d_in,) or None
        μ of inputs ``x - μ``; None is 0.
    """

    matrix: Any
    means: Tensor | None = None

    def rows(self, index: Tensor) -> sparse.csr_array:
        """Some rows without their means, float64, each entry once."""
        rows = sparse.csr_array(self.matrix[index.numpy()], dtype=np.float64)
        rows.sum_duplicates()
        return rows

    def products(self, rows: sparse.csr_array, matrix: Tensor) -> Tensor:
        """``(x - μ) matrix`` of some rows x, (n, k)."""
        matrix = matrix.to(torch.float64)
        found = torch.from_numpy(rows @ matrix.numpy())
        return found if self.means is None else found.sub_(self.means @ matrix)

    def sums(self, rows: sparse.csr_array, weights: Tensor) -> Tensor:
        """``Σ_i w_ki (x_i - μ)`` of weights (k, n), (k, d_in)."""
        weights = weights.to(torch.float64)
        found = torch.from_numpy(rows.T @ weights.mT.numpy()).mT
        return found if self.means is None else found - weights.sum(1)[:, None] * self.means


class SparseBlock(OuterBlock):
    """Gradients ``G[i, r] = b[i, r] ⊗ (x[i] - μ, 1)`` with sparse inputs x, read when needed.

    Parameters
    ----------
    spec : BlockSpec
    index : Tensor of shape (n_examples,), int64
        Rows of the inputs' matrix.
    b : Tensor of shape (n_examples, rows_per_example, 1, d_out), float64
        Gradients with respect to the layer's outputs, on the CPU.
    inputs : SparseInputs
    """

    def __init__(self, spec: BlockSpec, index: Tensor, b: Tensor, inputs: SparseInputs):
        self.spec = spec
        self.index = index
        self.b = b
        self.inputs = inputs
        self.n_examples, self.rows_per_example, self.length = b.shape[:3]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.index, self.b)

    def replace(self, *tensors: Tensor) -> Self:
        index, b = tensors
        return type(self)(self.spec, index, b, self.inputs)

    def with_spec(self, spec: BlockSpec) -> Block:
        return type(self)(spec, self.index, self.b, self.inputs)

    def x(self) -> sparse.csr_array:
        """The inputs, without their means taken off."""
        return self.inputs.rows(self.index)

    @property
    def a(self) -> Tensor:  # type: ignore[override]
        """Dense inputs (n_examples, 1, d_in), for operations that know no sparse ones."""
        rows = torch.from_numpy(self.x().toarray())[:, None]
        return (rows if self.inputs.means is None else rows - self.inputs.means).to(self.dtype)

    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:  # noqa: ARG002  other blocks take it
        x, means = self.x(), self.inputs.means
        squares = torch.from_numpy(np.asarray(x.multiply(x).sum(1)).reshape(-1))
        if means is not None:
            # ‖x - μ‖² = ‖x‖² - 2 <x, μ> + ‖μ‖²
            squares = squares - 2 * torch.from_numpy(x @ means.numpy()) + means @ means
        inputs = squares.clamp_min_(0.0).add_(float(self.spec.has_bias)).to(self.dtype)
        return (self.b[:, :, 0].square().sum(-1) * inputs[:, None]).flatten()

    # -- dot products ---------------------------------------------------------------------

    def factors_are_cheaper(
        self,
        other: OuterBlock,  # noqa: ARG002  dense ones compare
        n: int | None = None,  # noqa: ARG002  dense ones compare
        m: int | None = None,  # noqa: ARG002  dense ones compare
    ) -> bool:
        return True

    def input_products(self, other: OuterBlock) -> Tensor:
        if not isinstance(other, SparseBlock):
            return self.products_with_rows(other.a[:, 0]).mT
        x, y = self.x(), other.x()
        found = torch.from_numpy((x @ y.T).toarray())
        mine, others = self.inputs.means, other.inputs.means
        if mine is not None and others is not None:
            # <x - μ, y - ν> = <x, y> - <x, ν> - <μ, y - ν>
            found -= torch.from_numpy(x @ others.numpy())[:, None]
            found -= torch.from_numpy(y @ mine.numpy()) - mine @ others
        return found.to(self.dtype)

    def products_with_rows(self, rows: Tensor) -> Tensor:
        return self.inputs.products(self.x(), rows.mT).mT.to(rows.dtype)

    # -- products with matrices -----------------------------------------------------------

    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:  # noqa: ARG002  other blocks take it
        x, d_in, d_out = self.x(), self.spec.d_in, self.spec.d_out
        target = out.unflatten(0, (self.n_examples, self.rows_per_example))
        for unit in range(d_out):
            matrix = rows(unit * d_in, (unit + 1) * d_in)
            # Σ_u b_u (x - μ) M_u, with the rows M_u of output unit u
            moved = self.inputs.products(x, matrix)
            target.addcmul_(self.b[:, :, 0, unit, None], moved[:, None].to(out.dtype))
        if self.spec.has_bias:
            out.addmm_(self.b[:, :, 0].flatten(0, 1), rows(d_in * d_out, self.spec.width))

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:
        g, d_in, d_out = len(weights), self.spec.d_in, self.spec.d_out
        out = weights.new_zeros(g, self.spec.width)
        weight = out[:, : d_out * d_in].unflatten(1, (d_out, d_in))
        for part in chunks(self.n_examples, 2 * g * d_out * self.b.element_size(), workspace):
            # Σ_r w_gir b_ir, (g, d_out, n)
            summed = torch.einsum("gnr,nro->gon", weights[:, part], self.b[part, :, 0])
            # Σ_i (Σ_r w_gir b_ir) (x_i - μ)ᵀ
            weight += self.inputs.sums(self[part].x(), summed.flatten(0, 1)).view_as(weight)
            if self.spec.has_bias:
                out[:, d_out * d_in :] += summed.sum(2)
        return out

    def inputs_times(self, matrix: Tensor) -> Tensor:
        moved = self.inputs.products(self.x(), matrix[: self.spec.d_in])[:, None]
        return moved.add_(matrix[-1]) if self.spec.has_bias else moved

    # -- outer products of rows -----------------------------------------------------------

    def add_outer_products(self, other: OuterBlock, weights: Tensor | None, out: Tensor) -> None:
        if other is not self:
            return super().add_outer_products(other, weights, out)
        x, b, d_in = self.x(), self.b[:, :, 0], self.spec.d_in
        weighted = b if weights is None else b * weights.view(b.shape[0], b.shape[1], 1)
        starts = range(self.spec.columns[0].start, self.spec.columns[0].stop, d_in)
        of = [slice(start, start + d_in) for start in starts]
        for left in range(self.spec.d_out):
            for right in range(left, self.spec.d_out):
                # v_i = Σ_r w_ir b_iru b_irv
                v = (weighted[:, :, left] * b[:, :, right]).sum(1)
                products, sums = self._moments(x, v)
                for i, j in {(left, right), (right, left)}:
                    out[of[i], of[j]] += products
                    if self.spec.has_bias:
                        bias = self.spec.columns[1].start
                        out[of[i], bias + j] += sums
                        out[bias + j, of[i]] += sums
                        out[bias + i, bias + j] += v.sum()

    def _moments(self, x: sparse.csr_array, v: Tensor) -> tuple[Tensor, Tensor]:
        """``Σ_i v_i (x_i - μ) (x_i - μ)ᵀ`` and ``Σ_i v_i (x_i - μ)``."""
        data = x.data * np.repeat(v.numpy(), np.diff(x.indptr))
        scaled = sparse.csr_array((data, x.indices, x.indptr), shape=x.shape)
        products, means = torch.from_numpy((x.T @ scaled).toarray()), self.inputs.means
        sums = self.inputs.sums(x, v[None])[0]
        if means is not None:
            # Σ v x xᵀ - μ Σ v (x - μ)ᵀ - Σ v x μᵀ
            raw = sums + v.sum() * means
            products.addr_(means, sums, alpha=-1).addr_(raw, means, alpha=-1)
        return products, sums

    # -- squares --------------------------------------------------------------------------

    def add_squares(self, weights: Tensor, out: Tensor, workspace: int = WORKSPACE) -> None:
        Block.add_squares(self, weights, out, workspace)

    def quadratic_forms(self, tables: Tensor, workspace: int = WORKSPACE) -> Tensor:
        return Block.quadratic_forms(self, tables, workspace)
