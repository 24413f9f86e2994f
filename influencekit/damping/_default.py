"""The default damping: from eigenvalues or a sketch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, singledispatch
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import CurvatureProblem, ggn_rows
from influencekit.curvature._spectrum import (
    DampingPath,
    Spectrum,
    grad_dot_cosines,
    sample_rows,
)
from influencekit.curvature.exact._exact import decompose
from influencekit.curvature.kronecker._binned import choosing_path
from influencekit.curvature.kronecker._one_damping import indicators_at
from influencekit.curvature.kronecker._spectrum import KroneckerSpectrum
from influencekit.curvature.layers._datainf import FittedDataInf
from influencekit.curvature.low_rank._low_rank import LowRankSpectrum
from influencekit.exceptions import LambdaPathWarning, warn_user

__all__ = [
    "DAMPING_RANGE",
    "auto_damping",
    "damping_from",
    "damping_range",
    "gram_damping",
    "sketch_damping",
    "spectrum_damping",
]

#: Range of dampings worth trying, in units of the curvature's largest eigenvalue.
DAMPING_RANGE = (1e-8, 1e1)
#: Curvature below this is only rounding error of saturated outputs.
VANISHING = 1e-20
#: Mean cosine of scores with Grad-Dot at which the linear datamodeling score peaked, as measured.
COSINE_OF_BEST_DAMPING = 0.57
#: Mean ξ below which rounding and noise of small eigenvalues dominated scores, as measured.
LEAST_XI = 0.3
#: How far indicators of leading coordinates may be from those of all, which is far less.
_CLEAR = 0.05
#: Precision of the damping, in log λ.
_ROOT_WIDTH = 1e-3
#: Share of a gradient's squared norm that is not rounding, in single precision either.
_OUTSIDE = 1e-8
#: Dimensions of the projection.
SKETCH_DIM = 512
#: Default damping of DataInf in units of the gradients' mean squared entry: the paper's.
PAPER_DAMPING = 0.1


@singledispatch
def auto_damping(fitted: FittedCurvature) -> float:
    """Default damping of a fitted curvature.

    It comes from the eigenvalues, see ``spectrum_damping``. If the curvature has none, or too few
    to show the small ones, it comes from a projected Gauss-Newton matrix, see ``sketch_damping``.
    It is at least ``fitted.floor``. ``auto_damping.register`` adds another kind of curvature.

    Parameters
    ----------
    fitted : FittedCurvature

    Returns
    -------
    float
    """
    return max(sketch_damping(fitted.problem), fitted.floor)


@auto_damping.register
def _of_spectrum(fitted: Spectrum) -> float:
    return max(spectrum_damping(fitted), fitted.floor)


def damping_from(fitted: FittedCurvature, least: float) -> float:
    """The larger of ``auto_damping(fitted)`` and ``least``, without a search where that is enough.

    Parameters
    ----------
    fitted : FittedCurvature
    least : float

    Returns
    -------
    float
    """
    if auto_damping.dispatch(type(fitted)) is _of_spectrum and isinstance(fitted, Spectrum):
        return max(spectrum_damping(fitted, least), fitted.floor)
    return max(auto_damping(fitted), least)


@auto_damping.register
def _of_low_rank(fitted: LowRankSpectrum) -> float:
    return max(sketch_damping(fitted.problem) + fitted.missing, fitted.floor)


@auto_damping.register
def _of_datainf(fitted: FittedDataInf) -> float:
    return PAPER_DAMPING * fitted.unit


def damping_range(eigenvalues: Any) -> tuple[float, float]:
    """Smallest and largest damping worth trying for a curvature.

    Parameters
    ----------
    eigenvalues : ndarray or Tensor of shape (rank,)

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError
        If all eigenvalues are zero.
    """
    largest = float(eigenvalues.max()) if len(eigenvalues) else 0.0
    if not largest > VANISHING:
        raise ValueError(
            "The curvature of the model on its training data is zero: it fits every example "
            "with a vanishing gradient, so all dampings give the same scores. Check that the "
            "model was trained on this data and that its outputs are not saturated, or give "
            "a damping."
        )
    return DAMPING_RANGE[0] * largest, DAMPING_RANGE[1] * largest


def spectrum_damping(spectrum: Spectrum, least: float = 0.0) -> float:
    """Damping at which scores have a cosine of 0.57 with Grad-Dot, and ξ is at least 0.3.

    Both are means over up to 100 training examples as queries (as few as 50 where K-FAC and EK-FAC
    have large convolutions or layers of sequences), the cosine over the scores of up
    to 2,000 others, taken evenly among those sorted by the size of their gradients; see
    :func:`grad_dot_cosine`.  They compare the damping with the eigenvalues in the directions of the
    gradients, so the result scales with the spectrum. If the model's own penalty already gives both
    levels, nothing is added, unless the curvature is singular.

    Parameters
    ----------
    spectrum : Spectrum
    least : float, default=0.0
        Returned if it is larger.

    Returns
    -------
    float
    """
    low, high = damping_range(spectrum.unordered[0])
    sizes = spectrum.row_sizes()
    columns = sample_rows(sizes, spectrum.most_rows)
    rows = sample_rows(sizes[columns], spectrum.n_queries)
    sample = _sample(spectrum, columns)
    if low < least < high and _is_enough(sample, rows, least):
        return least
    return max(_searched(spectrum, _path(sample, rows), low, high), least)


def _searched(spectrum: Spectrum, path: DampingPath, low: float, high: float) -> float:
    """Damping at which both indicators reach their levels."""
    cosines = grad_dot_cosines(path)

    @cache  # the ends are asked for several times, and each is a pass over the training examples
    def cosine(log_damping: float) -> float:
        return _mean(cosines(np.exp(log_damping))) - COSINE_OF_BEST_DAMPING

    @cache
    def xi(log_damping: float) -> float:
        return _mean(path.xi(np.exp(log_damping))) - LEAST_XI

    if np.isnan(cosine(float(np.log(high)))):
        return float(spectrum.data_eigenvalues.mean())
    start, end = float(np.log(max(low, _least_without_range(spectrum, path)))), float(np.log(high))
    first = _crossing(cosine, start, end)
    # ξ rises as well, so that it only matters where it is still too small
    second = _crossing(xi, start if first is None else first, end)
    found = first if second is None else second
    return _below_the_path(spectrum, path, low) if found is None else float(np.exp(found))


@singledispatch
def _sample(spectrum: Spectrum, columns: torch.Tensor) -> Spectrum:
    """The same curvature with the training examples ``columns`` only."""
    return spectrum.restrict(columns)


@_sample.register
def _as_kept(spectrum: KroneckerSpectrum, columns: torch.Tensor) -> Spectrum:
    return spectrum.narrow(columns)


@singledispatch
def _path(sample: Spectrum, rows: torch.Tensor) -> DampingPath:
    """Training examples, with ``rows`` of them as queries."""
    return sample.train_path(rows)


@_path.register
def _by_layers(sample: KroneckerSpectrum, rows: torch.Tensor) -> DampingPath:
    return choosing_path(sample, rows)


def _is_enough(sample: Spectrum, rows: torch.Tensor, damping: float) -> bool:
    """Whether both indicators are clearly above their levels, as far as it is quickly found out.

    Both rise with the damping, so that a search would end below it.
    """
    if not isinstance(sample, KroneckerSpectrum):
        return False
    found = indicators_at(sample, rows, damping)
    if found is None:
        return False
    cosine, xi = map(_mean, found)
    return cosine > COSINE_OF_BEST_DAMPING + _CLEAR and xi > LEAST_XI + _CLEAR


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else np.nan


def _crossing(rising: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a rising function is zero; None if it is not below zero at ``low``."""
    if not rising(low) < 0:  # NaN where it is not defined
        return None
    if rising(high) <= 0:
        return high
    return float(brentq(rising, low, high, xtol=_ROOT_WIDTH))


