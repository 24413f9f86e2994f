"""Gradients cut into groups of parameters, and groups into parts of equal penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._outer import OuterBlock

__all__ = ["GROUPINGS", "Part", "parameter_groups"]

#: Ways to cut a model's parameters into groups.
GROUPINGS = ("layers", "tensors", "all")


@dataclass(frozen=True)
class Piece:
    """Columns of a block of gradients: all of them, its weight, its bias, or some tensors.

    Attributes
    ----------
    block : str
        Name of the block.
    columns : slice
        Columns of the block's dense rows.
    whole : bool
        Whether these are all columns.
    """

    block: str
    columns: slice
    whole: bool

    def of(self, block: Block) -> Block:
        """The piece of a block."""
        if self.whole:
            return block
        if isinstance(block, OuterBlock):
            return self._of_factors(block)
        rows = block.dense().unflatten(0, (block.n_examples, block.rows_per_example))
        return DenseBlock(BlockSpec(block.spec.name, (self.columns,)), rows[..., self.columns])

    def _of_factors(self, block: OuterBlock) -> Block:
        spec = block.spec
        if self.columns.start == 0:  # pieces are whole tensors, so this is the weight
            return block.with_spec(BlockSpec(spec.name, (self.columns,), spec.d_out, spec.d_in))
        return DenseBlock(BlockSpec(spec.name, (self.columns,)), block.b.sum(2))


@dataclass
class Part:
    """Parameters of one group that have the same penalty.

    Attributes
    ----------
    penalty : float
    pieces : list of Piece
    width : int
        Number of parameters.
    """

    penalty: float
    pieces: list[Piece]
    width: int = 0

    def blocks(self, features: GradientFeatures) -> list[Block]:
        """The part's gradients."""
        return [piece.of(features.blocks[piece.block]) for piece in self.pieces]


def parameter_groups(problem: CurvatureProblem, grouping: str) -> list[list[Part]]:
    """Groups of parameters, each a list of parts.

    Parameters
    ----------
    problem : CurvatureProblem
    grouping : {"layers", "tensors", "all"}
        A group is a module's own parameters (weight and bias together), a single tensor, or all
        parameters.

    Returns
    -------
    list of list of Part
        Groups of parts. If the penalty varies within a tensor, its mean is used.
    """
    groups: dict[str, dict[float, Part]] = {}
    for spec in problem.engine.layout(problem.examples).specs:
        for group, penalty, columns in _runs(_tensors(problem, spec), grouping):
            parts = groups.setdefault(group, {})
            part = parts.setdefault(penalty, Part(penalty, []))
            width = columns.stop - columns.start
            part.pieces.append(Piece(spec.name, columns, width == spec.width))
            part.width += width
    return [list(parts.values()) for parts in groups.values()]


def _tensors(problem: CurvatureProblem, spec: BlockSpec) -> Iterator[tuple[str, float, slice]]:
    """Name, penalty and position of every tensor in a block, in order."""
    starts, start = {}, 0
    for name, tensor in problem.engine.task.parameters.items():
        starts[name] = (start, start + tensor.numel())
        start += tensor.numel()
    offset = 0
    for columns in spec.columns:
        for name, (low, high) in starts.items():
            first, last = max(low, columns.start), min(high, columns.stop)
            if first < last:
                place = slice(offset + first - columns.start, offset + last - columns.start)
                yield name, _penalty(problem.penalty[low:high]), place
        offset += columns.stop - columns.start


def _penalty(values: Tensor) -> float:
    constant = bool((values == values[0]).all())
    return float(values[0] if constant else values.mean())


def _runs(tensors: Any, grouping: str) -> Iterator[tuple[str, float, slice]]:
    """Join neighboring tensors with the same group and penalty."""
    held = None
    for name, penalty, place in tensors:
        group = {"layers": name.rpartition(".")[0], "tensors": name, "all": ""}[grouping]
        if held is not None and held[:2] == (group, penalty):
            held = (group, penalty, slice(held[2].start, place.stop))
            continue
        if held is not None:
            yield held
        held = (group, penalty, place)
    if held is not None:
        yield held
