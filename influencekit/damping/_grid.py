"""Candidate dampings, and fitted attributors at another damping."""

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

#: Number of candidates per decade.
DENSITY = 4


def damping_name(attributor: Any) -> str | None:
    """Parameter that holds an attributor's damping: its own, or that of the attributor it sums.

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
        For the error: the parameter that needs the range, and what to give instead.

    Raises
    ------
    ValueError
        If the attributor's curvature has no eigenvalues, or only zeros.
    """
    if not hasattr(fitted, "eigenvalues_"):
        raise ValueError(
            f"{asked}: this needs a curvature with eigenvalues; {type(fitted).__name__} does not "
            f"have one. {instead}"
        )
    return damping_range(fitted.eigenvalues_)


def damping_grid(dampings: Any, fitted: Any) -> np.ndarray:
    """Candidates in ascending order: as given, or log-spaced over the range of the spectrum."""
    if isinstance(dampings, str):
        instead = "Give the candidates, for instance dampings=np.geomspace(1e-6, 1e1, 29)."
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
    """Damping that an attributor was fitted with (mean over several models); None if unknown."""
    damping = getattr(fitted, "damping_", fitted.get_params().get(damping_name(fitted)))
    return None if damping is None or isinstance(damping, str) else float(np.mean(damping))


def warn_at_edge(damping: float, low: float, high: float, argument: str) -> None:
    """Warn if the damping chosen by a search is at the edge of the candidates.

    Parameters
    ----------
    damping : float
        The chosen damping; 0 never counts as the lower edge.
    low, high : float
        Smallest and largest candidate.
    argument : str
        Name of the argument that sets the candidates.
    """
    if low < high and damping > 0 and (damping <= low or damping >= high):
        side, wider = ("lower", "smaller") if damping <= low else ("upper", "larger")
        warn_user(
            f"The chosen damping={damping:.2g} is at the {side} edge of the candidates, {low:.2g} "
            f"to {high:.2g}, so a {wider} one may be better. Give a wider range of {argument}.",
            LambdaPathWarning,
        )
