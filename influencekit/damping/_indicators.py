"""Indicators of a damping: the cosine of scores with inner products of gradients, and ξ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from influencekit.curvature._spectrum import DampingPath, grad_dot_cosines, row_cosines

__all__ = [
    "grad_dot_cosine",
    "score_vector_cosine",
    "score_vector_xi",
]

#: Function from a damping to scores (n_queries, n_train).
Scores = Callable[[float], np.ndarray]

#: Relative step of the derivative with respect to λ: its error is about the square.
_STEP = 1e-3
#: λ in units of the largest damping asked for at which scores count as inner products.
_FAR = 1e6


def grad_dot_cosine(path: DampingPath, dampings: ArrayLike) -> np.ndarray:
    """Cosine of every query's scores with its scores at infinite damping.

    Parameters
    ----------
    path : DampingPath
    dampings : float or array-like of shape (n_dampings,)

    Returns
    -------
    ndarray of shape (n_dampings, n_query)
        Cosines; NaN if the scores of a query are all zero.

    Notes
    -----
    Scores at infinite damping are, up to their length, inner products of gradients (Grad-Dot).
    For a curvature ``F = JJᵀ/n`` of the scored gradients J themselves, the empirical Fisher
    matrix, the cosine is ``t_1 / √(t_0 t_2)`` with ``t_k = gᵀ F (F + λI)⁻ᵏ g``, and rises with
    λ: its logarithm has the derivative ``(t_3 / t_2) (1 - ξ²)`` with the surrogate indicator
    ``ξ = t_2 / √(t_1 t_3)``, which is at most 1.

    Cost: one product (n_query x rank) by (rank x n_train) for each damping.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> X, y = load_iris(return_X_y=True)
    >>> influence = InfluenceFunction().fit(LogisticRegression(max_iter=1000).fit(X, y), X, y)
    >>> grad_dot_cosine(influence.damping_path(X[:2], y[:2]), [1e-3, 1e3]).shape
    (2, 2)
    """
    return grad_dot_cosines(path)(dampings)


def score_vector_xi(scores: Scores, grid: Any) -> Callable:
    """ξ from score vectors alone, for any attributor with a damping.

    With ``K = C + λI``: ``A_1 = Jᵀ K⁻¹ g`` are the scores, ``A_2 = Jᵀ K⁻² g = -∂A_1/∂λ`` and
    ``A_0 = Jᵀ g = lim λ A_1``, which all follow from scores alone; then
    ``ξ = (A_1·A_1) / √((A_0·A_1)(A_1·A_2))``.

    Parameters
    ----------
    scores : callable
        Function from a damping to scores; called once here and twice for each damping.
    grid : ndarray of shape (n_dampings,)
        Candidates, which set the dampings that count as infinite and as a small step from 0.

    Returns
    -------
    callable
        Function from an array of dampings to ξ, (n_dampings, n_queries); NaN where ``A_0·A_1`` or
        ``A_1·A_2`` is not positive: the curvature is then not that of the scored gradients,
        and the indicator is not defined.
    """
    far, least = _FAR * float(np.max(grid)), float(np.min(grid, where=grid > 0, initial=np.inf))
    a0 = far * scores(far)

    def one(damping: float) -> np.ndarray:
        step = _STEP * (damping or least)
        low, high = max(0.0, damping - step), damping + step
        below, above = scores(low), scores(high)
        # A_1 and A_2 = -∂A_1/∂λ, by central differences
        return _xi(a0, (above + below) / 2, (below - above) / (high - low))

    return lambda dampings: np.stack([one(float(damping)) for damping in dampings])


def score_vector_cosine(scores: Scores, grid: Any) -> Callable:
    """Cosine with Grad-Dot for any attributor with a damping.

    Parameters
    ----------
    scores : callable
        Function from a damping to scores; called once here and once for each damping.
    grid : ndarray of shape (n_dampings,)
        Candidates, which set the damping that counts as infinite.

    Returns
    -------
    callable
        Function from an array of dampings to cosines, (n_dampings, n_queries); NaN for queries
        whose scores are all zero.
    """
    reference = scores(_FAR * float(np.max(grid)))
    return lambda dampings: np.stack([row_cosines(scores(float(d)), reference) for d in dampings])


def _xi(a0: np.ndarray, a1: np.ndarray, a2: np.ndarray) -> np.ndarray:
    first, second = (a0 * a1).sum(1), (a1 * a2).sum(1)
    defined = (first > 0) & (second > 0)
    root = np.sqrt(np.where(defined, first, 1.0)) * np.sqrt(np.where(defined, second, 1.0))
    # (A_1·A_1) / √((A_0·A_1) (A_1·A_2))
    return np.where(defined, (a1 * a1).sum(1) / root, np.nan)
