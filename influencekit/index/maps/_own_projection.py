"""Maps of whole gradients, which the index itself projects to fewer numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from influencekit._fitted import query_gradients, training_gradients
from influencekit.curvature._spectrum import damped_inverse
from influencekit.curvature.kronecker._bases import BlockBasis
from influencekit.curvature.kronecker._store import rotated
from influencekit.data._examples import Examples
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.projections._base import IdentityProjection, Projection
from influencekit.index.maps._base import CoordinateMap
from influencekit.utils._long_work import chunks

__all__ = ["GradientMap", "KroneckerMap", "ProjectedMap"]


class ProjectedMap(CoordinateMap):
    """A map whose coordinates are projections of vectors as long as gradients.

    Attributes
    ----------
    projection : Projection
    """

    projection: Projection

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.projection.dim

    def whole(self) -> CoordinateMap:
        p = self.projection.n_parameters
        return replace(self, projection=IdentityProjection(p, p, 0))  # type: ignore[type-var]


@dataclass(eq=False)
class GradientMap(ProjectedMap):
    """Whole or projected gradients.

    Attributes
    ----------
    projection : Projection
    rate : float
    normalized : bool
        Whether products are cosines.
    """

    engine: GradientEngine
    projection: Projection
    output: Any
    total: float
    rate: float = 1.0
    normalized: bool = False

    def rows(self, examples: Examples) -> tuple[Tensor, Tensor]:
        return self._numbers(training_gradients(self.engine, examples))

    def queries(self, examples: Examples) -> Tensor:
        return self._numbers(query_gradients(self.engine, self.output, examples))[0]

    def _numbers(self, gradients: Gradients) -> tuple[Tensor, Tensor]:
        found, squares = projected(gradients, self.projection)
        if not self.normalized:
            return found, squares
        # P g / ‖g‖
        norms = squares.sqrt()[:, None]
        found = torch.where(norms > 0, found / torch.where(norms > 0, norms, 1.0), 0.0)
        return found, (squares > 0).double()

    def metric(self) -> Tensor:
        return torch.ones(self.dim, dtype=torch.float64)

    def shares(self, examples: Examples) -> Tensor:
        if self.normalized:
            return torch.ones(len(examples), dtype=torch.float64)
        return self.rate * super().shares(examples)


@dataclass(eq=False)
class KroneckerMap(ProjectedMap):
    """Coordinates in the bases of K-FAC or EK-FAC, scaled by the root of the inverse, or projected.

    Attributes
    ----------
    asked : GradientEngine
        Takes the gradients of queries.
    bases : dict of str to BlockBasis
    table : Tensor of shape (p,), float64
        Eigenvalues in the order of the coordinates.
    tolerance : float
        Eigenvalues up to ``tolerance * max`` count as zero when the damping is 0.
    first : float
        Damping of the build.
    damping : float
        λ in use.
    """

    engine: GradientEngine
    asked: GradientEngine
    bases: dict[str, BlockBasis]
    table: Tensor
    tolerance: float
    first: float
    damping: float
    output: Any
    total: float
    projection: Projection

    def inverse(self, damping: float) -> Tensor:
        """``1 / (s + λ)``, (p,), float64."""
        return damped_inverse(self.table, damping, self.tolerance)

    def rows(self, examples: Examples) -> tuple[Tensor, Tensor]:
        half = self.inverse(self.first).sqrt()
        # P Vᵀ∇loss_j (s + λ₀)^-½
        return self._numbers(training_gradients(self.engine, examples), half)

    def queries(self, examples: Examples) -> Tensor:
        factors = self.inverse(self.first).sqrt()
        if self.damping != self.first:
            # (s + λ)⁻¹ (s + λ₀)^½
            inverse = self.inverse(self.damping)
            factors = torch.where(factors > 0, inverse / factors, 0.0)
        gradients = query_gradients(self.asked, self.output, examples)
        return self._numbers(gradients, factors)[0]

    def _numbers(self, gradients: Gradients, factors: Tensor) -> tuple[Tensor, Tensor]:
        return projected(gradients, self.projection, partial(scaled, self.bases, factors))

    def metric(self) -> Tensor:
        if not isinstance(self.projection, IdentityProjection):
            return torch.ones(self.dim, dtype=torch.float64)
        first = self.inverse(self.first)
        # (s + λ)⁻¹ (s + λ₀)
        return torch.where(first > 0, self.inverse(self.damping) / first, 0.0)

    def at(self, damping: float) -> KroneckerMap:
        """The same map at another damping."""
        return replace(self, damping=damping)


def scaled(
    bases: dict[str, BlockBasis], factors: Tensor, features: GradientFeatures
) -> GradientFeatures:
    """Gradients as dense coordinates in the bases of all blocks, each times a factor."""
    blocks: dict[str, Block] = {}
    for name, basis in bases.items():
        own = rotated(features.blocks[name], basis).dense()
        own = own * factors[basis.columns].to(own)
        blocks[name] = DenseBlock(basis.place, own.unflatten(0, (len(features), -1)))
    return features.with_blocks(blocks)


def projected(
    gradients: Gradients,
    projection: Projection,
    change: Callable[[GradientFeatures], GradientFeatures] | None = None,
) -> tuple[Tensor, Tensor]:
    """Projected gradients (n, dim) and squared lengths of the whole ones (n,), float64, in a pass.

    Parameters
    ----------
    gradients : Gradients
        One for each example.
    projection : Projection
    change : callable or None, default=None
        What makes dense features of some examples, which are projected in place of theirs.
    """
    like: Any = {"dtype": torch.float64, "device": gradients.engine.task.device}
    found = torch.empty(len(gradients), projection.dim, **like)
    squares = torch.empty(len(gradients), **like)
    each = 4 * projection.n_parameters * gradients.sample.dtype.itemsize
    for rows, features in gradients:
        several = chunks(len(features), each, features.workspace)
        for part in [slice(0, len(features))] if change is None else several:
            some = features if change is None else change(features[part])
            own = slice(rows.start + part.start, rows.start + part.stop)
            found[own] = some.project(projection).to(found)
            squares[own] = some.squared_norms(torch.float64)
    return found, squares
