"""Gradients of a linear model whose inputs stay sparse, without rows made dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.data._sources import Batch
from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._sparse import SparseBlock, SparseInputs
from influencekit.models._task import Task

__all__ = ["SparseRows", "sparse_rows"]


@dataclass(frozen=True)
class SparseRows:
    """Outputs and gradients of a linear model on rows of a sparse matrix.

    Attributes
    ----------
    module : torch.nn.Module
        With the layer "linear", and perhaps "center" before it.
    inputs : SparseInputs
    spec : BlockSpec
        Specification of the layer's parameters.
    """

    module: Any
    inputs: SparseInputs
    spec: BlockSpec

    @property
    def bytes_each(self) -> int:
        """Bytes of an example's inputs, in the mean, and of its outputs."""
        shape, outputs = self.inputs.matrix.shape, len(self.module.linear.weight)
        return int(32 * self.inputs.matrix.nnz / max(1, shape[0])) + 64 * outputs

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions of a batch's rows in the matrix, and the model's outputs."""
        rows = batch.inputs
        index = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        index, linear = torch.as_tensor(index), self.module.linear
        # o = W (x - μ) + b
        outputs = self.inputs.products(self.inputs.rows(index), linear.weight.detach().mT)
        return index, outputs if linear.bias is None else outputs + linear.bias.detach()

    def blocks(self, index: Tensor, cotangents: Tensor) -> dict[str, Block]:
        """Gradients from cotangents (n, R, d_out) of the outputs."""
        block = SparseBlock(self.spec, index, cotangents[:, :, None], self.inputs)
        return {self.spec.name: block}


def sparse_rows(task: Task, examples: Examples) -> SparseRows | None:
    """How to keep examples sparse; None where inputs or model need dense ones.

    Parameters
    ----------
    task : Task
        One of a linear model in float64 on the CPU, with or without centered features.
    examples : Examples
    """
    module = task.module
    names = {name for name, _ in module.named_children()}
    if not task.convex or names - {"center"} != {"linear"}:
        return None
    matrix = examples.sparse_matrix
    plain = task.dtype == torch.float64 and task.device.type == "cpu" and task.link is None
    if matrix is None or not plain:
        return None
    center: Any = getattr(module, "center", None)
    if center is not None and not center.keeps_sparse:
        return None
    inputs = SparseInputs(matrix, None if center is None else center.means)
    return SparseRows(module, inputs, _spec(module.linear))


def _spec(linear: Any) -> BlockSpec:
    size, has_bias = linear.weight.numel(), linear.bias is not None
    columns = (slice(0, size), *([slice(size, size + len(linear.bias))] if has_bias else []))
    d_out, d_in = linear.weight.shape
    return BlockSpec("linear", columns, d_out, d_in, has_bias)
