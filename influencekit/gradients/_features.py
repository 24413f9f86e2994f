"""Gradients of a set of examples, block by block, and the operations on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from influencekit.gradients.blocks._base import WORKSPACE, Block, RowProvider, row_slice
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._joined import JoinedBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.blocks._sparse import SparseBlock
from influencekit.utils._long_work import chunks

__all__ = ["GradientFeatures", "cat_blocks"]

_TILE = 1024  # rows per tile of dot products, so that casts and products stay in cache
_CASTS = 4  # workspaces that a tile in a finer dtype may take
_PAIRS = 2**18  # of rows, whose products are few enough for one tile where nothing is cast
_COVARIANCE_BYTES = 2**25  # of dense rows whose outer products are added at a time
_PANEL = 256  # columns of a symmetric product that are computed at a time


class GradientFeatures:
    """Gradients of ``n_examples`` examples with ``rows_per_example`` rows each.

    Row ``i * rows_per_example + r`` is gradient r of example i.  Columns of dense results
    follow ``task.parameters``.

    Parameters
    ----------
    blocks : dict of str to Block
        One block for each layer (weight and bias together), and "rest" for parameters without
        factors.
    n_examples, rows_per_example, n_parameters : int
    workspace : int
        Bytes that one operation may use for intermediates.
    """

    def __init__(
        self,
        blocks: dict[str, Block],
        n_examples: int,
        rows_per_example: int,
        n_parameters: int,
        workspace: int = WORKSPACE,
    ):
        self.blocks = blocks
        self.n_examples = n_examples
        self.rows_per_example = rows_per_example
        self.n_parameters = n_parameters
        self.workspace = workspace

    def __len__(self) -> int:
        return self.n_examples

    def __repr__(self) -> str:
        return (
            f"GradientFeatures(n_examples={self.n_examples}, "
            f"rows_per_example={self.rows_per_example}, n_parameters={self.n_parameters}, "
            f"blocks={list(self.blocks)})"
        )

    @property
    def n_rows(self) -> int:
        """Number of gradients, ``n_examples * rows_per_example``."""
        return self.n_examples * self.rows_per_example

    @property
    def nbytes(self) -> int:
        """Bytes held by all blocks."""
        return sum(block.nbytes for block in self.blocks.values())

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the gradients."""
        return next(iter(self.blocks.values())).dtype

    @property
    def device(self) -> torch.device:
        """Device of the gradients."""
        return next(iter(self.blocks.values())).device

    def with_blocks(self, blocks: dict[str, Block]) -> GradientFeatures:
        """The same examples with other blocks."""
        return self.like(blocks, self.n_examples)

    def like(self, blocks: dict[str, Block], n_examples: int) -> GradientFeatures:
        """Features of other examples, of the same kind."""
        return GradientFeatures(
            blocks, n_examples, self.rows_per_example, self.n_parameters, self.workspace
        )

    def __getitem__(self, examples: Any) -> GradientFeatures:
        """Features of some examples: a slice, a bool mask or an index tensor."""
        if not isinstance(examples, slice):
            examples = torch.as_tensor(examples, device=self.device)
        blocks = {name: block[examples] for name, block in self.blocks.items()}
        return self.like(blocks, next(iter(blocks.values())).n_examples)

    def rows(self, rows: slice) -> GradientFeatures:
        """Some gradients of every example."""
        blocks = {name: block.rows_of(rows) for name, block in self.blocks.items()}
        r = len(range(self.rows_per_example)[rows])
        return GradientFeatures(blocks, self.n_examples, r, self.n_parameters, self.workspace)

    def compact(self) -> GradientFeatures:
        """The same features, contiguous in memory (views of others may not be)."""
        blocks = {name: block.compact() for name, block in self.blocks.items()}
        return self.like(blocks, self.n_examples)

    def to(self, dtype: torch.dtype | None) -> GradientFeatures:
        """The same features in another floating dtype."""
        return self.like({k: block.to(dtype) for k, block in self.blocks.items()}, self.n_examples)

    def zeros(self, n_columns: int, dtype: torch.dtype | None) -> Tensor:
        """Zeros (n_rows, n_columns) on the gradients' device."""
        return torch.zeros(self.n_rows, n_columns, dtype=dtype or self.dtype, device=self.device)

    def _tiles(self, size: int = _TILE) -> Iterator[slice]:
        return chunks(self.n_examples, self.rows_per_example, size)

    # -- operations -----------------------------------------------------------------------

    def dot(
        self,
        other: GradientFeatures,
        dtype: torch.dtype | None = None,
        *,
        route: str = "auto",
    ) -> Tensor:
        """Dot products of all pairs of gradients.

        Parameters
        ----------
        other : GradientFeatures
            Gradients of the same task.
        dtype : torch.dtype, optional
            dtype of products and sums; None uses that of the gradients.
        route : {"auto", "factors", "dense"}
            How blocks with factors are multiplied; "auto" counts operations.

        Returns
        -------
        Tensor of shape (n_rows, other.n_rows)
        """
        out = self.zeros(other.n_rows, dtype)
        self.add_dot(other, out, out.dtype, route)
        return out

    def add_dot(
        self, other: GradientFeatures, out: Tensor, products: torch.dtype, route: str = "auto"
    ) -> None:
        """Add dot products of all pairs to ``out``; they are taken in the dtype ``products``.

        Dense blocks are not cut on the other side, so that each row of these is made once.
        """
        dense = [k for k, block in other.blocks.items() if block.is_dense]
        for name in dense:
            right = other.blocks[name].to(products)
            for rows in self._tiles():
                left = self.blocks[name][rows].to(products)
                own = out[row_slice(rows, self.rows_per_example)]
                left.add_dot(right, own, self.workspace, route)
        rest = other.with_blocks({k: b for k, b in other.blocks.items() if k not in dense})
        size = _TILE if self.dtype != products else max(_TILE, _PAIRS // max(1, other.n_rows))
        for columns in _cast_tiles(rest, products):
            some = rest[columns].to(products) if rest.blocks else rest
            for rows in self._tiles(size) if rest.blocks else ():
                self._dot_tile(rows, columns, some, out, products, route)

    def mixed(self, dense: Collection[str], dtype: torch.dtype) -> GradientFeatures:
        """The same gradients in a dtype, those of some blocks as dense rows."""
        blocks = {
            name: _made_dense(block.to(dtype)) if name in dense else block.to(dtype)
            for name, block in self.blocks.items()
        }
        return self.with_blocks(blocks)

    def gram(self, dtype: torch.dtype | None = None) -> Tensor:
        """Dot products of all pairs of these gradients, (n_rows, n_rows), each taken once."""
        out = self.zeros(self.n_rows, dtype)
        for columns in _cast_tiles(self, dtype):
            right = self[columns].to(dtype)
            own = row_slice(columns, self.rows_per_example)
            for rows in _cast_tiles(self, dtype):
                if rows.start > columns.start:
                    break
                tile = self._dot_tile(rows, columns, right, out, dtype, "auto")
                if rows.start < columns.start:
                    out[own, row_slice(rows, self.rows_per_example)] = tile.T
        return out

    def _dot_tile(
        self,
        rows: slice,
        columns: slice,
        right: GradientFeatures,
        out: Tensor,
        dtype: torch.dtype | None,
        route: str,
    ) -> Tensor:
        tile = out[
            row_slice(rows, self.rows_per_example), row_slice(columns, right.rows_per_example)
        ]
        for name, block in right.blocks.items():
            self.blocks[name][rows].to(dtype).add_dot(block, tile, self.workspace, route)
        return tile

    def materialize(self, dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
        """Dense gradients (n_rows, n_parameters), written to ``out`` if given."""
        if out is None:
            whole = sum(block.spec.width for block in self.blocks.values()) == self.n_parameters
            like = torch.empty(0, dtype=dtype or self.dtype, device=self.device)
            out = (like.new_empty if whole else like.new_zeros)(self.n_rows, self.n_parameters)
        for block in self.blocks.values():
            for part in chunks(self.n_examples, block.dense_bytes, self.workspace):
                rows = out[row_slice(part, self.rows_per_example)]
                block.spec.scatter(block[part].dense(), rows)
        return out

    def matmul(self, matrix: Tensor) -> Tensor:
        """Product of all gradients with ``matrix`` (n_parameters, k): (n_rows, k).

        The result has the dtype of ``matrix``.
        """
        if matrix.ndim != 2 or len(matrix) != self.n_parameters:
            raise ValueError(
                f"matrix: got shape {tuple(matrix.shape)}; expected ({self.n_parameters}, k), "
                "one row for each trainable scalar of the model."
            )
        return self.matmul_rows(
            lambda start, stop: matrix[start:stop], matrix.shape[1], matrix.dtype
        )

    def matmul_rows(self, rows: RowProvider, k: int, dtype: torch.dtype) -> Tensor:
        """Product with a matrix given by ``rows(start, stop)``."""
        out = self.zeros(k, dtype)
        for block in self.blocks.values():
            provider = block.spec.provider(rows)
            cast = block.dtype != dtype
            for part in self._tiles() if cast else [slice(0, self.n_examples)]:
                target = out[row_slice(part, self.rows_per_example)]
                block[part].to(dtype).add_matmul(provider, target, self.workspace)
        return out

    def weighted_sums(self, weights: Tensor) -> Tensor:
        """Weighted sums of the gradients, one for each group.

        Parameters
        ----------
        weights : Tensor of shape (g, n_rows)
            Weight of every gradient in every group.

        Returns
        -------
        Tensor of shape (g, n_parameters)
            Sums in the dtype of ``weights``.
        """
        if weights.ndim != 2 or weights.shape[1] != self.n_rows:
            raise ValueError(
                f"weights: got shape {tuple(weights.shape)}; expected (n_groups, {self.n_rows}), "
                "one column for each gradient."
            )
        by_example = weights.unflatten(1, (self.n_examples, self.rows_per_example))
        used = (by_example != 0).any(2)
        out = weights.new_zeros(len(weights), self.n_parameters)
        if len(weights) > 1 and int(used.sum()) < used.numel() // 4:
            for group, row in enumerate(used):
                rows = row.nonzero()[:, 0]
                self[rows].add_sums(by_example[group : group + 1, rows], out[group : group + 1])
        else:
            self.add_sums(by_example, out)
        return out

    def add_sums(self, weights: Tensor, out: Tensor) -> None:
        """Write weighted sums to ``out`` (n_groups, p); ``weights`` (n_groups, n_examples, r)."""
        for block in self.blocks.values():
            parts = (
                block[part].to(out.dtype).weighted_sums(weights[:, part], self.workspace)
                for part in self._tiles()
            )
            if self.n_examples:
                block.spec.scatter(reduce(torch.add, parts), out)

    def project(self, projection: Callable[[GradientFeatures], Tensor]) -> Tensor:
        """Projected gradients (n_rows, projection.dim)."""
        return projection(self)

    def squared_norms(self, dtype: torch.dtype | None = None) -> Tensor:
        """Squared Euclidean norm of every gradient, (n_rows,)."""
        parts = []
        for part in self._tiles():
            features = self[part].to(dtype)
            norms = (block.squared_norms(self.workspace) for block in features.blocks.values())
            parts.append(reduce(torch.add, norms))
        return torch.cat(parts)

    def add_covariance(self, weights: Tensor | None, out: Tensor) -> None:
        """Add ``Σ_rows w g gᵀ`` to ``out`` (p, p), in its dtype.

        Only blocks on and above the diagonal (in the order of the blocks) are filled;
        ``symmetrize`` completes the matrix.

        Parameters
        ----------
        weights : Tensor of shape (n_rows,) or None
        out : Tensor of shape (p, p)
        """
        r = self.rows_per_example
        if any(isinstance(block, SparseBlock) for block in self.blocks.values()):
            self.to(out.dtype).add_by_blocks(weights, out)
            return
        each = 2 * r * self.n_parameters * out.element_size()
        for part in chunks(self.n_examples, each, min(self.workspace, _COVARIANCE_BYTES)):
            own = None if weights is None else weights[row_slice(part, r)].to(out.dtype)
            if r > 1:
                self[part].to(out.dtype).add_by_blocks(own, out)
            else:
                dense = self[part].materialize(out.dtype)
                left = dense.T if own is None else dense.T * own
                _add_symmetric(left, dense, out)

    def add_by_blocks(self, weights: Tensor | None, out: Tensor) -> None:
        """Add ``Σ_rows w g gᵀ`` to ``out`` (p, p), pair of blocks by pair of blocks."""
        blocks = list(self.blocks.values())
        dense: dict[int, Tensor] = {}
        for i, left in enumerate(blocks):
            for j, right in enumerate(blocks[i:], i):
                if (
                    isinstance(left, OuterBlock)
                    and isinstance(right, OuterBlock)
                    and (left.is_single and right.is_single)
                ):
                    left.add_outer_products(right, weights, out)
                    continue
                for k in {i, j} - dense.keys():
                    dense[k] = blocks[k].dense()
                scaled = dense[i].T if weights is None else dense[i].T * weights
                # Σ_rows w g hᵀ of the gradients g and h of two blocks
                left.spec.add_products(right.spec, scaled @ dense[j], out)

    @staticmethod
    def cat(features: Sequence[GradientFeatures]) -> GradientFeatures:
        """Features of all examples of several parts, in order."""
        features = list(features)
        if not features:
            raise ValueError("features: got an empty list; expected at least one part.")
        first = features[0]
        if any(f.rows_per_example != first.rows_per_example for f in features):
            counts = sorted({f.rows_per_example for f in features})
            raise ValueError(f"features: parts have different rows_per_example {counts}.")
        if len(features) == 1:
            return first
        blocks = {name: cat_blocks([f.blocks[name] for f in features]) for name in first.blocks}
        return first.like(blocks, sum(f.n_examples for f in features))


def _cast_tiles(features: GradientFeatures, dtype: torch.dtype | None) -> Iterator[slice]:
    """Tiles of examples whose copies in a dtype take a few workspaces at most."""
    size = _TILE
    if features.nbytes and dtype not in (None, features.dtype):
        each = features.nbytes * dtype.itemsize // (features.n_rows * features.dtype.itemsize)
        size = min(_TILE, _CASTS * features.workspace // max(1, each))
    return chunks(features.n_examples, features.rows_per_example, size)


def _add_symmetric(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Add the product ``left @ right``, which is symmetric, to ``out`` (p, p)."""
    for columns in chunks(len(out), 1, max(_PANEL, len(out) // 8)):
        # Σ_rows w g gᵀ on and above the diagonal, and its transpose below
        panel = left[: columns.stop] @ right[:, columns]
        out[: columns.stop, columns] += panel
        out[columns, : columns.start] += panel[: columns.start].mT


def _made_dense(block: Block) -> Block:
    return block.with_dense_parts() if isinstance(block, JoinedBlock) else DenseBlock.of(block)


def cat_blocks(blocks: list[Block]) -> Block:
    """One block of the examples of several, in order; of any kinds and lengths."""
    first = blocks[0]
    joined = [block for block in blocks if isinstance(block, JoinedBlock)]
    if joined and len({block.starts for block in joined}) == 1 and len(joined) == len(blocks):
        columns = zip(*(block.parts for block in joined), strict=True)
        return joined[0].with_parts([cat_blocks(list(parts)) for parts in columns])
    if any(type(block) is not type(first) for block in blocks):
        blocks = [DenseBlock.of(block) for block in blocks]
    length = max(block.length for block in blocks)
    padded = (block.padded(length).tensors for block in blocks)
    return blocks[0].replace(*(torch.cat(tensors) for tensors in zip(*padded, strict=True)))
