"""Which methods a fitted influence function has."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from influencekit.curvature._base import SolvedCurvature

__all__ = ["has_eigenvalues", "is_solved"]


def has_eigenvalues(attributor: Any) -> bool:
    """Whether a damping path exists. It does to first order, unless each λ is solved by itself."""
    check_is_fitted(attributor, "fitted_")
    return attributor.removal_order == "first" and hasattr(attributor, "eigenvalues_")


def is_solved(attributor: Any) -> bool:
    """Whether the curvature is solved for each query and λ."""
    check_is_fitted(attributor, "fitted_")
    if not isinstance(attributor.fitted_[0].curvature, SolvedCurvature):
        raise AttributeError(
            f"solution: curvature={attributor.curvature!r} does not solve a system for each "
            f"query, so there are no residuals. They exist for curvature='cg' and 'lissa'; score "
            f"returns the scores."
        )
    return True