def _least_without_range(spectrum: Spectrum, path: DampingPath) -> float:
    """Smallest eigenvalue where gradients reach outside the curvature's range; else 0.

    At a smaller damping these parts, and rounding beside them, outweigh all others.
    """
    if not hasattr(path, "query_coordinates"):
        return 0.0
    seen = spectrum.data_eigenvalues > spectrum.rounding
    return float(spectrum.eigenvalues[seen].min()) if _reaches_outside(path, seen) else 0.0


def _below_the_path(spectrum: Spectrum, path: DampingPath, low: float) -> float:
    """Damping if the indicators are above their levels even at the smallest damping."""
    largest, seen = float(spectrum.eigenvalues.max()), _seen(spectrum)
    smallest = float(spectrum.eigenvalues[seen].min())
    if smallest > max(low, spectrum.tolerance * largest):
        # without damping, what gradients have outside the curvature's range would be left out
        return smallest if _reaches_outside(path, seen) else 0.0
    warn_user(
        f"damping='auto': the mean cosine of scores with Grad-Dot is above "
        f"{COSINE_OF_BEST_DAMPING} even at the smallest damping tried, {low:.2g}, which is used. "
        f"Eigenvalues of the curvature run from {smallest:.2g} to {largest:.2g}: scale "
        "the features (StandardScaler), or give a damping.",
        LambdaPathWarning,
    )
    return low


