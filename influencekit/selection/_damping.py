"""Candidate dampings, and attributors at another damping than they were fitted with."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.base import clone

__all__ = ["at_damping", "damping_grid", "damping_range"]

#: Range of candidates in units of the curvature's largest eigenvalue.
LOWEST, HIGHEST = 1e-8, 1e1
#: Candidates a decade.
DENSITY = 4


def damping_range(fitted) -> tuple[float, float]:
    """Smallest and largest damping worth trying, from a fitted attributor's eigenvalues.

    Raises
    ------
    ValueError
        If the attributor's curvature has no eigenvalues, or only zeros.
    """
    if not hasattr(fitted, "eigenvalues_"):
        raise ValueError(
            f"dampings='auto' needs a curvature with eigenvalues, which "
            f"{type(fitted).__name__} has not. Give the dampings to try, for instance "
            "np.geomspace(1e-6, 1e1, 29)."
        )
    largest = float(fitted.eigenvalues_.max())
    if not largest > 0:
        raise ValueError(
            "The curvature of the model on its training data is zero: it fits every example "
            "with a vanishing gradient, so no damping can be told from another. Check that the "
            "model was trained on this data and that its outputs are not saturated."
        )
    return LOWEST * largest, HIGHEST * largest


def damping_grid(dampings, fitted) -> np.ndarray:
    """Candidates in ascending order: as given, or log-spaced over :func:`damping_range`."""
    if isinstance(dampings, str):
        low, high = damping_range(fitted)
        return np.geomspace(low, high, round(np.log10(high / low) * DENSITY) + 1)
    grid = np.asarray(dampings, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() <= 0:
        raise ValueError(
            f"dampings: got {dampings!r}; accepted are 'auto' or a non-empty 1-D array of "
            "finite positive numbers, for instance np.geomspace(1e-6, 1e1, 29)."
        )
    return np.unique(grid)


def at_damping(fitted, damping: float, task, train):
    """Fit the same attributor with another damping, reusing its factorisation if it has one."""
    if hasattr(fitted, "set_damping"):
        return copy.copy(fitted).set_damping(damping)
    return clone(fitted).set_params(damping=damping).fit(task, train)
