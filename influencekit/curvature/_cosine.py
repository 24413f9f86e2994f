"""How far scores have turned towards inner products of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from influencekit.curvature._path import DampingPath

__all__ = ["grad_dot_cosine", "grad_dot_cosines", "row_cosines"]

#: λ in units of the largest eigenvalue at which scores count as inner products.
_FAR = 1e6


def grad_dot_cosine(path: DampingPath, dampings) -> np.ndarray:
    """Cosine of every query's scores with its scores at infinite damping.

    Parameters
    ----------
    path : DampingPath
    dampings : float or array-like of shape (n_dampings,)

    Returns
    -------
    ndarray of shape (n_dampings, n_query)
        NaN where the scores of a query are all zero.

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


def grad_dot_cosines(path: DampingPath) -> Callable[..., np.ndarray]:
    """:func:`grad_dot_cosine` as a function of the dampings, for searches that call it often.

    The scores at infinite damping are computed here, once.

    Parameters
    ----------
    path : DampingPath

    Returns
    -------
    callable
        From dampings to cosines, (n_dampings, n_query).
    """
    reference = path.scores(_FAR * _largest(path))

    def cosines(dampings) -> np.ndarray:
        found = [row_cosines(path.scores(float(d)), reference) for d in np.atleast_1d(dampings)]
        return np.stack(found)

    return cosines


def row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of a with the same row of b.

    Parameters
    ----------
    a : ndarray of shape (n_rows, n_columns)
    b : ndarray of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows,)
        NaN where one of the rows is zero.
    """
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = np.einsum("ij,ij->i", a, b)
    return np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), np.nan)


def _largest(path: Any) -> float:
    """Largest eigenvalue of a path's curvature, or of those of several models."""
    if hasattr(path, "paths"):
        return max(_largest(one) for one in path.paths)
    return float(path.spectrum.eigenvalues.max())
