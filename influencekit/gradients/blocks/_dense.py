"""A block of gradients stored as dense rows."""

from __future__ import annotations

from torch import Tensor

from influencekit.gradients.blocks._base import WORKSPACE, Block, BlockSpec, RowProvider
from influencekit.utils._long_work import chunks

__all__ = ["DenseBlock"]


class DenseBlock(Block):
    """Gradients without factors: normalization layers, fallbacks, small layers of sequences.

    Parameters
    ----------
    spec : BlockSpec
    rows : Tensor of shape (n_examples, rows_per_example, width)
    """

    def __init__(self, spec: BlockSpec, rows: Tensor):
        self.spec = spec
        self.rows = rows
        self.n_examples, self.rows_per_example = rows.shape[:2]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.rows,)

    @property
    def is_dense(self) -> bool:
        return True

    @classmethod
    def of(cls, block: Block) -> DenseBlock:
        """Any block, dense."""
        return cls(block.spec, block.dense().unflatten(0, (block.n_examples, -1)))

    def dense(self) -> Tensor:
        return self.rows.flatten(0, 1)

    def squared_norms(self, workspace: int = WORKSPACE) -> Tensor:  # noqa: ARG002  other blocks take it by name
        return self.rows.square().sum(-1).flatten()

    def weighted_sums(self, weights: Tensor, workspace: int = WORKSPACE) -> Tensor:  # noqa: ARG002  other blocks take it by name
        # W G, (g, width)
        return weights.flatten(1) @ self.dense()

    def add_matmul(self, rows: RowProvider, out: Tensor, workspace: int = WORKSPACE) -> None:
        dense = self.dense()
        for columns in chunks(self.spec.width, out.shape[1] * out.element_size(), workspace):
            # G M, some columns of G at a time
            out.addmm_(dense[:, columns], rows(columns.start, columns.stop))
