"""Second moments of layer inputs and output gradients, and the bases computed from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature.kronecker._bases import (
    BlockBasis,
    DiagonalBasis,
    FullBasis,
    IndexBasis,
    MatrixBasis,
)
from influencekit.gradients.blocks._base import Block, BlockSpec, reached_positions
from influencekit.utils._long_work import chunks

__all__ = ["BlockMoments", "moments_of"]

#: Widest block without factors with a full curvature matrix; wider ones are diagonal.
WIDEST_FULL = 1_024
#: Columns of second moments that are computed at least at a time.
_PANEL = 128


class BlockMoments(ABC):
    """Sums over examples from which one block's basis is computed.

    Parameters
    ----------
    spec : BlockSpec
    start : int
        Position of the block's first coordinate.
    like : Tensor
        Tensor with the dtype and device of the basis.
    """

    def __init__(self, spec: BlockSpec, start: int, like: Tensor):
        self.spec = spec
        self.like = like
        self.columns = (slice(start, start + spec.width),)

    @abstractmethod
    def add(self, block: Block, weights: Tensor) -> None:
        """Add a batch; ``weights`` (n_examples,) are the examples' shares of the mean loss."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add the sums over other examples, of the same kind."""

    @abstractmethod
    def basis(self, penalty: Tensor) -> tuple[BlockBasis, Tensor]:
        """The basis and the curvature of the data along its vectors, (width,) in float64."""

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.like.device)


class _MatrixMoments(BlockMoments):
    def __init__(self, spec: BlockSpec, start: int, like: Tensor):
        super().__init__(spec, start, like)
        d_in = spec.d_in + spec.has_bias
        self.inputs, self.outputs = self._zeros(d_in, d_in), self._zeros(spec.d_out, spec.d_out)
        self.count, self.single = 0.0, True

    def add(self, block: Any, weights: Tensor) -> None:
        if not block.has_factors:  # not called in this batch: zeros
            return
        self.single = self.single and block.length == 1
        reached = reached_positions(block.spec, block.b)
        if reached is None and bool((weights == weights[0]).all()):
            self._add_equal(block, float(weights[0]))
        else:
            self._add_weighted(block, weights, reached)

    def _add_equal(self, block: Any, weight: float) -> None:
        """Add examples of one weight, whose factors are read as they are."""
        rows, size = block.a.flatten(0, 1), self.spec.d_in
        self.count += weight * len(rows)
        # A = w/W Σ_it (a_it, 1) (a_it, 1)ᵀ, and B = w/W Σ_irt b_irt b_irtᵀ
        self.inputs[:size, :size] += _gram(rows).mul_(weight)
        if self.spec.has_bias:
            sums = rows.sum(0).to(torch.float64) * weight
            self.inputs[:size, size] += sums
            self.inputs[size, :size] += sums
            self.inputs[size, size] += weight * len(rows)
        self.outputs += _gram(block.b).mul_(weight)

    def _add_weighted(self, block: Any, weights: Tensor, reached: Tensor | None) -> None:
        roots, each = weights.sqrt().to(block.dtype), weights[:, None].expand(block.a.shape[:2])
        each = each if reached is None else each * reached
        self.count += float(each.sum())
        shares = each.sqrt().to(block.dtype)[:, :, None]
        a = block.a.new_empty(*block.a.shape[:2], len(self.inputs))
        torch.mul(block.a, shares, out=a[:, :, : self.spec.d_in])
        if self.spec.has_bias:
            a[:, :, -1:] = shares
        # A = Σ_i w_i/W Σ_t a_it a_itᵀ, and B = Σ_i w_i/W Σ_rt b_irt b_irtᵀ
        self.inputs += _gram(a)
        self.outputs += _gram(block.b * roots[:, None, None, None])

    def merge(self, other: Any) -> None:
        self.single = self.single and other.single
        self.count += other.count
        self.inputs += other.inputs
        self.outputs += other.outputs

    def basis(self, penalty: Tensor) -> tuple[BlockBasis, Tensor]:  # noqa: ARG002  other moments take it
        # A / count = Q_in diag(α) Q_inᵀ and B = Q_out diag(β) Q_outᵀ
        inputs, q_in = _descending(self.inputs / max(self.count, 1e-300))
        outputs, q_out = _descending(self.outputs)
        place = BlockSpec(self.spec.name, self.columns, len(outputs), len(inputs))
        basis = MatrixBasis(
            self.spec,
            place,
            q_in.to(self.like.dtype),
            q_out.to(self.like.dtype),
            inputs,
            outputs,
            self.single,
        )
        # β_k α_l along q_out,k ⊗ q_in,l
        return basis, (outputs[:, None] * inputs).flatten()


