"""How sure scores are: their spread over models, intervals, and which of many are not chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from influencekit.data._examples import each
from influencekit.utils._long_work import chunks

__all__ = ["Interval", "benjamini_hochberg", "check_level", "sign_flips", "spread_of_models"]

#: Number of models up to which all flips of their signs are tried.
MOST_FLIPPED = 12
#: Sums that are held at once.
_BLOCK = 2**23


class Interval:
    """Where scores of another draw are, with a probability.

    A draw is a sample of as many training rows for a linear model, and as many models for an
    ensemble.  Both the score at hand and the other one vary, so the difference of the two has
    ``√2`` times the standard deviation of one.

    Parameters
    ----------
    level : float
    n_models : int
        1 for standard deviations over training rows.
    """

    def __init__(self, level: float, n_models: int):
        self.level, self.n_models = level, n_models
        several = n_models > 1
        self.law = stats.t(n_models - 1) if several else stats.norm

    def columns(
        self, attributor: Any, queries: Any, scores: np.ndarray, picked: np.ndarray
    ) -> dict:
        """Columns of a table of picked scores, each (n_queries, k).

        Parameters
        ----------
        attributor : attributor
        queries : Examples or ExamplesList
        scores : ndarray of shape (n_queries, n_train)
        picked : ndarray of int of shape (n_queries, k)

        Returns
        -------
        dict of str to ndarray
        """
        parts = scores_by_model(attributor, queries) if self.n_models > 1 else None
        stds = attributor._all_stds(queries) if parts is None else standard_error(parts)
        # s ± q √2 σ
        reach = (
            self.law.ppf((1 + self.level) / 2) * np.sqrt(2) * np.take_along_axis(stds, picked, 1)
        )
        center = np.take_along_axis(scores, picked, 1)
        found = {"low": center - reach, "high": center + reach}
        found["holds_zero"] = (found["low"] <= 0) & (found["high"] >= 0)
        if parts is not None:
            chosen = benjamini_hochberg(sign_flips(parts), 1 - self.level)
            found["significant"] = np.take_along_axis(chosen, picked, 1)
        return found


def sign_flips(parts: np.ndarray) -> np.ndarray:
    """p-values of means, by all flips of the signs: exact where the law is symmetric about 0.

    A t-test is not: on labels of pure noise a row's scores are of two values, one for each label.

    Parameters
    ----------
    parts : ndarray of shape (n_models, n_queries, n_train)

    Returns
    -------
    ndarray of shape (n_queries, n_train)
        At least ``2 / 2^n_models``.

    Examples
    --------
    >>> sign_flips(np.array([[[1.0, 1.0]], [[2.0, -2.0]], [[3.0, 3.0]]]))
    array([[0.25, 0.75]])
    """
    n_models, values = len(parts), parts.reshape(len(parts), -1)
    if n_models <= MOST_FLIPPED:
        signs = 1.0 - 2.0 * (np.arange(2 ** (n_models - 1))[:, None] >> np.arange(n_models) & 1)
        counted = 0
    else:  # some of them; the one that is there is counted as well
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2 ** (MOST_FLIPPED - 1), n_models))
        counted = 1
    found = np.empty(values.shape[1])
    for some in chunks(len(found), len(signs), _BLOCK):
        totals = np.abs(values[:, some].sum(0))
        flipped = np.abs(signs @ values[:, some]) >= totals * (1 - 1e-12)
        found[some] = (flipped.sum(0) + counted) / (len(signs) + counted)
    return found.reshape(parts.shape[1:])


def benjamini_hochberg(p_values: np.ndarray, level: float) -> np.ndarray:
    """Which hypotheses of each row are rejected, at a false discovery rate.

    Parameters
    ----------
    p_values : ndarray of shape (n_rows, n)
    level : float

    Returns
    -------
    ndarray of bool of shape (n_rows, n)

    Examples
    --------
    >>> benjamini_hochberg(np.array([[0.01, 0.04, 0.03, 0.9]]), 0.1)
    array([[ True,  True,  True, False]])
    """
    n = p_values.shape[1]
    ordered = np.sort(p_values, axis=1)
    # the largest i with p_(i) ≤ i q / n
    below = ordered <= level * np.arange(1, n + 1) / n
    last = n - 1 - below[:, ::-1].argmax(1)
    limits = np.where(below.any(1), ordered[np.arange(len(ordered)), last], -1.0)
    return p_values <= limits[:, None]


def check_level(interval: Any, as_frame: bool) -> None:
    """Refuse a number that is not a probability, and intervals without a table."""
    if interval is None:
        return
    number = isinstance(interval, (int, float, np.number)) and not isinstance(interval, bool)
    if not number or not 0 < interval < 1:
        raise ValueError(f"interval: got {interval!r}; accepted are numbers between 0 and 1.")
    if not as_frame:
        raise ValueError(
            f"interval: got {interval} with as_frame=False; intervals are columns of the table. "
            f"Give as_frame=True."
        )


def spread_of_models(attributor: Any, queries: Any) -> np.ndarray:
    """Standard error (n_queries, n_train) of mean scores, from their spread over several models."""
    return standard_error(scores_by_model(attributor, queries))


def standard_error(parts: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the first axis."""
    return parts.std(0, ddof=1) / np.sqrt(len(parts))


def scores_by_model(attributor: Any, queries: Any) -> np.ndarray:
    """Scores of each model by itself, (n_models, n_queries, n_train).

    Parameters
    ----------
    attributor : attributor
    queries : Examples or ExamplesList

    Returns
    -------
    ndarray of shape (n_models, n_queries, n_train)

    Raises
    ------
    ValueError
        If there is one model, or scores are not a mean over models.
    """
    name, fitted = type(attributor).__name__, attributor.fitted_
    if len(fitted) < 2 or not attributor._averages:
        raise ValueError(
            f"return_std, interval: the spread of scores by {name}, fitted to {len(fitted)} "
            f"model(s), is not known. Accepted are several nets trained from other seeds, "
            f"fit([net, net_2, net_3], X, y), and one linear model with InfluenceFunction()."
        )
    triples = zip(fitted, attributor._rows, each(queries), strict=True)
    return np.stack([attributor._scores_of(*triple) for triple in triples])
