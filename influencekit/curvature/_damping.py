"""A damping for people who choose none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import brentq

from influencekit.curvature._cosine import grad_dot_cosine
from influencekit.exceptions import LambdaPathWarning

if TYPE_CHECKING:
    from influencekit.curvature._spectrum import Spectrum

__all__ = ["COSINE_OF_BEST_DAMPING", "DAMPING_RANGE", "auto_damping", "damping_range"]

#: Range of dampings worth trying, in units of the curvature's largest eigenvalue.
DAMPING_RANGE = (1e-8, 1e1)
#: Mean cosine of scores with Grad-Dot at which the linear datamodeling score was measured to peak.
COSINE_OF_BEST_DAMPING = 0.57
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
    """Damping at which the scores of training examples have a cosine of 0.57 with Grad-Dot.

    The cosine is over up to 2,000 training examples and averaged over up to 100 of them as
    queries; see :func:`grad_dot_cosine`.  It compares the damping with the eigenvalues that
    gradients see, so the result scales with the spectrum.  Where the model's own penalty already
    lifts the cosine to 0.57 nothing is added, unless the curvature is singular.

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

    def gap(log_damping: float) -> float:
        cosine = grad_dot_cosine(path, np.exp(log_damping))
        return float(cosine[~np.isnan(cosine)].mean()) - COSINE_OF_BEST_DAMPING

    ends = np.log(low), np.log(high)
    if np.isnan(grad_dot_cosine(path, high)).all():
        return float(spectrum.data_eigenvalues.mean())
    if gap(ends[0]) >= 0:
        return _below_the_path(spectrum, low)
    if gap(ends[1]) <= 0:
        return high
    return float(np.exp(brentq(gap, *ends, xtol=_ROOT_WIDTH)))


def _spread(n: int, most: int) -> torch.Tensor:
    """Up to ``most`` positions among n, evenly."""
    return torch.linspace(0, n - 1, most).long().unique()


def _below_the_path(spectrum: Spectrum, low: float) -> float:
    """Damping where the cosine is above its level from the smallest damping on."""
    data, largest = spectrum.data_eigenvalues, float(spectrum.eigenvalues.max())
    seen = data > spectrum.tolerance * data.max()  # directions that some gradient has
    smallest = float(spectrum.eigenvalues[seen].min())
    if smallest > max(low, spectrum.tolerance * largest):
        return 0.0
    warnings.warn(
        f"damping='auto': the mean cosine of scores with Grad-Dot is above "
        f"{COSINE_OF_BEST_DAMPING} already at the smallest damping tried, {low:.2g}, which was "
        f"taken. Eigenvalues of the curvature run from {smallest:.2g} to {largest:.2g}: scale "
        "the features (StandardScaler), or give a damping.",
        LambdaPathWarning,
        stacklevel=6,
    )
    return low
