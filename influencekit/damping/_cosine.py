"""How far scores have turned towards inner products of gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from influencekit.curvature import DampingPath, Spectrum
from influencekit.curvature._spectrum import sample_rows
from influencekit.damping._grid import DAMPING_RANGE, damping_range
from influencekit.exceptions import LambdaPathWarning, warn_user

__all__ = ["gram_damping", "grad_dot_cosine", "grad_dot_cosines", "row_cosines", "spectrum_damping"]

#: Mean cosine of scores with Grad-Dot at which the linear datamodeling score was measured to peak.
COSINE_OF_BEST_DAMPING = 0.57
#: Mean ξ below which rounding and noise of small eigenvalues were measured to rule the scores.
LEAST_XI = 0.3
#: Training examples that are scored to choose a damping.
_N_QUERIES = 100
#: Width, in log λ, to which the damping is found.
_ROOT_WIDTH = 1e-3

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


def spectrum_damping(spectrum: Spectrum) -> float:
    """Damping at which scores have a cosine of 0.57 with Grad-Dot, and ξ is at least 0.3.

    Both are means over up to 100 training examples as queries, the cosine over the scores of up
    to 2,000 others, taken evenly among those sorted by the size of their gradients; see
    :func:`grad_dot_cosine`.  They compare the damping with the eigenvalues that gradients see, so
    the result scales with the spectrum.  Where the model's own penalty already lifts both nothing
    is added, unless the curvature is singular.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    float
    """
    low, high = damping_range(spectrum.eigenvalues)
    sizes = spectrum.row_sizes()
    columns = sample_rows(sizes)
    path = spectrum.narrowed(columns).train_path(sample_rows(sizes[columns], _N_QUERIES))
    cosines = grad_dot_cosines(path)

    @cache  # the ends are asked for several times, and each is a pass over the training examples
    def cosine(log_damping: float) -> float:
        return _mean(cosines(np.exp(log_damping))) - COSINE_OF_BEST_DAMPING

    @cache
    def xi(log_damping: float) -> float:
        return _mean(path.xi(np.exp(log_damping))) - LEAST_XI

    if np.isnan(cosine(float(np.log(high)))):
        return float(spectrum.data_eigenvalues.mean())
    crossings = [_crossing(rising, np.log(low), np.log(high)) for rising in (cosine, xi)]
    found = [np.exp(at) for at in crossings if at is not None]
    return float(max(found)) if found else _below_the_path(spectrum, low)


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else np.nan


def _crossing(rising: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a rising function is zero; None if it is not below zero at ``low``."""
    if rising(low) >= 0:
        return None
    if rising(high) <= 0:
        return high
    return float(brentq(rising, low, high, xtol=_ROOT_WIDTH))


def _below_the_path(spectrum: Spectrum, low: float) -> float:
    """Damping where the indicators are above their levels from the smallest damping on."""
    data, largest = spectrum.data_eigenvalues, float(spectrum.eigenvalues.max())
    seen = data > spectrum.tolerance * data.max()  # directions that some gradient has
    smallest = float(spectrum.eigenvalues[seen].min())
    if smallest > max(low, spectrum.tolerance * largest):
        return 0.0
    warn_user(
        f"damping='auto': the mean cosine of scores with Grad-Dot is above "
        f"{COSINE_OF_BEST_DAMPING} already at the smallest damping tried, {low:.2g}, which was "
        f"taken. Eigenvalues of the curvature run from {smallest:.2g} to {largest:.2g}: scale "
        "the features (StandardScaler), or give a damping.",
        LambdaPathWarning,
    )
    return low


def gram_damping(gram: torch.Tensor) -> float:
    """Damping of ``BᵀB`` at which the rows of B have a cosine of 0.57 with Grad-Dot.

    Parameters
    ----------
    gram : Tensor of shape (n_rows, n_rows)
        ``BBᵀ``.

    Returns
    -------
    float
    """
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_min(0)
    reference = gram / gram.norm(dim=1, keepdim=True).clamp_min(1e-300)

    def gap(log_damping: float) -> float:
        shrunk = (vectors * (values / (values + np.exp(log_damping)))) @ vectors.T
        cosine = (shrunk * reference).sum(1) / shrunk.norm(dim=1).clamp_min(1e-300)
        return float(cosine.mean()) - COSINE_OF_BEST_DAMPING

    low, high = (np.log(end * float(values.max())) for end in DAMPING_RANGE)
    crossing = _crossing(gap, low, high)
    return float(np.exp(low if crossing is None else crossing))
