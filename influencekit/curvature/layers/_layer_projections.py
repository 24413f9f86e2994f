"""Projections of each layer's gradient matrix from both sides, drawn or learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.projections._random import random_rows
from influencekit.gradients.projections._sketches import project_sides

__all__ = ["LARGE_SUMS", "LayerProjections", "layer_dims"]

#: Bytes of a batch's sums from which a pass is not shared: they are added where they belong.
LARGE_SUMS = 2**23

#: Largest order of second moments for which all eigenvectors are computed; rounds of iteration
#: beyond.
_EXACT, _ROUNDS = 1024, 8


def layer_dims(spec: BlockSpec, rank: int) -> tuple[int, int]:
    """Sizes of the output and the input side of a block's projection.

    A block that is not a matrix has one side: its full size if small, else ``rank²``.
    """
    if spec.is_matrix:
        return min(rank, spec.d_out), min(rank, spec.d_in + spec.has_bias)
    return 1, min(rank**2, spec.width)


@dataclass
class LayerProjections:
    """``P_out G P_inᵀ`` of every layer's gradient matrix G, laid side by side.

    Attributes
    ----------
    specs : tuple of BlockSpec
    rank : int
    seed : int
    sides : dict of str to (Tensor, Tensor)
        ``P_outᵀ`` (d_out, k_out) and ``P_inᵀ`` (d_in, k_in) of every matrix.
    room : int
        Bytes of random signs, for other blocks, that are kept for later batches.
    """

    specs: tuple[BlockSpec, ...]
    rank: int
    seed: int
    sides: dict[str, tuple[Tensor, Tensor]]
    room: int = 0
    _kept: dict[tuple, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}}

    @property
    def columns(self) -> list[slice]:
        """Places of the blocks in a projected gradient."""
        places, start = [], 0
        for spec in self.specs:
            k_out, k_in = layer_dims(spec, self.rank)
            places.append(slice(start, start + k_out * k_in))
            start = places[-1].stop
        return places

    def places(self, joint: bool) -> list[slice]:
        """The same, or one for all."""
        return [slice(0, self.dim)] if joint else self.columns

    @property
    def dim(self) -> int:
        """Dimension of a projected gradient."""
        return self.columns[-1].stop

    def __call__(self, features: GradientFeatures) -> Tensor:
        """Projected gradients (n_rows, dim)."""
        out = torch.empty(features.n_rows, self.dim, dtype=features.dtype, device=features.device)
        for spec, columns in zip(self.specs, self.columns, strict=True):
            out[:, columns] = self._rows(features.blocks[spec.name], features.workspace)
        return out

    def _rows(self, block: Block, workspace: int) -> Tensor:
        if block.spec.is_matrix:
            return project_sides(block, *self.sides[block.spec.name], workspace)
        dim = layer_dims(block.spec, self.rank)[1]
        if dim == block.spec.width:
            return block.dense()
        like = torch.zeros(block.n_rows, dim, dtype=block.dtype, device=block.device)

        def rows(start: int, stop: int) -> Tensor:
            return self._signs(block.spec.name, start, stop, like)

        # G P / √dim
        block.add_matmul(rows, like, workspace)
        return like.mul_(dim**-0.5)

    def _signs(self, name: str, start: int, stop: int, like: Tensor) -> Tensor:
        """Rows of a block's random matrix, kept where there is room for them."""
        key = (name, start, stop, like.dtype)
        if key in self._kept:
            return self._kept[key]
        drawn = random_rows("rademacher", self.seed, name, start, stop, like.shape[1], like)
        if drawn.nbytes + sum(signs.nbytes for signs in self._kept.values()) <= self.room:
            self._kept[key] = drawn
        return drawn

    def project_factors(self, features: GradientFeatures) -> list[Block]:
        """Projected gradients as blocks, layers without a sequence still as factors.

        The blocks are at ``columns`` of a projected gradient.
        """
        return [
            self._block(features.blocks[spec.name], columns, features)
            for spec, columns in zip(self.specs, self.columns, strict=True)
        ]

    def _block(self, block: Any, columns: slice, features: GradientFeatures) -> Block:
        name, (k_out, k_in) = block.spec.name, layer_dims(block.spec, self.rank)
        if block.is_single:
            outputs, inputs = self.sides[name]
            spec = BlockSpec(name, (columns,), k_out, k_in)
            # (P_out b) (P_in (a, 1))ᵀ
            return OuterBlock(spec, block.inputs_times(inputs), block.b @ outputs)
        rows = self._rows(block, features.workspace)
        rows = rows.unflatten(0, (block.n_examples, block.rows_per_example))
        return DenseBlock(BlockSpec(name, (columns,)), rows)

    @classmethod
    def random(
        cls, specs: Sequence[BlockSpec], rank: int, seed: int, like: Tensor, room: int = 0
    ) -> LayerProjections:
        """Random orthonormal sides, scaled to keep inner products in expectation."""
        sides = {}
        for spec in specs:
            if spec.is_matrix:
                k_out, k_in = layer_dims(spec, rank)
                sides[spec.name] = (
                    _orthonormal(seed, f"{spec.name}/out", spec.d_out, k_out, like),
                    _orthonormal(seed, f"{spec.name}/in", spec.d_in + spec.has_bias, k_in, like),
                )
        return cls(tuple(specs), rank, seed, sides, room)

    @classmethod
    def principal(
        cls,
        specs: Sequence[BlockSpec],
        rank: int,
        seed: int,
        problem: CurvatureProblem,
        room: int = 0,
    ) -> LayerProjections:
        """Leading eigenvectors of the second moments of each layer's inputs and output gradients.

        These are K-FAC's factors for the empirical Fisher matrix.
        """
        moments, task = _second_moments(problem), problem.engine.task
        like = torch.empty(0, dtype=task.dtype, device=task.device)
        drawn = cls.random(specs, rank, seed, like, room)  # for layers that are never called
        for spec in specs:
            if spec.name in moments:
                pair = zip(moments[spec.name], layer_dims(spec, rank), strict=True)
                outputs, inputs = (_leading(moment, k, seed).to(like) for moment, k in pair)
                drawn.sides[spec.name] = (outputs, inputs)
        return drawn


