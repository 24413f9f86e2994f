"""Whether the λ that an indicator chose is one that the training rows can tell from others."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.curvature._problem import make_curvature
from influencekit.curvature._spectrum import Spectrum
from influencekit.damping._default import effective_dimension, supported_dimension
from influencekit.exceptions import LambdaPathWarning, warn_user

__all__ = ["better_damping", "dimension_ratio", "warn_of_pick"]


def dimension_ratio(attributor: Any, damping: float) -> float:
    """Effective dimension at λ over the one that the effective sample size supports.

    Parameters
    ----------
    attributor : fitted attributor
        Of several models the mean ratio counts.
    damping : float

    Returns
    -------
    float
        Above 1 more directions count than the rows with a gradient can tell apart.  NaN for
        attributors that are no influence functions with eigenvalues.
    """
    spectra: list[Any] = [getattr(fitted, "curvature", None) for fitted in attributor.fitted_]
    kind = getattr(attributor, "curvature", None)
    if kind is None or not all(isinstance(spectrum, Spectrum) for spectrum in spectra):
        return np.nan
    kind = make_curvature(kind)
    ratios = [effective_dimension(s, damping) / supported_dimension(kind, s) for s in spectra]
    return float(np.mean(ratios))


def better_damping(found: float, own: float, ratio: float) -> float:
    """λ between an indicator's and the attributor's own, by what the rows can tell.

    The geometric mean of both where the indicator's λ leaves no more directions than the rows
    support, and the attributor's own elsewhere.

    Parameters
    ----------
    found : float
        The indicator's.
    own : float
        The attributor's own.  Where that is 0, at the optimum of a convex objective, so is the
        mean.
    ratio : float
        :func:`dimension_ratio` at ``found``; NaN takes ``found``.

    Returns
    -------
    float
    """
    if np.isnan(ratio):
        return found
    return float(np.sqrt(own * found)) if ratio <= 1 else own


def warn_of_pick(task: Any, symbol: str, damping: float, own: float | None, ratio: float) -> None:
    """Warn of an indicator's λ that is known to be a bad one.

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
        :func:`dimension_ratio` at the pick.
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
            f"where {ratio:.1f} times as many directions count as the training rows with a "
            "gradient can tell apart: it is too small"
        )
    else:
        return
    warn_user(
        f"{symbol} chose damping={damping:.2g}, {why}. Take criterion='auto', which sees this, or "
        "LDSSearch, which compares dampings by retraining.",
        LambdaPathWarning,
    )
