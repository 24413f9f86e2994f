"""Dot products of all pairs of gradients of two sets, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._store import PIECE_BYTES, of_length
from influencekit.gradients._workers import in_slices, rows_of_slice
from influencekit.gradients.blocks._base import Block, row_slice
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._joined import DenseRows, JoinedBlock
from influencekit.gradients.blocks._outer import OuterBlock

__all__ = ["all_dots", "all_self_dots"]

#: Most bytes of the smaller side that are multiplied at a time.
_SHARE = 2**29
#: Rows that are multiplied faster when those of a column lie together in memory.
_MANY = 16
#: Bytes of a piece that may be sent to workers with each slice.
_SENT = 2**27


def all_dots(a: Any, b: Any, out: Tensor, memory: int, products: torch.dtype) -> None:
    """Fill ``out`` (a.n_rows, b.n_rows) for gradients a and b.

    The smaller side is held, dense where that is cheaper, and the larger is streamed past it, so
    that each row is made dense once. If the smaller side does not fit, it is taken in pieces; the
    larger is then held, spilled to a temporary folder, or, if it is too large, computed again.
    """
    dense = _dense_layers(a, b)
    sizes = [_held_bytes(side, dense, products) for side in (a, b)]
    if sizes[0] < sizes[1]:
        small, large, out = a, b, out.mT
    else:
        small, large = b, a
    share = min(_SHARE, memory // 2)
    if min(sizes) > share:
        large, share = large.held(memory // 4, spill=True), min(_SHARE, memory // 4)
    start = 0
    for piece in _pieces(small, dense, products, share):
        columns = slice(start, start + piece.n_rows)
        for rows, found in _products(large, piece, out[:, columns], products):
            if found is not None:
                out[rows, columns] = found
        start = columns.stop


def _products(
    large: Any, piece: GradientFeatures, out: Tensor, products: torch.dtype
) -> Iterator[tuple[slice, Tensor | None]]:
    """Rows and their products with a piece; None where they are in ``out`` already."""
    if piece.nbytes <= _SENT and large.is_shared:
        turned = out.stride(0) < out.stride(1)
        settings: dict[str, Any] = {
            "piece": piece,
            "dtype": out.dtype,
            "products": products,
            "turned": turned,
        }
        whole = _multiplied_rows(large) > large.batch_size
        for rows, found in in_slices(large, partial(_dots, **settings), whole=whole):
            yield row_slice(rows, large.rows_per_example), found
        return
    start = 0
    for features in of_length((f for _, f in large), _multiplied_rows(large)):  # as workers do
        rows = slice(start, start + features.n_rows)
        features.add_dot(piece, out[rows].zero_(), products)
        yield rows, None
        start = rows.stop


def _multiplied_rows(large: Any) -> int:
    """Rows that are multiplied at a time: those of a slice, or of a batch where it is large."""
    batch = large.batch_size
    return batch if batch * large.sample.nbytes >= PIECE_BYTES else rows_of_slice(large)


def _dots(
    features: GradientFeatures,
    piece: GradientFeatures,
    dtype: torch.dtype,
    products: torch.dtype,
    turned: bool,
) -> Tensor:
    """Products as a worker makes them, in memory as they lie in the whole."""
    shape = (features.n_rows, piece.n_rows)
    like = torch.empty(0, dtype=dtype, device=features.device)
    out = like.new_zeros(shape[::-1]).mT if turned else like.new_zeros(shape)
    features.add_dot(piece, out, products)
    return out


def _dense_layers(a: Any, b: Any) -> set[str]:
    """Names of the layers whose dense rows are cheaper than factors for all pairs."""
    return {
        name
        for name, block in a.sample.blocks.items()
        if _dense_is_cheaper(block, b.sample.blocks[name], len(a), len(b))
    }


def _dense_is_cheaper(left: Block, right: Block, n: int, m: int) -> bool:
    if isinstance(left, JoinedBlock) and isinstance(right, JoinedBlock):
        return True  # each part is then multiplied by itself
    if isinstance(left, IndexBlock) and isinstance(right, IndexBlock):
        return left.rows_are_cheaper(right, n, m)
    if not (isinstance(left, OuterBlock) and isinstance(right, OuterBlock)):
        return False
    return not left.factors_are_cheaper(right, n, m)


def _held_bytes(gradients: Any, dense: set[str], dtype: torch.dtype) -> int:
    """Bytes of all gradients in a dtype, those of some layers dense."""
    sample = gradients.sample
    each = sum(b.dense_bytes if k in dense else b.nbytes for k, b in sample.blocks.items())
    return len(gradients) * each * dtype.itemsize // sample.dtype.itemsize


def all_self_dots(a: Any, out: Tensor, memory: int) -> Tensor:
    """Fill ``out`` (a.n_rows, a.n_rows), computing each pair of batches once."""
    held = a.held(memory // 2, spill=True)  # beside copies in the dtype of the products
    if held.parts is None:
        all_dots(a, a, out, memory, out.dtype)
        return out
    starts, parts = [0], held.parts
    for part in parts:
        starts.append(starts[-1] + part.n_rows)
    for i in range(len(parts)):
        rows, left = slice(starts[i], starts[i + 1]), parts[i]
        out[rows, rows] = left.gram(out.dtype)
        for j in range(i + 1, len(parts)):
            columns = slice(starts[j], starts[j + 1])
            out[rows, columns] = left.dot(parts[j], out.dtype)
            out[columns, rows] = out[rows, columns].T
    return out


def _pieces(
    small: Any, dense: set[str], products: torch.dtype, memory: int
) -> Iterator[GradientFeatures]:
    """Batches joined into larger pieces of at most ``memory`` bytes (or one batch)."""
    piece: _Piece | None = None
    start = 0
    for rows, features in small:
        if piece is not None and not piece.fits(features):
            yield piece.features()
            piece = None
        if piece is None:
            piece = _Piece(dense, products, memory, len(small) - start)
        piece.add(features)
        start = rows.stop
    if piece is not None:
        yield piece.features()


def _rows_last(block: Block) -> Block:
    """Dense rows whose entries of one column lie together, where products are faster with them."""
    if not isinstance(block, DenseBlock) or block.rows_per_example > 1 or len(block.rows) < _MANY:
        return block
    return block.replace(block.rows[:, 0].T.contiguous().T[:, None])


class _Piece:
    """Batches that are joined, some layers as dense rows: these are written where they stay."""

    def __init__(self, dense: set[str], products: torch.dtype, memory: int, n_left: int):
        self._dense, self._products = dense, products
        self._memory, self._n_left = memory, n_left
        self._parts: list[GradientFeatures] = []
        self._rows: dict[str, DenseRows] = {}
        self._bytes, self._names, self._indexed = 0, list[str](), set[str]()

    def fits(self, features: GradientFeatures) -> bool:
        """Whether a batch has room beside those that are there."""
        return self._bytes + self._bytes_of(features) <= self._memory

    def add(self, features: GradientFeatures) -> None:
        """Join a batch; of its dense layers only the rows are kept."""
        self._bytes += self._bytes_of(features)
        self._names = list(features.blocks)
        # of whose rows single entries are read
        self._indexed = {k for k, b in features.blocks.items() if isinstance(b, IndexBlock)}
        if not self._parts and len(features) < self._n_left:
            room = self._memory * len(features) // max(1, self._bytes)
            n = max(len(features), min(self._n_left, room))
            self._rows = {
                name: DenseRows(features.blocks[name].to(self._products), n) for name in self._dense
            }
        if self._rows:
            for name in self._dense:
                self._rows[name].add(features.blocks[name].to(self._products))
            others = {k: b for k, b in features.blocks.items() if k not in self._dense}
            features = features.with_blocks(others)
        self._parts.append(features.mixed(self._dense - set(self._rows), self._products))

    def features(self) -> GradientFeatures:
        """All that was joined."""
        joined = GradientFeatures.cat(self._parts)
        rows = {name: own.block() for name, own in self._rows.items()}
        blocks = rows | joined.blocks
        turned = {
            name: blocks[name] if name in self._indexed else _rows_last(blocks[name])
            for name in self._names
        }
        return joined.with_blocks(turned)

    def _bytes_of(self, features: GradientFeatures) -> int:
        n, blocks = len(features), features.blocks.items()
        total = sum(n * b.dense_bytes if k in self._dense else b.nbytes for k, b in blocks)
        return total * self._products.itemsize // features.dtype.itemsize
