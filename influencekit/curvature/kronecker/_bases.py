"""Bases in which a Kronecker-factored curvature is diagonal, one for each block of gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._outer import OuterBlock

__all__ = ["BlockBasis", "DiagonalBasis", "FullBasis", "IndexBasis", "MatrixBasis"]


@dataclass(frozen=True)
class BlockBasis(ABC):
    """Orthonormal basis of one block of parameters.

    Attributes
    ----------
    spec : BlockSpec
        The block's place and shape among the gradients.
    place : BlockSpec
        Place and shape of its coordinates among all coordinates.
    """

    spec: BlockSpec
    place: BlockSpec

    @property
    def columns(self) -> slice:
        """Positions of the block's coordinates."""
        return self.place.columns[0]

    @abstractmethod
    def rotate_rows(self, rows: Tensor) -> Tensor:
        """Coordinates (k, width) of dense gradients (k, width)."""

    @abstractmethod
    def unrotate_rows(self, rows: Tensor) -> Tensor:
        """Dense gradients (k, width) of coordinates (k, width)."""

    @abstractmethod
    def diagonal(self, penalty: Tensor) -> Tensor:
        """``v_kᵀ diag(penalty) v_k`` of every basis vector, (width,)."""

    def rotate(self, block: Block) -> Block:
        """A block of gradients as a block of coordinates."""
        rows = self.rotate_rows(block.dense())
        return DenseBlock(self.place, rows.unflatten(0, (block.n_examples, -1)))


@dataclass(frozen=True)
class DiagonalBasis(BlockBasis):
    """The parameters themselves: for large blocks without factors."""

    def rotate_rows(self, rows: Tensor) -> Tensor:
        return rows

    def unrotate_rows(self, rows: Tensor) -> Tensor:
        return rows

    def diagonal(self, penalty: Tensor) -> Tensor:
        return penalty


@dataclass(frozen=True)
class FullBasis(BlockBasis):
    """Eigenvectors of a small block's whole curvature.

    Attributes
    ----------
    vectors : Tensor of shape (width, width)
        Eigenvectors as columns.
    """

    vectors: Tensor

    def rotate_rows(self, rows: Tensor) -> Tensor:
        # G V
        return rows @ self.vectors

    def unrotate_rows(self, rows: Tensor) -> Tensor:
        # C Vᵀ
        return rows @ self.vectors.mT

    def diagonal(self, penalty: Tensor) -> Tensor:
        # Σ_i r_i v_ik²
        return penalty @ self.vectors.to(penalty).square()


@dataclass(frozen=True)
class MatrixBasis(BlockBasis):
    """Products ``u ⊗ v`` of eigenvectors of both factors of a weight matrix and its bias.

    Attributes
    ----------
    inputs : Tensor of shape (d_in + has_bias, d_in + has_bias)
        Eigenvectors of the inputs' second moments, as columns, largest first.
    outputs : Tensor of shape (d_out, d_out)
        Eigenvectors of the second moments of the output gradients.
    input_moments, output_moments : Tensor, float64
        Eigenvalues of both.
    single : bool
        Whether the layer is applied only once to each example.
    """

    inputs: Tensor
    outputs: Tensor
    input_moments: Tensor
    output_moments: Tensor
    single: bool

    def rotate(self, block: Any) -> Block:
        if not block.has_factors or self._dense_is_cheaper(block):
            return super().rotate(block)
        block = block.compact()
        # Σ_t b_t (a_t, 1)ᵀ becomes Σ_t (Q_outᵀ b_t) (Q_inᵀ (a_t, 1))ᵀ
        return OuterBlock(self.place, block.inputs_times(self.inputs), block.b @ self.outputs)

    def _dense_is_cheaper(self, block: Any) -> bool:
        """Whether sums over many positions are smaller, and take fewer products, than factors."""
        (length, d_in, d_out), rows = block.factor_shape, block.rows_per_example
        if length == 1 or rows * d_in * d_out > length * (d_in + rows * d_out):
            return False
        # either way each row is multiplied out
        return rows * d_in * d_out * (d_in + d_out) < length * (d_in**2 + rows * d_out**2)

    def rotate_rows(self, rows: Tensor) -> Tensor:
        # Q_outᵀ G Q_in
        return (self.outputs.mT @ self._matrices(rows) @ self.inputs).flatten(1)

    def unrotate_rows(self, rows: Tensor) -> Tensor:
        shape = (self.spec.d_out, self.spec.d_in + self.spec.has_bias)
        # Q_out C Q_inᵀ
        moved = self.outputs @ rows.unflatten(1, shape) @ self.inputs.mT
        if not self.spec.has_bias:
            return moved.flatten(1)
        return torch.cat([moved[:, :, :-1].flatten(1), moved[:, :, -1]], dim=1)

    def diagonal(self, penalty: Tensor) -> Tensor:
        matrix = self._matrices(penalty[None])[0]
        # Σ_ij u_ik² R_ij v_jl² along u_k ⊗ v_l
        left, right = self.outputs.to(penalty).square(), self.inputs.to(penalty).square()
        return (left.mT @ matrix @ right).flatten()

    def _matrices(self, rows: Tensor) -> Tensor:
        """Dense gradients as matrices (k, d_out, d_in + has_bias)."""
        size = self.spec.d_out * self.spec.d_in
        weight = rows[:, :size].unflatten(1, (self.spec.d_out, self.spec.d_in))
        if not self.spec.has_bias:
            return weight
        return torch.cat([weight, rows[:, size:, None]], dim=2)


@dataclass(frozen=True)
class IndexBasis(BlockBasis):
    """Entries of an embedding times eigenvectors of its output gradients.

    The inputs are one-hot, so their second moments are already diagonal.

    Attributes
    ----------
    outputs : Tensor of shape (d, d)
        Eigenvectors as columns, largest first.
    """

    outputs: Tensor

    def rotate(self, block: Any) -> Block:
        if not block.has_factors:
            return super().rotate(block)
        # every b_t becomes Qᵀ b_t
        return IndexBlock(self.place, block.index, block.b @ self.outputs)

    def rotate_rows(self, rows: Tensor) -> Tensor:
        # G Q
        return (self._matrices(rows) @ self.outputs).flatten(1)

    def unrotate_rows(self, rows: Tensor) -> Tensor:
        # C Qᵀ
        return (self._matrices(rows) @ self.outputs.mT).flatten(1)

    def diagonal(self, penalty: Tensor) -> Tensor:
        # Σ_j R_ej q_jk²
        return (self._matrices(penalty[None])[0] @ self.outputs.to(penalty).square()).flatten()

    def _matrices(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, (self.spec.d_out, self.spec.d_in))
