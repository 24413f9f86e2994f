"""Estimate of the cost of an operation before it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import format_bytes
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import flop_counter

__all__ = ["Plan", "plan"]

OPERATIONS = ("features", "dot", "matrix", "covariance", "project", "matmul", "sums")


@dataclass(frozen=True)
class Plan:
    """Estimate of an operation's work and memory.

    Attributes
    ----------
    operation : str
    flops : float
        Multiplications and additions, including those of the model's passes.
    bytes : int
        Memory for the result and for what is needed to compute it.
    seconds : float
        Estimated from a matrix product timed on this machine: right within a small factor.
    max_memory : int
    """

    operation: str
    flops: float
    bytes: int
    seconds: float
    max_memory: int

    @property
    def fits(self) -> bool:
        """Whether the operation stays within ``max_memory``."""
        return self.bytes <= self.max_memory

    def __str__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"{self.operation}: about {self.seconds:.2g} s ({self.flops:.2g} flops), "
            f"{format_bytes(self.bytes)}; {verdict} in {format_bytes(self.max_memory)}"
        )


def plan(
    operation: str,
    gradients: Gradients,
    other: Gradients | None = None,
    *,
    dim: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Plan:
    """Estimate an operation on gradients before it runs.

    Parameters
    ----------
    operation : {"features", "dot", "matrix", "covariance", "project", "matmul", "sums"}
        A method of :class:`Gradients`; "matmul" is ``@``.
    gradients : Gradients
    other : Gradients, optional
        The other side of "dot"; by default the same gradients.
    dim : int, optional
        Number of columns of the matrix or projection, or number of groups.
    dtype : torch.dtype, default=torch.float64
        dtype of the result.

    Returns
    -------
    Plan
        The estimate; ``print`` it for a summary.

    Raises
    ------
    ValueError
        If the operation is not one of these, or needs ``dim``.
    """
    check_choice("operation", operation, OPERATIONS)
    if dim is None and operation in ("project", "matmul", "sums"):
        raise ValueError(
            f"dim: got None, but plan({operation!r}) needs the number of columns or groups."
        )
    engine = gradients.engine
    sides = [gradients] if other is None else [gradients, other]
    passes = sum(map(_pass_flops, sides))
    first, last = gradients.sample, sides[-1].sample
    flops, n_bytes = operation_cost(
        operation,
        [block.factor_shape for block in first.blocks.values()],
        len(gradients),
        first.rows_per_example,
        gradients.nbytes,
        n_other=len(sides[-1]),
        other_rows=last.rows_per_example,
        dim=dim or 0,
        item=torch.finfo(dtype).bits // 8,
    )
    seconds = passes / matmul_rate(engine.task.device, engine.task.dtype)
    seconds += flops / matmul_rate(engine.task.device, dtype)
    return Plan(operation, passes + flops, n_bytes, seconds, engine.limit)


def _pass_flops(gradients: Gradients) -> float:
    engine, examples = gradients.engine, gradients.examples
    engine.layout(examples)
    first = next(examples.batches(1))
    with flop_counter() as counter:
        engine.features(examples, first, gradients.cotangent, gradients.keep_factors)
    return float(len(gradients) * counter.get_total_flops())


def operation_cost(
    operation: str,
    block_shapes: list[tuple[int, int, int]],
    n: int,
    rows: int,
    feature_bytes: int,
    *,
    n_other: int = 0,
    other_rows: int = 1,
    dim: int = 0,
    item: int = 8,
) -> tuple[float, int]:
    """Flops and bytes of an operation after the gradients are computed.

    ``block_shapes`` are (T, d_in, d_out) of every block, T = 0 and d_in the width for dense
    ones; ``n_other`` and ``other_rows`` are the other side of "dot", ``dim`` the columns of a
    matrix or projection or the number of groups, ``item`` the bytes of one number.
    """
    p = sum(d_in if t == 0 else d_in * d_out for t, d_in, d_out in block_shapes)
    n_rows = n * rows
    if operation == "features":
        return 0.0, feature_bytes
    if operation == "dot":
        pairs = n * n_other
        each = sum(
            _pair_flops(t, d_in, d_out, rows * other_rows) for t, d_in, d_out in block_shapes
        )
        return 2.0 * pairs * each, n_rows * n_other * other_rows * item
    if operation == "matrix":
        return float(n_rows * p), n_rows * p * item
    if operation == "covariance":
        return 2.0 * n_rows * p * p, p * p * item
    if operation == "sums":
        return 2.0 * n * p * dim, dim * p * item
    return 2.0 * n_rows * p * dim, n_rows * dim * item


def _pair_flops(t: int, d_in: int, d_out: int, row_pairs: int) -> int:
    if t == 0:
        return row_pairs * d_in
    factors = t * t * (d_in + row_pairs * d_out)
    return min(factors, row_pairs * d_in * d_out)


@lru_cache(maxsize=8)
def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Flops per second of a medium matrix product, measured once in a few milliseconds."""
    left = torch.ones(384, 384, device=device, dtype=dtype)
    float((left @ left).sum())
    start = time.perf_counter()
    for _ in range(4):
        product = left @ left
    float(product.sum())  # waits for the device
    return 4 * 2 * 384**3 / max(1e-9, time.perf_counter() - start)
