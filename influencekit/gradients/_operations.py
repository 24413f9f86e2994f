"""What is computed of gradients: dense rows, products, sums and covariances."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import CotangentFunction
from influencekit.gradients._dot import all_dots, all_self_dots
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._passes import Passes
from influencekit.gradients._store import disk_room, on_disk
from influencekit.gradients._workers import as_made
from influencekit.gradients.blocks._base import row_slice, symmetrize
from influencekit.utils._long_work import format_bytes

__all__ = ["Operations"]


class Operations(Passes):
    """Operations on :class:`Gradients`, each of which is one pass."""

    engine: GradientEngine
    examples: Examples
    cotangent: CotangentFunction
    sample: GradientFeatures
    _function: Callable[[GradientFeatures], GradientFeatures] | None
    _known: dict[Any, Tensor]

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @property
    def rows_per_example(self) -> int:
        """Gradients of one example."""
        return self.sample.rows_per_example

    @property
    def n_rows(self) -> int:
        """Number of gradients."""
        return len(self) * self.rows_per_example

    def features(self) -> GradientFeatures:
        """All gradients, in memory.

        Raises
        ------
        ResourceError
            If they would take more than ``max_memory``.
        """
        each = self.sample.nbytes
        self.engine.require(
            len(self) * each,
            f"gradients of {len(self):,} examples at {format_bytes(each)} each",
            "Use dot, project or a loop over the batches, which need less memory",
        )
        return GradientFeatures.cat([features for _, features in self.results(as_made)])

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Dense gradients, (n_rows, n_parameters)."""
        out = self.empty(self.engine.task.n_parameters, dtype)
        return self._filled(out, methodcaller("materialize", dtype))

    def project(self, projection: Any, dtype: torch.dtype = torch.float64) -> Tensor:
        """Projected gradients, (n_rows, projection.dim)."""
        out = self.empty(projection.dim, dtype)
        return self._filled(out, methodcaller("project", projection))

    def __matmul__(self, matrix: Tensor) -> Tensor:
        """Products with ``matrix`` (n_parameters, k): (n_rows, k), in its dtype."""
        out = self.empty(matrix.shape[1], matrix.dtype)
        return self._filled(out, methodcaller("matmul", matrix))

    def _filled(self, out: Tensor, function: Callable[[GradientFeatures], Tensor]) -> Tensor:
        for rows, found in self.results(function):
            out[row_slice(rows, self.rows_per_example)] = found
        return out

    def empty(self, n_columns: int, dtype: torch.dtype) -> Tensor:
        """An empty array with one row of numbers for every gradient; on disk if it is large."""
        needed = self.n_rows * n_columns * dtype.itemsize
        engine, on_cpu = self.engine, self.engine.task.device.type == "cpu"
        room = engine.max_memory // 2 if engine.is_bounded else engine.held_memory
        if needed > room and on_cpu and disk_room() > 2 * needed:
            return on_disk((self.n_rows, n_columns), dtype)
        instead = "Use fewer rows or columns (a projection)"
        if needed > room and on_cpu:
            instead += f", free {format_bytes(2 * needed)} in {tempfile.gettempdir()!r}"
        engine.require(needed, f"{self.n_rows:,} rows of {n_columns:,} numbers", instead)
        return torch.empty(self.n_rows, n_columns, dtype=dtype, device=engine.task.device)

    def dot(
        self,
        other: Any,
        dtype: torch.dtype = torch.float64,
        *,
        products: torch.dtype | None = None,
    ) -> Tensor:
        """Dot products of all pairs of gradients, (n_rows, other.n_rows).

        Gradients that do not fit into ``max_memory`` go to a temporary folder. If the other
        gradients are the same, each pair is computed once.

        Parameters
        ----------
        other : Gradients
            Gradients of the same model.
        dtype : torch.dtype, default=torch.float64
            dtype of the result.
        products : torch.dtype, optional
            dtype of the products of each layer, which are then summed in ``dtype``: that of the
            gradients is fast, and as precise as they are. None is ``dtype``, which makes the
            products of gradients with themselves a positive semidefinite matrix.

        Raises
        ------
        ResourceError
            If the result alone would take more than ``max_memory``.
        """
        shape, engine = (self.n_rows, other.n_rows), self.engine
        needed = shape[0] * shape[1] * torch.finfo(dtype).bits // 8
        if engine.is_bounded:
            needed += 2 * engine.workspace
        engine.require(
            needed,
            f"dot products of {shape[0]:,} x {shape[1]:,} gradients",
            "Use fewer examples at once, or project the gradients",
        )
        out = torch.empty(shape, dtype=dtype, device=engine.task.device)
        memory = engine.max_memory - needed if engine.is_bounded else 2 * engine.held_memory
        if self.is_same(other):
            return all_self_dots(self, out, memory)
        all_dots(self, other, out, memory, products or dtype)
        return out

    def is_same(self, other: Any) -> bool:
        """Whether other gradients are the same as these: same examples, same cotangent."""
        same = self.examples is other.examples and self._function is other._function  # noqa: SLF001  of its own kind
        return same and self.cotangent == other.cotangent

    def squared_norms(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Squared norm of every gradient, (n_rows,), remembered."""
        if dtype not in self._known:
            found = self.results(methodcaller("squared_norms", dtype))
            self._known[dtype] = torch.cat([norms for _, norms in found])
        return self._known[dtype]

    def mean(self) -> Tensor:
        """Sum of all gradients weighted by ``shares``, (n_parameters,) in float64, remembered."""
        if "mean" not in self._known:
            for _ in self.results(_nothing):
                pass
        return self._known["mean"]

    def sums(self, weights: Tensor) -> Tensor:
        """Sums of gradients: weights (g, n_rows) -> (g, n_parameters)."""
        out = weights.new_zeros(len(weights), self.engine.task.n_parameters)
        for _, found in self.results(GradientFeatures.weighted_sums, weights):
            out += found
        return out

    def covariance(
        self, weights: Tensor | None = None, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """``Σ_rows w g gᵀ``, (n_parameters, n_parameters), streamed.

        Parameters
        ----------
        weights : Tensor of shape (n_rows,), optional
            Weight of every gradient; None is 1.
        dtype : torch.dtype, default=torch.float64
        """
        p = self.engine.task.n_parameters
        self.engine.require(
            p * p * torch.finfo(dtype).bits // 8,
            f"a covariance of {p:,} x {p:,} numbers",
            "Project the gradients, use the Gram matrix (dot)",
        )
        out = torch.zeros(p, p, dtype=dtype, device=self.engine.task.device)
        for _, found in self.results(partial(_covariance, dtype=dtype), weights):
            out += found
        return symmetrize(self.engine.layout(self.examples).specs, out)


def _nothing(_features: GradientFeatures) -> None:
    """What a pass makes that is wanted for its notes."""


def _covariance(
    features: GradientFeatures, weights: Tensor | None = None, *, dtype: torch.dtype
) -> Tensor:
    p = features.n_parameters
    out = torch.zeros(p, p, dtype=dtype, device=features.device)
    features.add_covariance(weights, out)
    return out
