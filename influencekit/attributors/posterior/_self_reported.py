"""An estimate of the linear datamodeling score from the trainings that scores were made of."""

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
        ``fit(masks, outputs) -> scores`` of the trainings that are not left out.
    n_folds : int
    rng : RandomState
        Of the folds and of the bootstrap.

    Returns
    -------
    lds : float
        Mean over queries; NaN where no query varies.
    standard_error : float
        By a bootstrap over trainings and queries: all queries share the trainings, so that queries
        alone would make it several times too small.
    """
    predictions = np.empty_like(outputs)
    for kept, held in KFold(n_folds, shuffle=True, random_state=rng).split(masks):
        found = masks[held] @ fit(masks[kept], outputs[kept]).T
        spread = found.std(0)
        predictions[held] = (found - found.mean(0)) / np.where(spread > 0, spread, 1.0)
    draws = []
    for _ in range(N_BOOTSTRAP):
        rows = rng.randint(len(outputs), size=len(outputs))
        queries = rng.randint(outputs.shape[1], size=outputs.shape[1])
        draws.append(_mean_correlation(predictions[rows][:, queries], outputs[rows][:, queries]))
    draws = [draw for draw in draws if np.isfinite(draw)]
    error = float(np.std(draws, ddof=1)) if len(draws) > 1 else float("nan")
    return _mean_correlation(predictions, outputs), error


def _mean_correlation(a: NDArray, b: NDArray) -> float:
    """Mean over columns of b that vary of the rank correlation; 0 where a does not."""
    a, b = (rankdata(part, axis=0) for part in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    lengths = np.sqrt(np.square(a).sum(0) * np.square(b).sum(0))
    found = (a * b).sum(0) / np.where(lengths > 0, lengths, 1.0)
    varies = np.square(b).sum(0) > 0
    return float(found[varies].mean()) if varies.any() else float("nan")
