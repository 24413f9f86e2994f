"""Projections that work on factors: for layers with factors, the gradient is never formed."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block, BlockSpec, row_slice
from influencekit.gradients.projections._base import Projection
from influencekit.utils._long_work import chunks

__all__ = ["FactoredProjection", "TwoSidedProjection", "project_sides", "share_dims"]

#: Bytes of products at a time, so that they stay in cache.
_IN_CACHE = 2**22


class _SidedProjection(Projection):
    """A projection with a random matrix for each side of every layer's gradient."""

    def _side(self, spec: BlockSpec, side: str, size: int, dim: int, like: Tensor) -> Tensor:
        return self.random("rademacher", f"{spec.name}/{side}", 0, size, dim, like)

    def _add_unstructured(self, block: Block, out: Tensor, workspace: int) -> None:
        """Project a block that is not a matrix with its own random signs."""
        like, dim = out[:0], out.shape[1]

        def rows(start: int, stop: int) -> Tensor:
            return self.random("rademacher", block.spec.name, start, stop, dim, like)

        block.add_matmul(rows, out, workspace)


class FactoredProjection(_SidedProjection):
    """Coordinate j is ``Σ_layers p_jᵀ G q_j`` with independent random signs p_j, q_j.

    For a gradient with factors that is ``Σ_t (q_j · a_t)(p_j · b_t)``: all layers contribute to the
    same coordinates, and cross terms between them vanish in expectation.
    """

    projection = "factored"

    def apply(self, features: GradientFeatures) -> Tensor:
        out = features.zeros(self.dim, features.dtype)
        for block in features.blocks.values():
            if not block.spec.is_matrix:
                self._add_unstructured(block, out, features.workspace)
            else:
                sides, room = self._sides(block.spec, out[:0]), min(_IN_CACHE, features.workspace)
                block.add_forms(*sides, out, room)
        return out.mul_(self.dim**-0.5)

    def _sides(self, spec: BlockSpec, like: Tensor) -> tuple[Tensor, Tensor]:
        out_side = self._side(spec, "out", spec.d_out, self.dim, like)
        return out_side, self._side(spec, "in", spec.d_in + spec.has_bias, self.dim, like)


class TwoSidedProjection(_SidedProjection):
    """``P G Qᵀ`` for the gradient matrix of every layer, laid side by side.

    Dims are divided between layers in proportion to the square root of their number of parameters,
    and within a layer between its two sides in the same way.
    """

    projection = "two_sided"

    def apply(self, features: GradientFeatures) -> Tensor:
        out = features.zeros(self.dim, features.dtype)
        specs = [block.spec for block in features.blocks.values()]
        start = 0
        for block, dim in zip(features.blocks.values(), share_dims(specs, self.dim), strict=True):
            own = out[:, start : start + dim]
            start += dim
            if block.spec.is_matrix:
                self._fill_sides(block, own, features.workspace)
            else:
                self._add_unstructured(block, own, features.workspace)
                own.mul_(dim**-0.5)
        return out

    def _fill_sides(self, block: Block, out: Tensor, workspace: int) -> None:
        spec, dim = block.spec, out.shape[1]
        rows, columns = spec.d_out, spec.d_in + spec.has_bias
        k_in = max(1, min(columns, round((dim * columns / rows) ** 0.5)))
        k_out = -(-dim // k_in)
        outputs = self._side(spec, "out", rows, k_out, out[:0])
        inputs = self._side(spec, "in", columns, k_in, out[:0])
        out.copy_(project_sides(block, outputs, inputs, workspace)[:, :dim])
        out.mul_(dim**-0.5)


def project_sides(block: Block, outputs: Tensor, inputs: Tensor, workspace: int) -> Tensor:
    """Gradient matrices of a layer multiplied from both sides.

    Parameters
    ----------
    block : Block
        Block of a layer with a weight matrix.
    outputs : Tensor of shape (d_out, k_out)
    inputs : Tensor of shape (d_in, k_in), or (d_in + 1, k_in) with a bias
    workspace : int
        Bytes that intermediates may take.

    Returns
    -------
    Tensor of shape (n_rows, k_out * k_in)
        ``outputsᵀ G inputs`` row by row, the bias as last column of ``G``.
    """
    k_out, k_in = outputs.shape[1], inputs.shape[1]
    out = outputs.new_empty(block.n_rows, k_out * k_in)
    r, t = block.rows_per_example, block.length
    each = (
        r * t * (k_out + block.spec.d_in + 1) + t * k_in + r * k_in * (k_out + block.spec.d_out)
    ) * out.element_size()
    for part in chunks(block.n_examples, each, workspace):
        moved = block[part].two_sided(outputs, inputs)  # (n, R, k_out, k_in)
        out[row_slice(part, r)] = moved.flatten(2).flatten(0, 1)
    return out


def share_dims(specs: list[BlockSpec], dim: int) -> list[int]:
    """Dims of every block: at least 1, about in proportion to the root of its width."""
    if dim < len(specs):
        raise ValueError(
            f"dim: got {dim} for {len(specs)} layers; a two-sided projection needs at least one "
            f"dim per layer. Use a larger dim, or projection='factored', in which layers share "
            f"dims."
        )
    shares = torch.tensor([spec.width for spec in specs], dtype=torch.float64).sqrt()
    exact = shares / shares.sum() * (dim - len(specs))
    dims = (exact.floor() + 1).long()
    order = torch.argsort(exact - exact.floor(), descending=True, stable=True)
    dims[order[: dim - int(dims.sum())]] += 1
    return dims.tolist()