def _orthonormal(seed: int, name: str, size: int, dim: int, like: Tensor) -> Tensor:
    drawn = random_rows("gaussian", seed, name, 0, size, dim, like.to(torch.float64))
    # Q √(size / dim), with drawn = Q R
    q, r = torch.linalg.qr(drawn)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)  # the same sign on every machine
    return (q * (size / dim) ** 0.5).to(like)


def _leading(moment: Tensor, k: int, seed: int) -> Tensor:
    """Leading k eigenvectors of a second moment (d, d), or of a diagonal one (d,).

    For a large matrix they come from a subspace iteration, which separates them well enough.
    """
    if moment.ndim == 1:
        top = torch.argsort(moment, descending=True, stable=True)[:k]
        vectors = moment.new_zeros(len(moment), k)
        vectors[top, torch.arange(k, device=top.device)] = 1.0
        return vectors
    if len(moment) <= _EXACT or 4 * k > len(moment):
        # the last k columns of V, where moment = V diag(m) Vᵀ
        return torch.linalg.eigh(moment).eigenvectors[:, -k:].flip(1)
    vectors = random_rows("gaussian", seed, "subspace", 0, len(moment), k + 8, moment)
    for _ in range(_ROUNDS):
        # moment X = Q R, and X becomes Q
        vectors = torch.linalg.qr(moment @ vectors).Q
    # Xᵀ moment X = W diag(m) Wᵀ, and X W are eigenvectors
    small = torch.linalg.eigh(vectors.mT @ moment @ vectors).eigenvectors
    return vectors @ small[:, -k:].flip(1)


def _second_moments(problem: CurvatureProblem) -> dict[str, tuple[Tensor, Tensor]]:
    """Weighted second moments of output gradients and inputs of every matrix, float64."""
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    train = problem.train
    passed = train.along(train.cotangent, keep_factors=True)
    specs = [block.spec for block in passed.sample.blocks.values()]
    if sum(8 * (s.d_out**2 + s.d_in**2) for s in specs) > LARGE_SUMS:
        for rows, features in passed:
            own = problem.example_weights[rows]
            for name, block in features.blocks.items():
                _add(moments, name, block.second_moments(own))
        return moments
    for _, batch in passed.results(_moments_of_batch, problem.example_weights):
        for name, found in batch.items():
            _add(moments, name, found)
    return moments


def _add(
    moments: dict[str, tuple[Tensor, Tensor]], name: str, found: tuple[Tensor, Tensor] | None
) -> None:
    if found is not None and name not in moments:
        moments[name] = found
    elif found is not None:
        for held, more in zip(moments[name], found, strict=True):
            held += more


def _moments_of_batch(
    features: GradientFeatures, weights: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    found = {name: block.second_moments(weights) for name, block in features.blocks.items()}
    return {name: pair for name, pair in found.items() if pair is not None}