class _IndexMoments(BlockMoments):
    def __init__(self, spec: BlockSpec, start: int, like: Tensor):
        super().__init__(spec, start, like)
        self.frequencies, self.outputs = self._zeros(spec.d_out), self._zeros(spec.d_in, spec.d_in)

    def add(self, block: Any, weights: Tensor) -> None:
        if not block.has_factors:
            return
        each = block.shares(weights)
        # Σ_i w_i/W times the positions of entry e, and B = Σ_i w_i/W Σ_rt b_irt b_irtᵀ
        self.frequencies += torch.zeros_like(self.frequencies).index_add_(
            0, block.index.flatten(), each.flatten()
        )
        roots = weights.sqrt().to(block.dtype)
        self.outputs += _gram(block.b * roots[:, None, None, None])

    def merge(self, other: Any) -> None:
        self.frequencies += other.frequencies
        self.outputs += other.outputs

    def basis(self, penalty: Tensor) -> tuple[BlockBasis, Tensor]:  # noqa: ARG002  other moments take it
        # B = Q diag(β) Qᵀ
        outputs, vectors = _descending(self.outputs)
        frequencies = self.frequencies / self.frequencies.sum().clamp_min(1e-300)
        place = BlockSpec(self.spec.name, self.columns, self.spec.d_out, self.spec.d_in)
        basis = IndexBasis(self.spec, place, vectors.to(self.like.dtype))
        # frequency_e β_k along the entry e and q_k
        return basis, (frequencies[:, None] * outputs).flatten()


class _FullMoments(BlockMoments):
    def __init__(self, spec: BlockSpec, start: int, like: Tensor):
        super().__init__(spec, start, like)
        self.covariance = self._zeros(spec.width, spec.width)

    def add(self, block: Block, weights: Tensor) -> None:
        roots = weights.sqrt().to(block.dtype).repeat_interleave(block.rows_per_example)
        # F = Σ_i w_i/W Σ_r b_ir b_irᵀ
        self.covariance += _gram(block.dense() * roots[:, None])

    def merge(self, other: Any) -> None:
        self.covariance += other.covariance

    def basis(self, penalty: Tensor) -> tuple[BlockBasis, Tensor]:
        # F + R = V diag(s) Vᵀ
        vectors = torch.linalg.eigh(self.covariance + penalty.diag()).eigenvectors
        # v_kᵀ F v_k
        data = (vectors * (self.covariance @ vectors)).sum(0).clamp_min(0.0)
        place = BlockSpec(self.spec.name, self.columns)
        return FullBasis(self.spec, place, vectors.to(self.like.dtype)), data


class _DiagonalMoments(BlockMoments):
    def __init__(self, spec: BlockSpec, start: int, like: Tensor):
        super().__init__(spec, start, like)
        self.squares = self._zeros(spec.width)

    def add(self, block: Block, weights: Tensor) -> None:
        each = weights.to(block.dtype).repeat_interleave(block.rows_per_example)
        # diag(F) = Σ_i w_i/W Σ_r b_ir²
        self.squares += (each @ block.dense().square()).to(torch.float64)

    def merge(self, other: Any) -> None:
        self.squares += other.squares

    def basis(self, penalty: Tensor) -> tuple[BlockBasis, Tensor]:  # noqa: ARG002  other moments take it
        return DiagonalBasis(self.spec, BlockSpec(self.spec.name, self.columns)), self.squares


def moments_of(spec: BlockSpec, start: int, embeds: bool, like: Tensor) -> BlockMoments:
    """Empty sums for one block of gradients, whose coordinates begin at ``start``.

    ``embeds`` says whether the block belongs to an embedding; ``like`` has the dtype and device.
    """
    kinds: type[BlockMoments]
    if spec.is_matrix:
        kinds = _IndexMoments if embeds else _MatrixMoments
    else:
        kinds = _FullMoments if spec.width <= WIDEST_FULL else _DiagonalMoments
    return kinds(spec, start, like)


def _gram(rows: Tensor) -> Tensor:
    """Second moments over all dimensions except the last, summed in float64 over batches."""
    rows = rows.flatten(0, -2)
    out = rows.new_empty(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for columns in chunks(len(out), 1, max(_PANEL, -(-len(out) // 4))):
        # Σ v vᵀ on and above the diagonal, and its transpose below
        panel = rows[:, : columns.stop].mT @ rows[:, columns]
        out[: columns.stop, columns] = panel
        out[columns, : columns.start] = panel[: columns.start].mT
    return out


def _descending(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)
