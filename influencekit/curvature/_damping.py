"""A damping for people who choose none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import brentq

from influencekit.curvature._cosine import grad_dot_cosines
from influencekit.exceptions import LambdaPathWarning, warn_user

if TYPE_CHECKING:
    from influencekit.curvature._spectrum import Spectrum

__all__ = ["COSINE_OF_BEST_DAMPING", "DAMPING_RANGE", "auto_damping", "damping_range"]

#: Range of dampings worth trying, in units of the curvature's largest eigenvalue.
DAMPING_RANGE = (1e-8, 1e1)
#: Mean cosine of scores with Grad-Dot at which the linear datamodeling score was measured to peak.
COSINE_OF_BEST_DAMPING = 0.57
#: Mean ξ below which rounding and noise of small eigenvalues were measured to rule the scores.
LEAST_XI = 0.3
#: Curvature that only the rounding of saturated outputs leaves.
VANISHING = 1e-20
#: Training examples that are scored, and over which their scores are compared.
_N_QUERIES, _N_EXAMPLES = 100, 2_000
#: Width, in log λ, to which the damping is found.
_ROOT_WIDTH = 1e-3


def damping_range(eigenvalues) -> tuple[float, float]:
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
            "with a vanishing gradient, so no damping can be told from another. Check that the "
            "model was trained on this data and that its outputs are not saturated, or give "
            "a damping."
        )
    return DAMPING_RANGE[0] * largest, DAMPING_RANGE[1] * largest


def auto_damping(spectrum: Spectrum) -> float:
    """Damping at which scores have a cosine of 0.57 with Grad-Dot, and ξ is at least 0.3.

    Both are means over up to 100 training examples as queries, the cosine over the scores of up
    to 2,000 others; see :func:`grad_dot_cosine`.  They compare the damping with the eigenvalues
    that gradients see, so the result scales with the spectrum.  Where the model's own penalty
    already lifts both nothing is added, unless the curvature is singular.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
    """
    low, high = damping_range(spectrum.eigenvalues)
    columns = _spread(len(spectrum.problem.examples), _N_EXAMPLES)
    path = spectrum.narrowed(columns).train_path(_spread(len(columns), _N_QUERIES))
    cosines = grad_dot_cosines(path)

    @cache  # the ends are asked for several times, and each is a pass over the training examples
    def cosine(log_damping: float) -> float:
        return _mean(cosines(np.exp(log_damping))) - COSINE_OF_BEST_DAMPING

    @cache
    def xi(log_damping: float) -> float:
        return _mean(path.xi(np.exp(log_damping))) - LEAST_XI

    if np.isnan(cosine(float(np.log(high)))):
        return float(spectrum.data_eigenvalues.mean())
    crossings = [_crossing(rising, np.log(low), np.log(high)) for rising in (cosine, xi)]
    found = [np.exp(at) for at in crossings if at is not None]
    return float(max(found)) if found else _below_the_path(spectrum, low)


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else np.nan


def _crossing(rising: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a rising function is zero; None if it is not below zero at ``low``."""
    if rising(low) >= 0:
        return None
    if rising(high) <= 0:
        return high
    return float(brentq(rising, low, high, xtol=_ROOT_WIDTH))


def _spread(n: int, most: int) -> torch.Tensor:
    """Up to ``most`` positions among n, evenly."""
    return torch.linspace(0, n - 1, most).long().unique()


def _below_the_path(spectrum: Spectrum, low: float) -> float:
    """Damping where the indicators are above their levels from the smallest damping on."""
    data, largest = spectrum.data_eigenvalues, float(spectrum.eigenvalues.max())
    seen = data > spectrum.tolerance * data.max()  # directions that some gradient has
    smallest = float(spectrum.eigenvalues[seen].min())
    if smallest > max(low, spectrum.tolerance * largest):
        return 0.0
    warn_user(
        f"damping='auto': the mean cosine of scores with Grad-Dot is above "
        f"{COSINE_OF_BEST_DAMPING} already at the smallest damping tried, {low:.2g}, which was "
        f"taken. Eigenvalues of the curvature run from {smallest:.2g} to {largest:.2g}: scale "
        "the features (StandardScaler), or give a damping.",
        LambdaPathWarning,
    )
    return low
