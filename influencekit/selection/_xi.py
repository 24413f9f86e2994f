"""Indicators of queries at many dampings: ξ and the cosine, each in either of two forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influencekit.curvature import grad_dot_cosines, row_cosines
from influencekit.selection._damping import at_damping

__all__ = ["path_cosine", "score_vector_cosine", "score_vector_xi", "spectral_xi"]

#: Relative step of the derivative with respect to λ: its error is about the square.
_STEP = 1e-3
#: λ in units of the largest damping asked for at which scores count as inner products.
_FAR = 1e6


def spectral_xi(attributor, queries) -> Callable:
    """ξ from the curvature's eigenvalues, with the queries' gradients taken once.

    Parameters
    ----------
    attributor : fitted attributor with a ``damping_path`` method
    queries : Examples

    Returns
    -------
    callable
        From an array of dampings to ξ, (n_dampings, n_queries).
    """
    return attributor.damping_path(queries).xi


def score_vector_xi(attributor, task, train, queries, grid) -> Callable:
    """ξ from score vectors alone, for any attributor with a damping.

    With ``K = C + λI``: ``A_1 = Jᵀ K⁻¹ g`` are the scores, ``A_2 = Jᵀ K⁻² g = -∂A_1/∂λ`` and
    ``A_0 = Jᵀ g = lim λ A_1``, all seen from outside; then
    ``ξ = (A_1·A_1) / √((A_0·A_1)(A_1·A_2))``.

    Parameters
    ----------
    attributor : fitted attributor with a ``damping`` parameter
        Scored once here and twice for each damping; fitted again each time, unless it can
        change its damping.
    task : Task or TaskList
    train, queries : Examples or ExamplesList
    grid : ndarray of shape (n_dampings,)
        Candidates, which say what counts as infinite, and as a small step from 0.

    Returns
    -------
    callable
        From an array of dampings to ξ, (n_dampings, n_queries); NaN where ``A_0·A_1`` or
        ``A_1·A_2`` is not positive: the curvature is then not that of the scored gradients,
        and the indicator is not defined.
    """

    def scores(damping: float) -> np.ndarray:
        return at_damping(attributor, damping, task, train).score(queries)

    far, least = _FAR * float(np.max(grid)), float(np.min(grid))
    a0 = far * scores(far)

    def one(damping: float) -> np.ndarray:
        step = _STEP * (damping or least)
        low, high = max(0.0, damping - step), damping + step
        below, above = scores(low), scores(high)
        return _xi(a0, (above + below) / 2, (below - above) / (high - low))

    return lambda dampings: np.stack([one(float(damping)) for damping in dampings])


def path_cosine(attributor, queries) -> Callable:
    """Cosine with Grad-Dot from an attributor's path, its gradients taken once.

    Parameters
    ----------
    attributor : fitted attributor with a ``damping_path`` method
    queries : Examples

    Returns
    -------
    callable
        From an array of dampings to cosines, (n_dampings, n_queries).
    """
    return grad_dot_cosines(attributor.damping_path(queries))


def score_vector_cosine(attributor, task, train, queries, grid) -> Callable:
    """Cosine with Grad-Dot for any attributor with a damping.

    Parameters
    ----------
    attributor : fitted attributor with a ``damping`` parameter
        Scored once here and once for each damping.
    task : Task or TaskList
    train, queries : Examples or ExamplesList
    grid : ndarray of shape (n_dampings,)
        Candidates, which say what counts as infinite.

    Returns
    -------
    callable
        From an array of dampings to cosines, (n_dampings, n_queries); NaN for queries whose
        scores are all zero.
    """

    def scores(damping: float) -> np.ndarray:
        return at_damping(attributor, damping, task, train).score(queries)

    reference = scores(_FAR * float(np.max(grid)))
    return lambda dampings: np.stack([row_cosines(scores(float(d)), reference) for d in dampings])


def _xi(a0: np.ndarray, a1: np.ndarray, a2: np.ndarray) -> np.ndarray:
    first, second = (a0 * a1).sum(1), (a1 * a2).sum(1)
    defined = (first > 0) & (second > 0)
    root = np.sqrt(np.where(defined, first, 1.0)) * np.sqrt(np.where(defined, second, 1.0))
    return np.where(defined, (a1 * a1).sum(1) / root, np.nan)
