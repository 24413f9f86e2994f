"""Coordinates in the eigenbasis of a curvature that is held as a matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from influencekit._fitted import query_gradients, training_gradients
from influencekit.attributors._trak import loss_slopes
from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.index.maps._base import CoordinateMap

__all__ = ["SpectrumMap"]


@dataclass(eq=False)
class SpectrumMap(CoordinateMap):
    """Coordinates in the eigenbasis of a curvature, each scaled by the root of its inverse.

    So an entry of a row and one of a query count alike, whatever the eigenvalue, and rounding
    them to few bits costs every direction the same.

    Attributes
    ----------
    asked : GradientEngine
        Takes the gradients of queries.
    spectrum : CoordinateSpectrum
        Without training examples.
    half : Tensor of shape (dim,), float64
        ``(s + λ)^-½`` at the damping of the build.
    damping : float
        λ in use.
    linearized : callable or None
        The output that TRAK linearizes; None uses the gradients of the loss.
    """

    engine: GradientEngine
    asked: GradientEngine
    spectrum: Any
    half: Tensor
    damping: float
    output: Any
    total: float
    linearized: Any = None

    @property
    def dim(self) -> int:  # type: ignore[override]
        return len(self.half)

    def rows(self, examples: Examples) -> tuple[Tensor, Tensor]:
        if self.linearized is None:
            gradients = training_gradients(self.engine, examples)
        else:
            gradients = Gradients(self.engine, examples, output_cotangent(self.linearized))
        # Vᵀ∇loss_j (s + λ₀)^-½
        found = self.spectrum.coordinates(gradients).double() * self.half
        return found, found.square() @ self.metric()

    def queries(self, examples: Examples) -> Tensor:
        gradients = query_gradients(self.asked, self.output, examples)
        inverse = self.spectrum.inverse(self.damping)
        # Vᵀ∇f_i (s + λ)⁻¹ (s + λ₀)^½
        return self.spectrum.coordinates(gradients).double() * self._over_half(inverse)

    def metric(self) -> Tensor:
        # (s + λ)⁻¹ (s + λ₀)
        return self._over_half(self._over_half(self.spectrum.inverse(self.damping)))

    def _over_half(self, values: Tensor) -> Tensor:
        return torch.where(self.half > 0, values / torch.where(self.half > 0, self.half, 1.0), 0.0)

    def slopes(self, examples: Examples) -> Tensor:
        if self.linearized is None:
            return super().slopes(examples)
        return loss_slopes(self.engine.task, examples, self.linearized)

    def at(self, damping: float) -> SpectrumMap:
        """The same map at another damping."""
        return replace(self, damping=damping)
