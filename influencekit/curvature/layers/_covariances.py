"""Curvature matrices of projected gradients, summed batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from influencekit.curvature.layers._layer_projections import LayerProjections
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block, BlockSpec, symmetrize

__all__ = ["Covariances"]


class Covariances:
    """Curvature matrices of the projected gradients, one for each layer or one for all, float64."""

    def __init__(self, projections: LayerProjections, joint: bool, like: Tensor):
        self.projections = projections
        self.joint = joint
        self.columns = projections.places(joint)
        self.matrices = [
            torch.zeros(c.stop - c.start, c.stop - c.start, dtype=torch.float64, device=like.device)
            for c in self.columns
        ]
        self.specs: tuple[BlockSpec, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(matrix.nbytes for matrix in self.matrices)

    def empty(self) -> Covariances:
        """The same of no rows."""
        other = copy.copy(self)
        other.matrices = [torch.zeros_like(matrix) for matrix in self.matrices]
        return other

    def merge(self, other: Covariances) -> None:
        """Add the sums over other rows."""
        self.specs = other.specs
        for matrix, more in zip(self.matrices, other.matrices, strict=True):
            matrix += more

    def add(self, features: GradientFeatures, weights: Tensor) -> None:
        """Add the outer products of some examples' gradients, with a weight for each example."""
        blocks = self.projections.project_factors(features)
        weights = weights.repeat_interleave(features.rows_per_example)
        if self.joint:
            self.specs = tuple(block.spec for block in blocks)
            self._add(blocks, features, weights, self.matrices[0])
            return
        for block, matrix in zip(blocks, self.matrices, strict=True):
            self._add([_at_origin(block)], features, weights, matrix)

    def _add(
        self, blocks: list[Block], features: GradientFeatures, weights: Tensor, out: Tensor
    ) -> None:
        held = {block.spec.name: block for block in blocks}
        n, r = features.n_examples, features.rows_per_example
        small = GradientFeatures(held, n, r, len(out), features.workspace)
        small.add_covariance(weights, out)

    def finish(self) -> Iterator[tuple[slice, Tensor]]:
        """Columns and complete matrices, given away one by one."""
        if self.specs:
            symmetrize(self.specs, self.matrices[0])
        yield from ((columns, self.matrices.pop(0)) for columns in self.columns)


def _at_origin(block: Block) -> Block:
    """The block as the only one of its features."""
    spec = block.spec
    own = (slice(0, spec.columns[0].stop - spec.columns[0].start),)
    return block.with_spec(BlockSpec(spec.name, own, spec.d_out, spec.d_in))
