"""Gradients as coordinates in the bases of all blocks, and which of them are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from influencekit.curvature.kronecker._bases import BlockBasis
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._store import pieces
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._outer import OuterBlock

__all__ = [
    "dense_room",
    "keep",
    "keeps_rows",
    "most_queries",
    "most_rows",
    "multiplied",
    "multiplied_out",
    "repeats",
    "rotate",
    "rotated",
]

#: Bytes for dense coordinates of the rows that a damping is chosen on, and the least number.
_DENSE_ROOM, _LEAST_ROWS = 2**29, 500
#: Bytes of dense coordinates of the queries that a damping is chosen on.
_QUERY_ROOM = 2**26
#: Bytes of dense rows in units of those of their factors for which they are kept.
_WORTH = 1.25


def rotate(features: GradientFeatures, bases: dict[str, BlockBasis]) -> GradientFeatures:
    """Gradients as coordinates in the bases of all blocks."""
    blocks = {name: rotated(features.blocks[name], basis) for name, basis in bases.items()}
    return features.with_blocks(blocks)


def rotated(block: Block, basis: BlockBasis) -> Block:
    """A block of gradients as coordinates, in the form in which they are kept."""
    return multiplied(basis.rotate(block)).compact()


def multiplied(block: Block) -> Block:
    """Coordinates with dense rows that are hardly larger than factors: products make them."""
    return DenseBlock.of(block) if keeps_rows(block) else block


def keeps_rows(block: Block) -> bool:
    """Whether dense rows are kept in place of factors."""
    several = isinstance(block, OuterBlock) and block.length > 1
    return several and block.dense_bytes * block.n_examples < _WORTH * block.nbytes


def most_queries(coordinates: Gradients, most: int) -> int:
    """Rows that are queries when a damping is chosen: as few as half where layers are large."""
    blocks = coordinates.sample.blocks.values()
    each = sum(block.dense_bytes for block in blocks if repeats(block))
    return max(most // 2, min(most, _QUERY_ROOM // max(1, each)))


def repeats(block: Block) -> bool:
    """Whether products with a block's rows cost much at each damping."""
    return isinstance(block, DenseBlock) or (isinstance(block, OuterBlock) and block.length > 1)


def most_rows(coordinates: Gradients) -> int | None:
    """Rows whose dense coordinates fit, to choose a damping on; None where none are needed."""
    names = _repeated(coordinates)
    if not names:
        return None
    each = sum(coordinates.sample.blocks[name].dense_bytes for name in names)
    return max(_LEAST_ROWS, dense_room(coordinates) // each)


def dense_room(coordinates: Gradients) -> int:
    """Bytes that dense coordinates may take while a damping is chosen."""
    return min(_DENSE_ROOM, coordinates.engine.held_memory // 3)


def _repeated(coordinates: Gradients) -> set[str]:
    """Names of the blocks whose rows are sums of several products."""
    return {
        name
        for name, block in coordinates.sample.blocks.items()
        if isinstance(block, OuterBlock) and block.length > 1
    }


def multiplied_out(kept: Gradients) -> Gradients:
    """Kept coordinates as dense rows where products of factors would make them again every time."""
    names = _repeated(kept)
    each = sum(kept.sample.blocks[name].dense_bytes for name in names)
    if kept.parts is None or not names or len(kept) * each > dense_room(kept):
        return kept
    return kept.kept([part.mixed(names, part.dtype) for part in kept.parts])


def keep(
    coordinates: Gradients,
    made: Iterable[tuple[slice, GradientFeatures]],
    find_sample: Callable[[], Tensor],
    memory: int,
) -> tuple[Gradients, Gradients | None]:
    """Keep coordinates while they are computed: all of them, or only those of a sample.

    ``coordinates`` are computed again in each pass; ``made`` is one pass over them, which is run to
    its end. ``find_sample()`` gives ascending positions among the examples. All may take ``memory``
    bytes, the sample half of it. Returned are all coordinates and those of the sample; the latter
    is None if all are kept or the sample does not fit.
    """
    if coordinates.nbytes <= memory:
        return coordinates.kept(pieces(features for _, features in made)), None
    sample = find_sample()
    fits = coordinates.sample.nbytes * len(sample) <= memory // 2
    parts = []
    for rows, features in made:
        inside = sample[(sample >= rows.start) & (sample < rows.stop)] - rows.start
        if fits and len(inside):
            parts.append(features[inside])
    return coordinates, coordinates.take(sample).kept(parts) if fits else None
