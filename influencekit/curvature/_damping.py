"""A damping for people who choose none."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from influencekit.exceptions import LambdaPathWarning

if TYPE_CHECKING:
    from influencekit.curvature._spectrum import Spectrum

__all__ = ["DAMPING_RANGE", "XI_OF_BEST_DAMPING", "auto_damping", "damping_range"]

#: Range of dampings worth trying, in units of the curvature's largest eigenvalue.
DAMPING_RANGE = (1e-8, 1e1)
#: Mean surrogate indicator at which the linear datamodeling score was measured to peak on digits.
XI_OF_BEST_DAMPING = 0.37
#: Curvature that only the rounding of saturated outputs leaves.
VANISHING = 1e-20
#: Training examples over which the indicator is averaged, and dampings tried.
_N_EXAMPLES, _N_DAMPINGS = 500, 91


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
    """Damping at which the mean surrogate indicator of training examples reaches 0.37.

    The indicator ξ compares the damping with the eigenvalues that gradients see, so the result
    scales with the spectrum.  Where the model's own penalty already lifts ξ to 0.37 nothing is
    added, unless the curvature is singular.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
    """
    low, high = damping_range(spectrum.eigenvalues)
    n = len(spectrum.problem.examples)
    rows = torch.linspace(0, n - 1, _N_EXAMPLES).long().unique()
    dampings = np.geomspace(low, high, _N_DAMPINGS)
    xi = spectrum.train_path(rows).xi(dampings)
    defined = ~np.isnan(xi).any(axis=0)
    if not defined.any():
        return float(spectrum.data_eigenvalues.mean())
    mean = xi[:, defined].mean(axis=1)
    above = np.flatnonzero(mean >= XI_OF_BEST_DAMPING)
    if len(above) == 0:
        return high
    first = int(above[0])
    if first == 0:
        return _below_the_path(spectrum, low)
    share = (XI_OF_BEST_DAMPING - mean[first - 1]) / (mean[first] - mean[first - 1])
    return float(dampings[first - 1] * (dampings[first] / dampings[first - 1]) ** share)


def _below_the_path(spectrum: Spectrum, low: float) -> float:
    """Damping where ξ is above its level from the smallest damping on."""
    data, largest = spectrum.data_eigenvalues, float(spectrum.eigenvalues.max())
    seen = data > spectrum.tolerance * data.max()  # directions that some gradient has
    smallest = float(spectrum.eigenvalues[seen].min())
    if smallest > max(low, spectrum.tolerance * largest):
        return 0.0
    warnings.warn(
        f"damping='auto': the mean surrogate indicator is above {XI_OF_BEST_DAMPING} already at "
        f"the smallest damping tried, {low:.2g}, which was taken. Eigenvalues of the curvature "
        f"run from {smallest:.2g} to {largest:.2g}: scale the features (StandardScaler), or give "
        "a damping.",
        LambdaPathWarning,
        stacklevel=6,
    )
    return low
