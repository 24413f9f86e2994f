"""Candidate dampings, and attributors at another damping than they were fitted with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.base import clone

from influencekit.damping._default import damping_range
from influencekit.exceptions import LambdaPathWarning, warn_user
from influencekit.utils.validation import present

__all__ = [
    "at_damping",
    "attributor_damping_range",
    "damping_grid",
    "damping_name",
    "own_damping",
    "warn_at_edge",
]

#: Candidates a decade.
DENSITY = 4


def damping_name(attributor: Any) -> str | None:
    """Parameter that holds an attributor's damping: its own, or of the one that it sums.

    Parameters
    ----------
    attributor : attributor

    Returns
    -------
    str or None
        "damping", "attributor__damping" of groups, or None: a search chooses the damping itself.
    """
    params = attributor.get_params(deep=False)
    if "damping" in params:
        return "damping"
    chosen = getattr(attributor, "_chooses_damping", False)
    held = None if chosen else params.get("attributor")
    name = damping_name(held) if hasattr(held, "get_params") else None
    return None if name is None else f"attributor__{name}"


def attributor_damping_range(fitted: Any, asked: str, instead: str) -> tuple[float, float]:
    """Smallest and largest damping worth trying, from a fitted attributor's eigenvalues.

    Parameters
    ----------
    fitted : attributor
    asked, instead : str
        For the error: which parameter asked for the range, and what to give in its place.

    Raises
    ------
    ValueError
        If the attributor's curvature has no eigenvalues, or only zeros.
    """
    if not hasattr(fitted, "eigenvalues_"):
        raise ValueError(
            f"{asked} needs a curvature with eigenvalues, which {type(fitted).__name__} has not. "
            f"{instead}"
        )
    return damping_range(fitted.eigenvalues_)


def damping_grid(dampings: Any, fitted: Any) -> np.ndarray:
    """Candidates in ascending order: as given, or log-spaced over the spectrum."""
    if isinstance(dampings, str):
        instead = "Give those to try, for instance dampings=np.geomspace(1e-6, 1e1, 29)."
        low, high = attributor_damping_range(fitted, "dampings='auto'", instead)
        return np.geomspace(low, high, round(np.log10(high / low) * DENSITY) + 1)
    try:
        grid = np.asarray(dampings, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() < 0:
        raise ValueError(
            f"dampings: got {dampings!r}; accepted are 'auto' or a non-empty 1-D array of "
            "finite numbers from 0 on, for instance np.geomspace(1e-6, 1e1, 29)."
        )
    return np.unique(grid)


def at_damping(fitted: Any, damping: float, task: Any, train: Any) -> Any:
    """Fit the same attributor with another damping, reusing its factorization if it has one."""
    if hasattr(fitted, "set_damping"):
        return copy.copy(fitted).set_damping(damping)
    name = present(damping_name(fitted), "parameter of the damping")
    return clone(fitted).set_params(**{name: damping}).fit(task, train)


def own_damping(fitted: Any) -> float | None:
    """Damping that an attributor was fitted with, of several models their mean; None if unknown."""
    damping = getattr(fitted, "damping_", fitted.get_params().get(damping_name(fitted)))
    return None if damping is None or isinstance(damping, str) else float(np.mean(damping))


def warn_at_edge(damping: float, low: float, high: float, argument: str) -> None:
    """Warn of a search whose pick is at the edge of what it looked at.

    Parameters
    ----------
    damping : float
        The pick.  0 has nothing below it.
    low, high : float
        Smallest and largest candidate.
    argument : str
        What says which candidates there are.
    """
    if low < high and damping > 0 and (damping <= low or damping >= high):
        side, wider = ("lower", "smaller") if damping <= low else ("upper", "larger")
        warn_user(
            f"The pick, damping={damping:.2g}, is at the {side} edge of the candidates, "
            f"{low:.2g} to {high:.2g}, so that a {wider} one may be better. Give {argument} that "
            "go further.",
            LambdaPathWarning,
        )
