"""From examples to coordinates: a score is the inner product of a query's and a row's numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Self

import torch
from torch import Tensor

from influencekit._fitted import query_gradients, training_gradients, training_weights
from influencekit.attributors._trak import FittedTRAK, NamedOutput, loss_slopes
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.attributors.first_order._grad_cos import Cosines
from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.curvature._spectrum import CoordinateSpectrum
from influencekit.curvature.exact._sample_space import SampleSpectrum
from influencekit.curvature.low_rank._low_rank import LowRankSpectrum
from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._make_projection import make_projection

__all__ = ["CoordinateMap", "map_of"]


class CoordinateMap(ABC):
    """How examples of one model become coordinates; holds nothing of the training examples.

    Attributes
    ----------
    engine : GradientEngine
        Of the training gradients.
    output : str or callable
        The explained output.
    dim : int
        Number of coordinates.
    total : float
        What the weights of rows are divided by.
    """

    engine: GradientEngine
    output: Any
    dim: int
    total: float

    @abstractmethod
    def rows(self, examples: Examples) -> Tensor:
        """Coordinates of training examples, (n, dim), float64."""

    @abstractmethod
    def queries(self, examples: Examples) -> Tensor:
        """Coordinates of queries, (m, dim), float64: products with rows have the scores' size."""

    @abstractmethod
    def metric(self) -> Tensor:
        """Weights (dim,) of squared coordinates of rows in self-influence."""

    def shares(self, examples: Examples) -> Tensor:
        """Weight of each training example as its score counts it, (n,), float64."""
        return training_weights(self.engine.task, examples) / self.total

    def slopes(self, examples: Examples) -> Tensor:
        """Factors (n,) of rows, which lists of models share."""
        return torch.ones(len(examples), dtype=torch.float64)

    def explaining(self, output: Any) -> Self:
        """The same map for queries with another output."""
        return replace(self, output=output)  # type: ignore[type-var]


@dataclass(eq=False)
class SpectrumMap(CoordinateMap):
    """Coordinates in the eigenbasis of a curvature, each scaled by the root of its inverse.

    So an entry of a row and one of a query count alike, whatever the eigenvalue, and rounding
    them to few bits costs every direction the same.

    Attributes
    ----------
    asked : GradientEngine
        Of the queries' gradients.
    spectrum : CoordinateSpectrum
        Without training examples.
    half : Tensor of shape (dim,), float64
        ``(s + λ)^-½`` at the damping of the build.
    damping : float
        λ in use.
    linearized : callable or None
        The output that TRAK linearizes; None takes the gradients of the loss.
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

    def rows(self, examples: Examples) -> Tensor:
        if self.linearized is None:
            gradients = training_gradients(self.engine, examples)
        else:
            gradients = Gradients(self.engine, examples, output_cotangent(self.linearized))
        # Vᵀ∇loss_j (s + λ₀)^-½
        return self.spectrum.coordinates(gradients).double() * self.half

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


@dataclass(eq=False)
class GradientMap(CoordinateMap):
    """Whole or projected gradients.

    Attributes
    ----------
    projection : Projection
    rate : float
    normalized : bool
        Whether products are cosines.
    """

    engine: GradientEngine
    projection: Any
    output: Any
    total: float
    rate: float = 1.0
    normalized: bool = False

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.projection.dim

    def rows(self, examples: Examples) -> Tensor:
        return self._numbers(training_gradients(self.engine, examples))

    def queries(self, examples: Examples) -> Tensor:
        return self._numbers(query_gradients(self.engine, self.output, examples))

    def _numbers(self, gradients: Gradients) -> Tensor:
        found = gradients.project(self.projection)
        if not self.normalized:
            return found
        # P g / ‖g‖
        norms = gradients.squared_norms().sqrt()[:, None]
        return torch.where(norms > 0, found / torch.where(norms > 0, norms, 1.0), 0.0)

    def metric(self) -> Tensor:
        return torch.ones(self.dim, dtype=torch.float64)

    def shares(self, examples: Examples) -> Tensor:
        if self.normalized:
            return torch.ones(len(examples), dtype=torch.float64)
        return self.rate * super().shares(examples)


@singledispatch
def map_of(fitted: Any, train: Examples, projection: dict[str, Any]) -> CoordinateMap:  # noqa: ARG001  registered functions take them
    """The map of what an attributor learned from one model.

    Parameters
    ----------
    fitted : Fitted
    train : Examples
        All training examples, whose weights count.
    projection : dict
        ``dim``, ``projection`` and ``random_state`` for methods that do not project themselves.

    Returns
    -------
    CoordinateMap

    Raises
    ------
    ValueError
        If its scores are no inner products of coordinates that do without the training data.
    """
    raise _refusal(type(fitted).__name__)


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"attributor: the scores of {what} are not inner products of few numbers of a query and "
        f"a row, so it has no index. Accepted are InfluenceFunction with curvature='ggn' or "
        f"'fisher' (exact with fewer parameters than rows, else with projection_dim), 'logra' or "
        f"'hessian'; TRAK; GradDot, GradCos and TracIn; and RunAverage, searches and lists of "
        f"models around them. Use save(attributor, folder) for the others."
    )


@map_of.register
def _(fitted: FittedInfluence, train: Examples, projection: dict[str, Any]) -> CoordinateMap:  # noqa: ARG001
    curvature = fitted.curvature
    if type(fitted) is not FittedInfluence:
        raise _refusal("InfluenceFunction with removal_order or output='coef'")
    found = _spectrum_map(curvature, fitted, train)
    return replace(found, asked=fitted.engine)


@map_of.register
def _(fitted: FittedTRAK, train: Examples, projection: dict[str, Any]) -> CoordinateMap:  # noqa: ARG001
    function: NamedOutput = fitted.spectrum.problem.train.cotangent.function  # type: ignore[attr-defined]
    return replace(_spectrum_map(fitted.spectrum, fitted, train), linearized=function)


def _spectrum_map(spectrum: Any, fitted: Any, train: Examples) -> SpectrumMap:
    outside = isinstance(spectrum, LowRankSpectrum) and spectrum.outside
    needs_rows = isinstance(spectrum, SampleSpectrum) or outside
    if not isinstance(spectrum, CoordinateSpectrum) or needs_rows:
        raise _refusal(f"the curvature {type(spectrum).__name__}")
    engine = spectrum.problem.engine
    known: Any = spectrum
    light = replace(known, train_coordinates=torch.empty(0), problem=None)
    half = spectrum.inverse(fitted.damping).sqrt()
    total = float(training_weights(engine.task, train).sum())
    return SpectrumMap(engine, engine, light, half, fitted.damping, fitted.output, total)


@map_of.register
def _(fitted: FirstOrder, train: Examples, projection: dict[str, Any]) -> CoordinateMap:
    engine = fitted.train.engine
    mean = float(training_weights(engine.task, train).mean())
    drawn = make_projection(engine, **_wanted(projection, engine))
    return GradientMap(engine, drawn, fitted.output, mean, fitted.rate)


@map_of.register
def _(fitted: Cosines, train: Examples, projection: dict[str, Any]) -> CoordinateMap:  # noqa: ARG001
    engine = fitted.train.engine
    drawn = make_projection(engine, **_wanted(projection, engine))
    return GradientMap(engine, drawn, fitted.output, 1.0, normalized=True)


def _wanted(projection: dict[str, Any], engine: GradientEngine) -> dict[str, Any]:
    return {**projection, "dim": projection["dim"] or engine.task.n_parameters}
