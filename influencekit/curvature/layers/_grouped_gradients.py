"""Inner products of training gradients, group by group of parameters, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature.layers._parts import Part, parameter_groups
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients

__all__ = ["PartProducts"]

#: Number of examples in a tile of inner products.
_TILE = 1024


class PartProducts:
    """Training gradients in groups of parameters, and products with them.

    Gradients stay factored. They are kept in up to a quarter of the memory; the rest is computed
    again for each call, with a temporary folder as buffer.

    Parameters
    ----------
    problem : CurvatureProblem
    grouping : {"layers", "tensors", "all"}

    Attributes
    ----------
    groups : list of list of Part
    norms : list of Tensor of shape (n_parts, n_train), float64
        Squared norms of the training gradients in every part of a group.
    """

    def __init__(self, problem: CurvatureProblem, grouping: str):
        self.problem = problem
        self.groups = parameter_groups(problem, grouping)
        self._train = problem.train.held(problem.held_memory // 4)
        self._grams: dict[int, list] = {}
        self._dots: tuple | None = None
        self.norms = self._first_pass()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_train": self.problem.train, "_grams": {}, "_dots": None}

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return len(self.problem.examples)

    def _first_pass(self) -> list[Tensor]:
        parts: list[list[Tensor]] = [[] for _ in self.groups]
        for _, features in self._train:
            for found, group in zip(parts, self.groups, strict=True):
                found.append(torch.stack([_squared_norms(features, part) for part in group]))
        return [torch.cat(found, dim=1) for found in parts]

    def train(self) -> Gradients:
        """The training gradients, for many passes over them."""
        return self._train.held(self.problem.held_memory // 4, spill=True)

    # -- products with queries ----------------------------------------------------------------

    def query_chunk(self, queries: Gradients) -> int:
        """Number of queries at once, so that their products and gradients fit into memory."""
        engine = self.problem.engine
        item = torch.finfo(engine.task.dtype).bits // 8
        n_parts = max(len(group) for group in self.groups)
        each = (3 + n_parts) * self.n_train * item + queries.sample.nbytes
        return int(max(1, min(len(queries), self.problem.held_memory // 3 // each)))

    def query_dots(self, queries: Gradients, train: Gradients) -> Iterator[Tensor]:
        """For every group, ``<v, g_j>`` in each of its parts, (n_parts, n_query, n_train).

        Products of the last queries are kept if they take at most an eighth of the memory.
        """
        kept = self._dots
        if kept is not None and kept[0].is_same(queries):
            yield from kept[1]
            return
        keeps = self._keeps_dots(len(queries))
        found, held = [], queries.kept(features for _, features in queries)
        for group in self.groups:
            dots = self._group_dots(group, held, train)
            if keeps:
                found.append(dots)
            yield dots
        if keeps:
            self._dots = (queries, found)

    def _keeps_dots(self, n_queries: int) -> bool:
        item = torch.finfo(self.problem.engine.task.dtype).bits // 8
        numbers = sum(len(group) for group in self.groups) * n_queries * self.n_train
        return numbers * item <= self.problem.held_memory // 8

    def _group_dots(self, group: list[Part], queries: Gradients, train: Gradients) -> Tensor:
        first = queries.sample
        shape = (len(group), queries.n_rows, self.n_train)
        out = torch.zeros(shape, dtype=first.dtype, device=first.device)
        for columns, right in _tiles(train):
            for rows, left in _tiles(queries):
                for part, target in zip(group, out, strict=True):
                    self._add_dots(part, left, right, target[rows, columns])
        return out

    def _add_dots(
        self, part: Part, left: GradientFeatures, right: GradientFeatures, out: Tensor
    ) -> None:
        pairs = zip(part.blocks(left), part.blocks(right), strict=True)
        for a, b in pairs:
            a.add_dot(b, out, left.workspace)

    # -- products of training gradients with each other ---------------------------------------

    def gram(self, position: int, train: Gradients) -> Iterator[tuple[slice, slice, Tensor]]:
        """Tiles on and above the diagonal of a group's Gram matrices.

        Parameters
        ----------
        position : int
            Position of the group.
        train : Gradients

        Yields
        ------
        rows, columns : slice
        tile : Tensor of shape (n_parts, n_rows, n_columns)
        """
        if position in self._grams:
            yield from self._grams[position]
            return
        keeps, found = self._keeps_grams(), []
        for tile in self._gram_tiles(self.groups[position], train):
            if keeps:
                found.append(tile)
            yield tile
        if keeps:
            self._grams[position] = found

    def _keeps_grams(self) -> bool:
        item = torch.finfo(self.problem.engine.task.dtype).bits // 8
        numbers = sum(len(group) for group in self.groups) * self.n_train * (self.n_train + _TILE)
        return numbers // 2 * item <= self.problem.held_memory // 4

    def _gram_tiles(
        self, group: list[Part], train: Gradients
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        for rows, left in _tiles(train):
            for columns, right in _tiles(train, rows.start):
                tile = torch.zeros(
                    len(group), left.n_rows, right.n_rows, dtype=left.dtype, device=left.device
                )
                for part, target in zip(group, tile, strict=True):
                    self._add_dots(part, left, right, target)
                yield rows, columns, tile

    def gram_is_cheaper(self, position: int, n_queries: int, train: Gradients) -> bool:
        """Whether products through the Gram matrix take fewer operations than sums of gradients."""
        blocks = [b for part in self.groups[position] for b in part.blocks(train.sample)]
        n, parts = self.n_train, len(self.groups[position])
        gram = n * (sum(block.pair_flops for block in blocks) + parts) / 2 + n_queries * n
        return gram <= n_queries * sum(block.sum_flops for block in blocks)

    # -- sums of training gradients -----------------------------------------------------------

    def add_products_of_sums(
        self, position: int, weights: Tensor, scales: Tensor, train: Gradients, out: Tensor
    ) -> None:
        """Add ``Σ_parts scale_p <Σ_i w_qi g_i, g_j>_p`` to ``out`` (n_query, n_train).

        Parameters
        ----------
        position : int
            Position of the group.
        weights : Tensor of shape (n_query, n_train)
        scales : Tensor of shape (n_parts,)
        train : Gradients
        out : Tensor of shape (n_query, n_train)
        """
        for part, scale in zip(self.groups[position], scales.tolist(), strict=True):
            sums: list[Tensor] = []
            for rows, features in _tiles(train):
                found = [
                    block.weighted_sums(weights[:, rows, None], features.workspace)
                    for block in part.blocks(features)
                ]
                # Σ_i w_qi g_i, (n_query, width)
                sums = found if not sums else [a.add_(b) for a, b in zip(sums, found, strict=True)]
            # scale_p (Σ_i w_qi g_i)ᵀ, (width, n_query)
            matrices = [(scale * total).mT.contiguous() for total in sums]
            for columns, features in _tiles(train):
                moved = out.new_zeros(features.n_rows, len(out))
                for block, matrix in zip(part.blocks(features), matrices, strict=True):
                    # scale_p <g_j, Σ_i w_qi g_i>, (n_train, n_query)
                    block.add_matmul(_rows_of(matrix), moved, features.workspace)
                out[:, columns] += moved.mT


def _squared_norms(features: GradientFeatures, part: Part) -> Tensor:
    norms = [block.squared_norms(features.workspace) for block in part.blocks(features)]
    return torch.stack(norms).to(torch.float64).sum(0)


def _rows_of(matrix: Tensor) -> Callable[[int, int], Tensor]:
    return lambda start, stop: matrix[start:stop]


def _tiles(gradients: Gradients, start: int = 0) -> Iterator[tuple[slice, GradientFeatures]]:
    """Tiles of gradients from tile ``start`` on, with their rows."""
    for rows, features in gradients:
        for low in range(0, len(features), _TILE):
            own = slice(low, min(len(features), low + _TILE))
            if rows.start + low >= start:
                yield slice(rows.start + low, rows.start + own.stop), features[own]
