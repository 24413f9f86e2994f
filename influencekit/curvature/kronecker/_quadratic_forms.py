"""Sums of squared coordinates: over examples, and over coordinates with given weights.

Layers applied once to an example have coordinates ``b_k a_l``; their squares are products too,
so that all sums are matrix products with the squared factors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from influencekit.gradients import Block, IndexBlock, OuterBlock
from influencekit.gradients.blocks._base import chunks

__all__ = ["add_squares", "quadratic_forms"]


def add_squares(block: Block, weights: Tensor, out: Tensor, workspace: int) -> None:
    """Add ``Σ_i w_i Σ_r c_irᵏ²`` to ``out`` (width,).

    Parameters
    ----------
    block : Block
        Coordinates of some examples.
    weights : Tensor of shape (n_examples,), float64
    out : Tensor of shape (width,), float64
    workspace : int
        Bytes for intermediates.
    """
    if isinstance(block, IndexBlock):
        for rows in chunks(block.n_examples, block.nbytes // max(1, block.n_examples), workspace):
            owners, entries, sums = _entry_sums(block[rows])
            squares = sums.square().sum(1).to(torch.float64) * weights[rows][owners, None]
            out.view(block.spec.d_out, -1).index_add_(0, entries, squares)
    elif isinstance(block, OuterBlock) and block.length == 1:
        b = block.b[:, :, 0].square().sum(1) * weights.to(block.dtype)[:, None]
        out += (b.mT @ block.a[:, 0].square()).flatten()
    else:
        for rows in chunks(block.n_examples, 2 * block.dense_bytes, workspace):
            each = weights[rows].to(block.dtype).repeat_interleave(block.rows_per_example)
            out += each @ block[rows].dense().square()


def quadratic_forms(block: Block, tables: Tensor, workspace: int) -> Tensor:
    """``Σ_k tables[j, k] c_ik²`` of every example i (one row each) and every table j.

    Parameters
    ----------
    block : Block
        Coordinates, one row an example.
    tables : Tensor of shape (n_tables, width)
        In the dtype of the products.
    workspace : int
        Bytes for intermediates.

    Returns
    -------
    Tensor of shape (n_examples, n_tables), float64
    """
    if isinstance(block, IndexBlock):
        return _index_forms(block, tables, workspace)
    if isinstance(block, OuterBlock) and block.length == 1:
        return _single_forms(block, tables, workspace)
    out = torch.empty(block.n_examples, len(tables), dtype=torch.float64, device=block.device)
    for rows in chunks(block.n_examples, 2 * block.dense_bytes, workspace):
        unit, scale = _unit(block[rows].dense())
        out[rows] = (unit.square().to(tables.dtype) @ tables.mT) * scale.square()
    return out


def _single_forms(block: OuterBlock, tables: Tensor, workspace: int) -> Tensor:
    inputs, scale_in = _unit(block.a[:, 0])
    outputs, scale_out = _unit(block.b[:, 0, 0])
    inputs, outputs = inputs.square().to(tables.dtype), outputs.square().to(tables.dtype)
    matrices = tables.unflatten(1, (block.spec.d_out, block.spec.d_in))
    if block.spec.d_out > block.spec.d_in:  # the longer side goes into the matrix product
        inputs, outputs, matrices = outputs, inputs, matrices.mT
    out = torch.empty(len(inputs), len(tables), dtype=torch.float64, device=block.device)
    each = matrices[0].numel() + len(inputs) * outputs.shape[1]
    for some in chunks(len(tables), 2 * each * tables.element_size(), workspace):
        part = matrices[some]
        moved = (inputs @ part.flatten(0, 1).mT).unflatten(1, part.shape[:2])
        out[:, some] = torch.bmm(moved, outputs[:, :, None])[:, :, 0].to(torch.float64)
    return out * (scale_in * scale_out).square()


def _index_forms(block: IndexBlock, tables: Tensor, workspace: int) -> Tensor:
    out = torch.zeros(block.n_examples, len(tables), dtype=torch.float64, device=block.device)
    matrices = tables.unflatten(1, (block.spec.d_out, block.spec.d_in))
    each = block.length * block.spec.d_in * block.b.element_size() * 4
    for rows in chunks(block.n_examples, each, workspace):
        owners, entries, sums = _entry_sums(block[rows])
        unit, scale = _unit(sums[:, 0])
        squares = unit.square().to(tables.dtype)
        for j, matrix in enumerate(matrices):
            forms = (squares * matrix[entries]).sum(1).to(torch.float64)
            out[rows, j].index_add_(0, owners, forms * scale[:, 0].square())
    return out


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with largest entry 1, whose squares do not vanish, and their scales in float64."""
    scale = rows.abs().amax(1, keepdim=True)
    return rows / torch.where(scale > 0, scale, 1.0), scale.to(torch.float64)


def _entry_sums(block: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Example, entry and gradient (rows_per_example, d) of every entry that an example uses."""
    n = block.spec.d_out
    keys = torch.arange(block.n_examples, device=block.device)[:, None] * n + block.index
    unique, places = torch.unique(keys, return_inverse=True)
    sums = block.b.new_zeros(len(unique), block.rows_per_example, block.spec.d_in)
    sums.index_add_(0, places.flatten(), block.b.transpose(1, 2).flatten(0, 1))
    return unique // n, unique % n, sums
