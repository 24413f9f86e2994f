"""An estimate of the linear datamodeling score from the trainings that the scores learned from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import KFold

__all__ = ["cross_validated_lds"]

N_BOOTSTRAP = 100


def cross_validated_lds(
    masks: NDArray,
    outputs: NDArray,
    fit: Callable[[NDArray, NDArray], NDArray],
    n_folds: int,
    rng: np.random.RandomState,
) -> tuple[float, float]:
    """Rank correlation of left-out trainings with their predictions, and its standard error.

    Parameters
    ----------
    masks : ndarray of shape (n_trainings, n_train)
    outputs : ndarray of shape (n_trainings, n_query)
    fit : callable
        ``fit(masks, outputs) -> scores``, called with the trainings that are not left out.
    n_folds : int
    rng : RandomState
        Random numbers for the folds and the bootstrap.

    Returns
    -------
    lds : float
        Mean over queries; NaN if the outputs do not vary for any query.
    standard_error : float
        Standard error by a bootstrap over trainings and queries. All queries share the trainings,
        so a bootstrap over queries alone would be several times too small.
    """
    predictions = np.empty_like(outputs)
    for kept, held in KFold(n_folds, shuffle=True, random_state=rng).split(masks):
        # sums only: an intercept fitted to the other trainings is negatively related to those left
        # out
        predictions[held] = (masks[held] - masks.mean(0)) @ fit(masks[kept], outputs[kept]).T
    draws = []
    for _ in range(N_BOOTSTRAP):
        rows = rng.randint(len(outputs), size=len(outputs))
        queries = rng.randint(outputs.shape[1], size=outputs.shape[1])
        draws.append(_mean_correlation(predictions[rows][:, queries], outputs[rows][:, queries]))
    draws = [draw for draw in draws if np.isfinite(draw)]
    error = float(np.std(draws, ddof=1)) if len(draws) > 1 else float("nan")
    return _mean_correlation(predictions, outputs), error


def _mean_correlation(a: NDArray, b: NDArray) -> float:
    """Mean rank correlation over the columns where b varies; 0 in columns where a does not."""
    a, b = (rankdata(part, axis=0) for part in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    lengths = np.sqrt(np.square(a).sum(0) * np.square(b).sum(0))
    found = (a * b).sum(0) / np.where(lengths > 0, lengths, 1.0)
    varies = np.square(b).sum(0) > 0
    return float(found[varies].mean()) if varies.any() else float("nan")
