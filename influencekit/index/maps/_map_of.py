"""The map of what an attributor learned from one model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, singledispatch
from typing import Any

import torch
from torch import Tensor

from influencekit._estimate import even_rows
from influencekit._fitted import training_gradients, training_weights
from influencekit.attributors._trak import FittedTRAK, NamedOutput
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.attributors.first_order._grad_cos import Cosines
from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.curvature._spectrum import CoordinateSpectrum
from influencekit.curvature.exact._sample_space import SampleSpectrum
from influencekit.curvature.kronecker._spectrum import KroneckerSpectrum
from influencekit.curvature.low_rank._low_rank import LowRankSpectrum
from influencekit.data._examples import Examples
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._base import IdentityProjection, Projection
from influencekit.index.maps._base import CoordinateMap
from influencekit.index.maps._leading import own_projection, sample_size
from influencekit.index.maps._own_projection import GradientMap, KroneckerMap
from influencekit.index.maps._spectra import SpectrumMap

__all__ = ["map_of"]


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
        If its scores need the training data, or are not inner products of coordinates.
    """
    raise _refusal(type(fitted).__name__)


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"attributor: the scores of {what} are not inner products of few numbers of a query and "
        f"a row, so it has no index. Accepted are InfluenceFunction with curvature='ggn' or "
        f"'fisher' (exact with fewer parameters than rows, else with projection_dim), 'logra', "
        f"'kfac', 'ekfac' or 'hessian'; TRAK; GradDot, GradCos and TracIn; and RunAverage, "
        f"searches and lists of models around them. Use save(attributor, folder) for the others."
    )


@map_of.register
def _(fitted: FittedInfluence, train: Examples, projection: dict[str, Any]) -> CoordinateMap:
    curvature = fitted.curvature
    if type(fitted) is not FittedInfluence:
        raise _refusal("InfluenceFunction with removal_order or output='coef'")
    if isinstance(curvature, KroneckerSpectrum):
        return _kronecker_map(curvature, fitted, train, projection)
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


def _kronecker_map(
    spectrum: KroneckerSpectrum, fitted: Any, train: Examples, projection: dict[str, Any]
) -> KroneckerMap:
    engine, damping = spectrum.problem.engine, fitted.damping
    total = float(training_weights(engine.task, train).sum())
    p = len(spectrum.table)
    found = KroneckerMap(
        engine,
        fitted.engine,
        spectrum.bases,
        spectrum.table,
        spectrum.tolerance,
        damping,
        damping,
        fitted.output,
        total,
        IdentityProjection(p, p, 0),
    )
    n, half = len(spectrum.problem.examples), found.inverse(damping).sqrt()
    rows = torch.from_numpy(even_rows(n, sample_size(projection["dim"]))).to(half.device)

    @cache
    def kept() -> Any:
        return spectrum.restrict(rows)

    def products() -> Tensor:
        everyone = torch.arange(len(rows), device=half.device)
        return kept().train_path(everyone).products(damping)

    def sums(weights: Tensor) -> Tensor:
        # Σ_j w_j c_j (s + λ)^-½
        return kept().train.sums(weights).mul_(half.to(weights))

    return replace(found, projection=own_projection(engine, projection, n, products, sums))


@map_of.register
def _(fitted: FirstOrder, train: Examples, projection: dict[str, Any]) -> CoordinateMap:
    engine = fitted.train.engine
    mean = float(training_weights(engine.task, train).mean())
    drawn = _of_gradients(engine, train, projection, normalized=False)
    return GradientMap(engine, drawn, fitted.output, mean, fitted.rate)


@map_of.register
def _(fitted: Cosines, train: Examples, projection: dict[str, Any]) -> CoordinateMap:
    engine = fitted.train.engine
    drawn = _of_gradients(engine, train, projection, normalized=True)
    return GradientMap(engine, drawn, fitted.output, 1.0, normalized=True)


def _of_gradients(
    engine: GradientEngine, train: Examples, projection: dict[str, Any], normalized: bool
) -> Projection:
    """The projection of gradients, or of gradients at length 1."""
    rows = even_rows(len(train), sample_size(projection["dim"]))

    @cache
    def kept() -> Gradients:
        return training_gradients(engine, train.take(rows)).held(engine.held_memory // 4)

    def lengths() -> Tensor:
        norms = kept().squared_norms().sqrt()
        return torch.where(norms > 0, 1 / norms, 0.0) if normalized else torch.ones_like(norms)

    def products() -> Tensor:
        own = lengths()
        return kept().dot(kept()) * own * own[:, None]

    def sums(weights: Tensor) -> Tensor:
        return kept().sums(weights * lengths().to(weights))

    return own_projection(engine, projection, len(train), products, sums)
