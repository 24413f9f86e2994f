"""ξ and the cosine from score vectors alone, for attributors without eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influencekit.damping._cosine import row_cosines

__all__ = ["score_vector_cosine", "score_vector_xi"]

#: From a damping to scores (n_queries, n_train).
Scores = Callable[[float], np.ndarray]

#: Relative step of the derivative with respect to λ: its error is about the square.
_STEP = 1e-3
#: λ in units of the largest damping asked for at which scores count as inner products.
_FAR = 1e6


def score_vector_xi(scores: Scores, grid) -> Callable:
    """ξ from score vectors alone, for any attributor with a damping.

    With ``K = C + λI``: ``A_1 = Jᵀ K⁻¹ g`` are the scores, ``A_2 = Jᵀ K⁻² g = -∂A_1/∂λ`` and
    ``A_0 = Jᵀ g = lim λ A_1``, all seen from outside; then
    ``ξ = (A_1·A_1) / √((A_0·A_1)(A_1·A_2))``.

    Parameters
    ----------
    scores : callable
        From a damping to scores; called once here and twice for each damping.
    grid : ndarray of shape (n_dampings,)
        Candidates, which say what counts as infinite, and as a small step from 0.

    Returns
    -------
    callable
        From an array of dampings to ξ, (n_dampings, n_queries); NaN where ``A_0·A_1`` or
        ``A_1·A_2`` is not positive: the curvature is then not that of the scored gradients,
        and the indicator is not defined.
    """
    far, least = _FAR * float(np.max(grid)), float(np.min(grid, where=grid > 0, initial=np.inf))
    a0 = far * scores(far)

    def one(damping: float) -> np.ndarray:
        step = _STEP * (damping or least)
        low, high = max(0.0, damping - step), damping + step
        below, above = scores(low), scores(high)
        return _xi(a0, (above + below) / 2, (below - above) / (high - low))

    return lambda dampings: np.stack([one(float(damping)) for damping in dampings])


def score_vector_cosine(scores: Scores, grid) -> Callable:
    """Cosine with Grad-Dot for any attributor with a damping.

    Parameters
    ----------
    scores : callable
        From a damping to scores; called once here and once for each damping.
    grid : ndarray of shape (n_dampings,)
        Candidates, which say what counts as infinite.

    Returns
    -------
    callable
        From an array of dampings to cosines, (n_dampings, n_queries); NaN for queries whose
        scores are all zero.
    """
    reference = scores(_FAR * float(np.max(grid)))
    return lambda dampings: np.stack([row_cosines(scores(float(d)), reference) for d in dampings])


def _xi(a0: np.ndarray, a1: np.ndarray, a2: np.ndarray) -> np.ndarray:
    first, second = (a0 * a1).sum(1), (a1 * a2).sum(1)
    defined = (first > 0) & (second > 0)
    root = np.sqrt(np.where(defined, first, 1.0)) * np.sqrt(np.where(defined, second, 1.0))
    return np.where(defined, (a1 * a1).sum(1) / root, np.nan)