def _seen(spectrum: Spectrum) -> torch.Tensor:
    """Which directions the gradients have, beyond rounding."""
    data = spectrum.data_eigenvalues
    # the largest is seen whatever the penalty's share of its rounding is
    least = min(max(spectrum.tolerance * float(data.max()), spectrum.rounding), float(data.max()))
    return data >= least


def _reaches_outside(path: DampingPath, seen: torch.Tensor) -> bool:
    """Whether a gradient has more than rounding in directions without curvature."""
    coordinates = getattr(path, "query_coordinates", None)
    if coordinates is None:
        return False
    squares = coordinates.square()
    return bool((squares[:, ~seen].sum(1) > _OUTSIDE * squares.sum(1)).any())


def gram_damping(gram: torch.Tensor) -> float:
    """Damping of ``BᵀB`` at which the rows of B have a cosine of 0.57 with Grad-Dot.

    Parameters
    ----------
    gram : Tensor of shape (n_rows, n_rows)
        ``BBᵀ``.

    Returns
    -------
    float
    """
    # K = BBᵀ = U diag(s) Uᵀ
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_min(0)
    reference = gram / gram.norm(dim=1, keepdim=True).clamp_min(1e-300)

    def gap(log_damping: float) -> float:
        # K (K + λI)⁻¹ = U diag(s / (s + λ)) Uᵀ, and the cosines of its rows with those of K
        shrunk = (vectors * (values / (values + np.exp(log_damping)))) @ vectors.T
        cosine = (shrunk * reference).sum(1) / shrunk.norm(dim=1).clamp_min(1e-300)
        return float(cosine.mean()) - COSINE_OF_BEST_DAMPING

    low, high = (np.log(end * float(values.max())) for end in DAMPING_RANGE)
    crossing = _crossing(gap, low, high)
    return float(np.exp(low if crossing is None else crossing))


def sketch_damping(problem: CurvatureProblem) -> float:
    """Automatic damping of the Gauss-Newton matrix, projected to at most 512 dimensions.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    float

    Notes
    -----
    At least the smallest eigenvalue of the data's part of the projected matrix. A projection
    spreads what does not fit into it over all its directions, which then need no damping; the full
    matrix may be singular and needs that amount as damping.  If nothing was projected away, a
    singular matrix that would get no damping gets its smallest eigenvalue above 0.
    """
    small = replace(problem, projection_dim=SKETCH_DIM, projection="auto", random_state=0)
    spectrum = decompose(ggn_rows(small))
    found, data = spectrum_damping(spectrum), spectrum.data_eigenvalues
    if problem.engine.task.n_parameters > SKETCH_DIM:
        return max(found, float(data.min()))
    seen = data[_seen(spectrum)]
    singular = len(seen) < problem.engine.task.n_parameters and bool((problem.penalty == 0).any())
    return float(seen.min()) if singular and found == 0 else found
