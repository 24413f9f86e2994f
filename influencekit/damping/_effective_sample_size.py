"""Least default damping of classifiers that were stopped before their optimum."""

from __future__ import annotations

from math import prod

import numpy as np
from scipy.optimize import brentq

from influencekit.curvature import KFAC, Curvature, LoGra, Spectrum
from influencekit.damping._grid import damping_range

__all__ = ["effective_sample_size", "least_damping"]

#: Directions that may count for each effective row and free output: of one spectrum of all
#: parameters, and of one for each layer, whose directions together are more than those of the
#: data.  Measured, see docs/damping.md.
DIRECTIONS, DIRECTIONS_BY_LAYERS = 1 / 3, 2 / 3
#: Gradient ratio up to which a model is at its optimum: there the damping of the spectrum held.
AT_OPTIMUM = 5e-3


def least_damping(curvature: Curvature, spectrum: Spectrum, ratio: float) -> float:
    """λ at which so many directions count as effective rows can tell.

    A net that fits most rows without an error leaves gradients to few of them.  The curvature at
    its end is far below that along its training, and in directions that only those few rows
    have, damping is too small where the spectrum alone chooses it.

    Parameters
    ----------
    curvature : Curvature
    spectrum : Spectrum
        Its factorisation.
    ratio : float
        Gradient ratio of the model.

    Returns
    -------
    float
        0 for other models than classifiers, at an optimum, and where rows are enough.
    """
    problem = spectrum.problem
    train, task = problem.train, problem.engine.task
    if task.kind != "classification" or ratio <= AT_OPTIMUM:
        return 0.0
    norms = train.squared_norms(task.dtype).double().sqrt()
    weighted = (norms * problem.example_weights.to(norms.device)).cpu().numpy()
    outputs = train.engine.outputs(train.examples.take(slice(0, 1)))
    free_outputs = max(1, prod(outputs.shape[1:]) - 1)
    by_layers = isinstance(curvature, (KFAC, LoGra))
    each = (DIRECTIONS_BY_LAYERS if by_layers else DIRECTIONS) * free_outputs
    return _damping_of(spectrum, each * effective_sample_size(weighted))


def effective_sample_size(norms: np.ndarray) -> float:
    """Number of rows with a gradient: n where all are alike, 1 where one has all.

    Examples
    --------
    >>> import numpy as np
    >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    square = float((norms**2).sum())
    return float(norms.sum() ** 2 / square) if square > 0 else 0.0


def _damping_of(spectrum: Spectrum, dimension: float) -> float:
    """λ of an effective dimension ``Σ d_k / (s_k + λ)``; 0 where it is never above."""
    s = spectrum.eigenvalues.flatten().clamp_min(0).cpu().numpy()
    d = spectrum.data_eigenvalues.flatten().clamp_min(0).cpu().numpy()
    low, high = np.log(damping_range(spectrum.eigenvalues.flatten()))

    def excess(log_damping: float) -> float:
        return float((d / (s + np.exp(log_damping))).sum()) - dimension

    if excess(low) <= 0:
        return 0.0
    if excess(high) >= 0:
        return float(np.exp(high))
    return float(np.exp(brentq(excess, low, high, xtol=1e-3)))
