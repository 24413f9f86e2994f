"""An estimate of the linear datamodeling score from the trainings that the scores learned from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import KFold

__all__ = ["cross_validated_predictions", "lds_difference", "lds_with_error"]

N_BOOTSTRAP = 100


def cross_validated_predictions(
    masks: NDArray,
    fit: Callable[[NDArray], NDArray],
    n_folds: int,
    rng: np.random.RandomState,
) -> NDArray:
    """Sums of scores over each training's rows, by scores that did not learn from that training.

    Parameters
    ----------
    masks : ndarray of shape (n_trainings, n_train)
    fit : callable
        ``fit(trainings) -> scores``, called with the positions of those that are not left out.
    n_folds : int
    rng : RandomState
        Random numbers for the folds.

    Returns
    -------
    ndarray of shape (n_trainings, n_query)
    """
    found: list[tuple[NDArray, NDArray]] = []
    for kept, held in KFold(n_folds, shuffle=True, random_state=rng).split(masks):
        # sums only: an intercept fitted to the other trainings is negatively related to those left
        # out
        found.append((held, (masks[held] - masks.mean(0)) @ fit(kept).T))
    order = np.argsort(np.concatenate([held for held, _ in found]))
    return np.concatenate([values for _, values in found])[order]


def lds_with_error(
    predictions: NDArray, outputs: NDArray, rng: np.random.RandomState
) -> tuple[float, float]:
    """Mean rank correlation of predictions with outputs, and its standard error.

    Parameters
    ----------
    predictions, outputs : ndarray of shape (n_trainings, n_query)
    rng : RandomState
        Random numbers for the bootstrap.

    Returns
    -------
    lds : float
        Mean over queries; NaN if the outputs do not vary for any query.
    standard_error : float
        Standard error by a bootstrap over trainings and queries. All queries share the trainings,
        so a bootstrap over queries alone would be several times too small.
    """
    lds = _mean_correlation(predictions, outputs)
    return lds, _error(_mean_correlation, (predictions, outputs), rng)


def lds_difference(
    first: NDArray, second: NDArray, outputs: NDArray, rng: np.random.RandomState
) -> tuple[float, float]:
    """LDS of the first predictions minus that of the second ones, and its standard error.

    The bootstrap draws the same trainings and queries for both, so that what is hard for both
    cancels. Parameters as for :func:`lds_with_error`.
    """

    def difference(a: NDArray, b: NDArray, values: NDArray) -> float:
        return _mean_correlation(a, values) - _mean_correlation(b, values)

    found = difference(first, second, outputs)
    return found, _error(difference, (first, second, outputs), rng)


def _error(
    statistic: Callable[..., float], tables: tuple[NDArray, ...], rng: np.random.RandomState
) -> float:
    """Standard error of a statistic of tables, by a bootstrap over their rows and columns."""
    n_rows, n_columns = tables[0].shape
    draws = []
    for _ in range(N_BOOTSTRAP):
        rows = rng.randint(n_rows, size=n_rows)
        columns = rng.randint(n_columns, size=n_columns)
        draws.append(statistic(*(table[rows][:, columns] for table in tables)))
    draws = [draw for draw in draws if np.isfinite(draw)]
    return float(np.std(draws, ddof=1)) if len(draws) > 1 else float("nan")


def _mean_correlation(a: NDArray, b: NDArray) -> float:
    """Mean rank correlation over the columns where b varies; 0 in columns where a does not."""
    a, b = (rankdata(part, axis=0) for part in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    lengths = np.sqrt(np.square(a).sum(0) * np.square(b).sum(0))
    found = (a * b).sum(0) / np.where(lengths > 0, lengths, 1.0)
    varies = np.square(b).sum(0) > 0
    return float(found[varies].mean()) if varies.any() else float("nan")
