"""The engine: gradients of a task's examples, a batch at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from influencekit.exceptions import ResourceError
from influencekit.gradients._batches import plain_kernels
from influencekit.gradients._block import WORKSPACE
from influencekit.gradients._cotangents import CotangentFunction, at_rows
from influencekit.gradients._covariance import add_covariance, mirror
from influencekit.gradients._discovery import discover
from influencekit.gradients._dot import Side, all_dots, all_self_dots
from influencekit.gradients._factored import batch_features
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._layout import Layout
from influencekit.gradients._plan import (
    OPERATIONS,
    Plan,
    block_shapes,
    matmul_rate,
    operation_cost,
)
from influencekit.models import Task
from influencekit.utils import format_bytes, parse_memory, progress

if TYPE_CHECKING:
    from influencekit.data import Examples

__all__ = ["GradientEngine"]


class GradientEngine:
    """Per-example gradients of a task, kept as factors wherever layers allow.

    Results do not depend on the batch size (to rounding).  The model's module is left
    without hooks after every call.

    Parameters
    ----------
    task : Task
    batch_size : int, optional
        Examples in one forward pass; None chooses it from the memory that they take.
    max_memory : int or str, optional
        What all of this may take: bytes, or a string such as "2GB"; None is half of the free
        memory of the task's device.
    verbose : int, default=0
        1 shows progress over batches.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise ValueError(f"batch_size: got {batch_size!r}; expected a positive int or None.")
        self.task = task
        self.batch_size = batch_size
        self.max_memory = parse_memory(max_memory, task.device)
        self.verbose = verbose
        self.workspace = max(2**16, min(WORKSPACE, self.max_memory // 8))

    # -- a batch at a time ----------------------------------------------------------------

    def batches(
        self, examples: Examples, cotangent: CotangentFunction, *, keep_factors: bool = False
    ) -> Iterator[GradientFeatures]:
        """Gradients of the examples in order, a batch at a time.

        Parameters
        ----------
        examples : Examples
        cotangent : callable
            ``(outputs, targets) -> (n, R, *output_shape)``.
        keep_factors : bool, default=False
            Keep input and output factors of every layer that has them, also where the dense
            gradient is smaller (small kernels on large images).

        Yields
        ------
        GradientFeatures
        """
        layout = self.layout(examples)
        size = self._batch_size(examples, cotangent, keep_factors)
        batches = examples.batches(size)
        total = -(-len(examples) // size)
        for batch in progress(batches, "gradients", self.verbose, total=total, leave=False):
            yield batch_features(
                self.task,
                layout,
                batch.inputs,
                batch.targets,
                at_rows(cotangent, batch.rows),
                keep_factors=keep_factors,
                workspace=self.workspace,
            )

    def layout(self, examples: Examples) -> Layout:
        """Which parameters have factors and which do not, found out on the first examples."""
        return discover(self.task, lambda: next(iter(examples.batches(2))).inputs)

    def _batch_size(self, examples, cotangent, keep_factors) -> int:
        if self.batch_size is not None:
            return self.batch_size
        each = (
            self.example_bytes(examples, cotangent, keep_factors)
            + self.layout(examples).activation_bytes * 2
        )
        return int(min(4096, max(1, min(2**26, self.max_memory // 4) // max(1, each))))

    def example_bytes(self, examples, cotangent, keep_factors=False) -> int:
        """Bytes of one example's gradients as they are kept, measured on the first example."""
        features = self._sample(examples, cotangent, keep_factors)
        return -(-features.nbytes // features.n_examples)

    def _sample(self, examples, cotangent, keep_factors=False) -> GradientFeatures:
        batch = next(iter(examples.batches(1)))
        return batch_features(
            self.task,
            self.layout(examples),
            batch.inputs,
            batch.targets,
            at_rows(cotangent, batch.rows),
            keep_factors=keep_factors,
            workspace=self.workspace,
        )

    # -- all examples ---------------------------------------------------------------------

    def features(
        self, examples: Examples, cotangent: CotangentFunction, *, keep_factors: bool = False
    ) -> GradientFeatures:
        """Gradients of all examples, in memory.

        Raises
        ------
        ResourceError
            If they would take more than ``max_memory``.
        """
        each = self.example_bytes(examples, cotangent, keep_factors)
        self._require(
            len(examples) * each,
            f"gradients of {len(examples):,} examples at {format_bytes(each)} each",
            "Use engine.dot, engine.project or engine.batches, which hold less",
        )
        return GradientFeatures.cat(
            list(self.batches(examples, cotangent, keep_factors=keep_factors))
        )

    def _require(self, needed: int, what: str, instead: str) -> None:
        if needed > self.max_memory:
            raise ResourceError(
                f"{what} need {format_bytes(needed)}, but max_memory is "
                f"{format_bytes(self.max_memory)}. {instead}, or raise max_memory."
            )

    def dot(
        self,
        examples_a: Examples,
        cotangent_a: CotangentFunction,
        examples_b: Examples,
        cotangent_b: CotangentFunction,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Dot products of all pairs of gradients, (n_a * R_a, n_b * R_b).

        Gradients that do not fit ``max_memory`` go to a temporary folder.  With the same
        examples and cotangent on both sides each pair is taken once.

        Parameters
        ----------
        examples_a : Examples
        cotangent_a : callable
            Cotangent function of the left side.
        examples_b : Examples
        cotangent_b : callable
            Cotangent function of the right side.
        dtype : torch.dtype, default=torch.float64
            In which products are taken and summed.

        Raises
        ------
        ResourceError
            If the result alone would take more than ``max_memory``.
        """
        same = examples_a is examples_b and cotangent_a == cotangent_b
        side_a = self._side(examples_a, cotangent_a)
        side_b = side_a if same else self._side(examples_b, cotangent_b)
        shape = (side_a.n_rows, side_b.n_rows)
        needed = shape[0] * shape[1] * torch.finfo(dtype).bits // 8 + 2 * self.workspace
        self._require(
            needed,
            f"dot products of {shape[0]:,} x {shape[1]:,} gradients",
            "Take fewer examples at a time, project the gradients",
        )
        out = torch.empty(shape, dtype=dtype, device=self.task.device)
        memory = self.max_memory - needed
        if same:
            return all_self_dots(side_a, out, memory)
        return all_dots(side_a, side_b, out, memory)

    def _side(self, examples: Examples, cotangent: CotangentFunction) -> Side:
        sample = self._sample(examples, cotangent)
        n = len(examples)
        return Side(
            lambda: self.batches(examples, cotangent),
            n * sample.rows_per_example,
            n * sample.nbytes // sample.n_examples,
        )

    def matrix(self, examples, cotangent, dtype: torch.dtype = torch.float64) -> Tensor:
        """Dense gradients of all examples, (n * R, n_parameters)."""
        return self._collect(
            examples, cotangent, self.task.n_parameters, dtype, lambda f: f.materialize(dtype)
        )

    def project(self, examples, cotangent, projection, dtype=torch.float64) -> Tensor:
        """Projected gradients of all examples, (n * R, projection.dim)."""
        return self._collect(
            examples, cotangent, projection.dim, dtype, lambda f: f.project(projection)
        )

    def matmul(self, examples, cotangent, matrix: Tensor) -> Tensor:
        """Products of all gradients with ``matrix`` (n_parameters, k): (n * R, k)."""
        return self._collect(
            examples, cotangent, matrix.shape[1], matrix.dtype, lambda f: f.matmul(matrix)
        )

    def squared_norms(self, examples, cotangent, dtype=torch.float64) -> Tensor:
        """Squared norm of every gradient, (n * R,)."""
        return torch.cat([f.squared_norms(dtype) for f in self.batches(examples, cotangent)])

    def _collect(self, examples, cotangent, n_columns, dtype, operation) -> Tensor:
        out, start = None, 0
        for features in self.batches(examples, cotangent):
            if out is None:
                n_rows = len(examples) * features.rows_per_example
                self._require(
                    n_rows * n_columns * torch.empty(0, dtype=dtype).element_size(),
                    f"{n_rows:,} rows of {n_columns:,} numbers",
                    "Take fewer rows or columns (a projection)",
                )
                out = torch.empty(n_rows, n_columns, dtype=dtype, device=self.task.device)
            out[start : start + features.n_rows] = operation(features)
            start += features.n_rows
        return out

    def weighted_sums(self, examples, cotangent, weights: Tensor) -> Tensor:
        """Sums of gradients for every group: weights (g, n * R) -> (g, n_parameters)."""
        out, start = weights.new_zeros(len(weights), self.task.n_parameters), 0
        for features in self.batches(examples, cotangent):
            out += features.weighted_sums(weights[:, start : start + features.n_rows])
            start += features.n_rows
        return out

    def covariance(
        self, examples, cotangent, weights: Tensor | None = None, dtype=torch.float64
    ) -> Tensor:
        """``Σ_rows w g gᵀ``, (n_parameters, n_parameters), streamed.

        Parameters
        ----------
        weights : Tensor of shape (n * R,), optional
            Weight of every row; None is 1.
        """
        p = self.task.n_parameters
        self._require(
            p * p * torch.empty(0, dtype=dtype).element_size(),
            f"a covariance of {p:,} x {p:,} numbers",
            "Project the gradients, use the Gram matrix (engine.dot)",
        )
        out, start = torch.zeros(p, p, dtype=dtype, device=self.task.device), 0
        for features in self.batches(examples, cotangent):
            own = None if weights is None else weights[start : start + features.n_rows]
            add_covariance(features, own, out)
            start += features.n_rows
        return mirror(self.layout(examples).specs, out)

    def plan(
        self,
        operation: str,
        examples: Examples,
        cotangent: CotangentFunction,
        *,
        other: Examples | None = None,
        other_cotangent: CotangentFunction | None = None,
        dim: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Plan:
        """Estimate an operation before it runs.

        Parameters
        ----------
        operation : {"features", "dot", "matrix", "covariance", "project", "matmul", \
                "weighted_sums"}
        examples, cotangent
            As for the operation.
        other, other_cotangent : optional
            The other side of "dot"; by default the same as this side.
        dim : int, optional
            Columns of the matrix or projection, or number of groups.
        dtype : torch.dtype, default=torch.float64
            Of the result.

        Returns
        -------
        Plan
            ``print`` it for a summary.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"operation: got {operation!r}; accepted are {list(OPERATIONS)}.")
        if dim is None and operation in ("project", "matmul", "weighted_sums"):
            raise ValueError(f"dim: plan({operation!r}) needs it, the number of columns or groups.")
        sides = [(examples, cotangent)]
        if other is not None or other_cotangent is not None:
            sides.append((other or examples, other_cotangent or cotangent))
        passes, samples = 0.0, []
        for data, function in sides:
            self.layout(data)
            with FlopCounterMode(display=False) as counter:
                sample = self._sample(data, function)
            passes += len(data) * counter.get_total_flops() / sample.n_examples
            samples.append(sample)
        first, last = samples[0], samples[-1]
        flops, n_bytes = operation_cost(
            operation,
            block_shapes(first),
            len(examples),
            first.rows_per_example,
            len(examples) * first.nbytes // first.n_examples,
            n_other=len(sides[-1][0]),
            other_rows=last.rows_per_example,
            dim=dim or 0,
            item=torch.finfo(dtype).bits // 8,
        )
        seconds = passes / matmul_rate(self.task.device, self.task.dtype)
        seconds += flops / matmul_rate(self.task.device, dtype)
        return Plan(operation, passes + flops, n_bytes, seconds, self.max_memory)

    @torch.no_grad()
    def outputs(self, examples: Examples) -> Tensor:
        """Natural outputs of all examples, ``(n, *output_shape)``, without a graph."""
        with plain_kernels():
            parts = [self.task.forward(b.inputs) for b in examples.batches(self.batch_size or 1024)]
        return torch.cat(parts)
