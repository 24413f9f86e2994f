"""Whether the training rows support the λ that an indicator chose."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.curvature._spectrum import Spectrum
from influencekit.damping._least import effective_dimension, supported_dimension
from influencekit.exceptions import LambdaPathWarning, warn_user

__all__ = ["better_damping", "dimension_ratio", "warn_of_pick"]


def dimension_ratio(attributor: Any, damping: float) -> float:
    """Effective dimension at λ, divided by the one that the effective sample size supports.

    Parameters
    ----------
    attributor : fitted attributor
        For several models, the mean ratio is used.
    damping : float

    Returns
    -------
    float
        If above 1, the effective dimension exceeds what the rows with a gradient support. NaN for
        attributors other than influence functions with eigenvalues.
    """
    spectra: list[Any] = [getattr(fitted, "curvature", None) for fitted in attributor.fitted_]
    kind = getattr(attributor, "curvature", None)
    if kind is None or not all(isinstance(spectrum, Spectrum) for spectrum in spectra):
        return np.nan
    ratios = [effective_dimension(s, damping) / supported_dimension(s.settings, s) for s in spectra]
    return float(np.mean(ratios))


def better_damping(found: float, own: float, ratio: float) -> float:
    """Combine the λ of an indicator with the attributor's own λ.

    The geometric mean of both if the rows support the effective dimension at the indicator's λ;
    otherwise the attributor's own λ.

    Parameters
    ----------
    found : float
        The indicator's λ.
    own : float
        The attributor's own λ. If that is 0, at the optimum of a convex objective, the mean is 0
        too.
    ratio : float
        :func:`dimension_ratio` at ``found``; if NaN, the result is ``found``.

    Returns
    -------
    float
    """
    if np.isnan(ratio):
        return found
    return float(np.sqrt(own * found)) if ratio <= 1 else own


def warn_of_pick(task: Any, symbol: str, damping: float, own: float | None, ratio: float) -> None:
    """Warn of an indicator's λ that is known to be bad.

    Parameters
    ----------
    task : Task
    symbol : str
        Name of the indicator.
    damping : float
        The pick.
    own : float or None
        The attributor's own λ.
    ratio : float
        :func:`dimension_ratio` at the chosen damping.
    """
    if task.convex and own == 0:
        if damping == 0:
            return
        why = (
            f"but {task.name} is at the optimum of a convex objective, where the attributor's own "
            "damping=0 is right"
        )
    elif ratio > 1:
        why = (
            f"where the effective dimension is {ratio:.1f} times what the training rows with a "
            f"gradient support, so the damping is too small"
        )
    else:
        return
    warn_user(
        f"{symbol} chose damping={damping:.2g}, {why}. Use criterion='auto', which takes this "
        f"into account, or LDSSearch, which compares dampings by retraining.",
        LambdaPathWarning,
    )
