"""Weighted sums of outer products of gradients, without dense rows where factors save work.

For layers with one position an example, ``Σ_r w g gᵀ`` of an example's rows is
``(Σ_r w b bᵀ) ⊗ (a aᵀ)``: the inputs are shared by all rows, so R rows cost as much as one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.utils import chunks

__all__ = ["add_covariance", "symmetrize"]


def add_covariance(features: GradientFeatures, weights: Tensor | None, out: Tensor) -> None:
    """Add ``Σ_rows w g gᵀ`` to ``out`` (p, p), in its dtype.

    Only blocks on and above the diagonal (in the order of the features) need be right
    afterwards: :func:`symmetrize` completes the matrix.

    Parameters
    ----------
    features : GradientFeatures
    weights : Tensor of shape (n_rows,) or None
    out : Tensor of shape (p, p)
    """
    r = features.rows_per_example
    each = 2 * r * features.n_parameters * out.element_size()
    for part in chunks(features.n_examples, each, features.workspace):
        own = None if weights is None else weights[part.start * r : part.stop * r].to(out.dtype)
        if r > 1:
            _add_by_blocks(features[part].to(out.dtype), own, out)
        else:
            dense = features[part].materialize(out.dtype)
            left = dense.T if own is None else dense.T * own
            torch.addmm(out, left, dense, out=out)


def symmetrize(features_specs: tuple[BlockSpec, ...], out: Tensor) -> Tensor:
    """Copy the blocks above the diagonal below it.

    Parameters
    ----------
    features_specs : tuple of BlockSpec
        In the order of the features that were added.
    out : Tensor of shape (p, p)

    Returns
    -------
    Tensor
        ``out``.
    """
    for i, upper in enumerate(features_specs):
        for lower in features_specs[i + 1 :]:
            for a in upper.columns:
                for b in lower.columns:
                    out[b, a] = out[a, b].T
    return out


def _add_by_blocks(features: GradientFeatures, weights: Tensor | None, out: Tensor) -> None:
    blocks = list(features.blocks.values())
    dense: dict[int, Tensor] = {}

    def rows(i: int) -> Tensor:
        if i not in dense:
            dense[i] = blocks[i].dense()
        return dense[i]

    for i, left in enumerate(blocks):
        for j in range(i, len(blocks)):
            if left.is_single and blocks[j].is_single:
                _add_factors(left, blocks[j], weights, out)
            else:
                scaled = rows(i).T if weights is None else rows(i).T * weights
                _scatter(left.spec, blocks[j].spec, scaled @ rows(j), out)


def _scatter(left: BlockSpec, right: BlockSpec, products: Tensor, out: Tensor) -> None:
    """Add products (left.width, right.width) at their places in ``out``."""
    row = 0
    for a in left.columns:
        column, height = 0, a.stop - a.start
        for b in right.columns:
            width = b.stop - b.start
            out[a, b] += products[row : row + height, column : column + width]
            column += width
        row += height


def _with_one(block: OuterBlock) -> Tensor:
    a = block.a[:, 0]
    return torch.cat([a, a.new_ones(len(a), 1)], dim=1) if block.spec.has_bias else a


def _add_factors(left: OuterBlock, right: OuterBlock, weights: Tensor | None, out: Tensor) -> None:
    inputs, other = _with_one(left).T, _with_one(right)
    b = left.b[:, :, 0]
    if weights is not None:
        b = b * weights.view(b.shape[0], b.shape[1], 1)
    middle = b.mT @ right.b[:, :, 0]  # (n, d_out, other d_out)
    d_in, d_out = left.spec.d_in, left.spec.d_out
    for unit in range(d_out):
        scaled = (middle[:, unit, :, None] * other[:, None, :]).flatten(1)
        products = (inputs @ scaled).unflatten(1, (right.spec.d_out, -1))
        start = left.spec.columns[0].start + unit * d_in
        _add_rows(right.spec, products[:d_in], out[start : start + d_in])
        if left.spec.has_bias:
            start = left.spec.columns[1].start + unit
            _add_rows(right.spec, products[d_in:], out[start : start + 1])


def _add_rows(spec: BlockSpec, products: Tensor, out: Tensor) -> None:
    """Add products (rows, d_out, d_in [+ 1]) to rows of the result."""
    weight = out[:, spec.columns[0]].unflatten(1, (spec.d_out, spec.d_in))
    weight += products[:, :, : spec.d_in]
    if spec.has_bias:
        out[:, spec.columns[1]] += products[:, :, -1]
