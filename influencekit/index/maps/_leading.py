"""The projection that an index adds: random, or to the leading directions of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.projections._base import Projection
from influencekit.gradients.projections._make_projection import PROJECTIONS, make_projection

__all__ = ["INDEX_PROJECTIONS", "LeadingProjection", "own_projection", "sample_size"]

#: Kinds of projection that an index knows.
INDEX_PROJECTIONS = ("pca", *PROJECTIONS)
#: Rows whose leading directions are taken, at least.
SAMPLE = 2000
#: Entries up to which "auto" holds the matrix of leading directions.
MOST_ENTRIES = 2**26
#: Directions whose share of the largest is smaller are rounding, by the dtype of gradients.
SMALLEST = {torch.float64: 1e-12}


class LeadingProjection(Projection):
    """Products with the leading directions of a sample of rows.

    Parameters
    ----------
    vectors : Tensor of shape (n_parameters, dim)
        Orthonormal columns.
    """

    projection = "pca"

    def __init__(self, vectors: Tensor):
        super().__init__(vectors.shape[1], vectors.shape[0], 0)
        self.vectors = vectors

    def apply(self, features: GradientFeatures) -> Tensor:
        return features.matmul(self.vectors.to(features.dtype))


def sample_size(dim: int | None) -> int:
    """Rows that leading directions are taken from."""
    return max(SAMPLE, 2 * (dim or 0))


def own_projection(
    engine: GradientEngine,
    options: dict[str, Any],
    n: int,
    products: Callable[[], Tensor],
    sums: Callable[[Tensor], Tensor],
) -> Projection:
    """The projection of an index.

    Parameters
    ----------
    engine : GradientEngine
    options : dict
        ``dim``, ``projection`` and ``random_state``.
    n : int
        Rows that there are to take a sample of.
    products : callable
        () -> inner products of the sample's rows, (m, m).
    sums : callable
        Weights (k, m) -> weighted sums of the sample's rows, (k, p).

    Returns
    -------
    Projection
    """
    p = engine.task.n_parameters
    wanted = {**options, "dim": options["dim"] or p}
    dim, kind = wanted["dim"], wanted["projection"]
    if kind == "auto" and dim < p and dim * p <= MOST_ENTRIES and min(n, SAMPLE) >= 2 * dim:
        kind = "pca"
    if kind != "pca" or dim >= p:
        return make_projection(
            engine, **{**wanted, "projection": "auto" if kind == "pca" else kind}
        )
    size = torch.finfo(engine.task.dtype).bits // 8
    engine.require(
        2 * p * dim * size,
        f"the {dim:,} leading directions of {p:,} parameters",
        "Use a smaller projection_dim, or projection='factored', which holds none",
    )
    return LeadingProjection(_leading(products(), sums, dim, engine.task.dtype))


def _leading(
    gram: Tensor, sums: Callable[[Tensor], Tensor], dim: int, dtype: torch.dtype
) -> Tensor:
    """Leading right singular vectors (p, dim) of rows whose inner products are given."""
    values, vectors = torch.linalg.eigh(gram.double())
    kept = values > SMALLEST.get(dtype, 1e-7) * values[-1]
    values, vectors = values[kept][-dim:], vectors[:, kept][:, -dim:]
    # G = U s Vᵀ, so V = Gᵀ U s⁻¹, with G Gᵀ = U s² Uᵀ
    return sums((vectors / values.sqrt()).mT.to(dtype).contiguous()).mT.contiguous()
