"""The least damping: what the effective sample size supports."""

from __future__ import annotations

from math import prod

import numpy as np
from scipy.optimize import brentq

from influencekit.curvature._problem import Curvature
from influencekit.curvature._spectrum import Spectrum
from influencekit.curvature.exact._exact import EmpiricalFisher
from influencekit.curvature.kronecker._kfac import KroneckerCurvature
from influencekit.curvature.layers._logra import LoGra
from influencekit.damping._default import damping_range

__all__ = [
    "AT_OPTIMUM",
    "effective_dimension",
    "effective_sample_size",
    "least_damping",
    "supported_dimension",
]

#: Largest effective dimension for each row of the effective sample size and free output: for one
#: spectrum of all parameters; for the Fisher matrix, which has one row for each example; and for
#: one spectrum per layer, whose directions together outnumber those of the data. Measured, see
#: docs/damping_measured.md.
DIRECTIONS, DIRECTIONS_OF_FISHER, DIRECTIONS_BY_LAYERS = 1 / 3, 1 / 6, 2 / 3
#: Gradient ratio up to which a model counts as at its optimum, where the spectrum's damping
#: suffices.
AT_OPTIMUM = 5e-3


def least_damping(curvature: Curvature, spectrum: Spectrum, ratio: float) -> float:
    """λ at which the effective dimension is capped by the effective sample size.

    If a network fits most rows without error, only the other few have a gradient. The curvature at
    the end of training is then far below that during training, and a damping chosen from the
    spectrum alone is too small in the directions of those few rows.

    Parameters
    ----------
    curvature : Curvature
    spectrum : Spectrum
        Its factorization.
    ratio : float
        Gradient ratio of the model.

    Returns
    -------
    float
        0 for models other than classifiers, at an optimum, and if there are enough rows.
    """
    task = spectrum.problem.engine.task
    if task.problem_type != "classification" or ratio <= AT_OPTIMUM:
        return 0.0
    return _damping_of(spectrum, supported_dimension(curvature, spectrum))


def supported_dimension(curvature: Curvature, spectrum: Spectrum) -> float:
    """Number of directions that the training rows with a gradient can distinguish.

    A fraction of the effective sample size times the number of free outputs; the fraction was
    measured.

    Parameters
    ----------
    curvature : Curvature
    spectrum : Spectrum
        Its factorization.

    Returns
    -------
    float
    """
    problem = spectrum.problem
    train, task = problem.train, problem.engine.task
    norms = train.squared_norms(task.dtype).double().sqrt()
    weighted = (norms * problem.example_weights.to(norms.device)).cpu().numpy()
    outputs = train.engine.outputs(train.examples.take(slice(0, 1)))
    free_outputs = max(1, prod(outputs.shape[1:]) - 1)
    return _directions(curvature) * free_outputs * effective_sample_size(weighted)


def _directions(curvature: Curvature) -> float:
    if isinstance(curvature, (KroneckerCurvature, LoGra)):
        return DIRECTIONS_BY_LAYERS
    return DIRECTIONS_OF_FISHER if isinstance(curvature, EmpiricalFisher) else DIRECTIONS


def effective_sample_size(norms: np.ndarray) -> float:
    """Effective number of rows: n if all gradients have equal norm, 1 if only one is nonzero.

    Examples
    --------
    >>> import numpy as np
    >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    square = float((norms**2).sum())
    # (Σ_i ‖g_i‖)² / Σ_i ‖g_i‖²
    return float(norms.sum() ** 2 / square) if square > 0 else 0.0


def effective_dimension(spectrum: Spectrum, damping: float) -> float:
    """Number of directions that λ does not damp away, ``Σ d_k / (s_k + λ)``.

    Parameters
    ----------
    spectrum : Spectrum
    damping : float

    Returns
    -------
    float
    """
    return _dimension(*_pairs(spectrum), damping)


def _pairs(spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, and the data's shares of them."""
    s, d = (values.clamp_min(0).cpu().numpy() for values in spectrum.unordered)
    return s, d


def _dimension(eigenvalues: np.ndarray, data: np.ndarray, damping: float) -> float:
    # Σ_k d_k / (s_k + λ)
    s = eigenvalues + damping
    return float(np.divide(data, s, out=np.zeros_like(s), where=s > 0).sum())


def _damping_of(spectrum: Spectrum, dimension: float) -> float:
    """λ with a given effective dimension; 0 if the dimension is never above it."""
    low, high = np.log(damping_range(spectrum.unordered[0]))
    pairs = _pairs(spectrum)

    def excess(log_damping: float) -> float:
        return _dimension(*pairs, float(np.exp(log_damping))) - dimension

    if excess(low) <= 0:
        return 0.0
    if excess(high) >= 0:
        return float(np.exp(high))
    return float(np.exp(brentq(excess, low, high, xtol=1e-3)))
